"""`kinkopt demo`: the three questions, asked of a real network on real data.

This file is the order of events: data, gradient check, training by each rule, Newton, table. What
an event does is in the file of its name; what is known is written down as it comes, so that a job
that is interrupted still ends in a table.
"""

import dataclasses
import tempfile
from pathlib import Path

from kinkopt.cli._arguments import DemoOptions
from kinkopt.cli._console import Console
from kinkopt.cli._data import Data, load
from kinkopt.cli._errors import FOUND_WRONG, INTERRUPTED, OK, UsageError
from kinkopt.cli._gradient import check_network
from kinkopt.cli._interrupt import Pause, held_back
from kinkopt.cli._network import init_network
from kinkopt.cli._rates import LEARNING_RATES, NEWTON
from kinkopt.cli._regression import solve
from kinkopt.cli._results import charts, closing, table
from kinkopt.cli._training import BATCH, DECAY, Run, train
from kinkopt.render import Heading, MissingExtraError, Text, Tone, save_chart, to_json


class _Job:
  """What the demo knows so far."""

  def __init__(self, options: DemoOptions, data: Data) -> None:
    self.options = options
    self.data = data
    self.console = Console("kinkopt demo", options.quiet)
    self.runs: list[Run] = []
    self.gradient_ok: bool | None = None
    self.newton_norms: list[float] = []

  def run(self, pause: Pause) -> None:
    """Does everything, in order.

    Args:
      pause: called where the job can stop; raises KeyboardInterrupt if it shall.
    """
    self.console.pause = pause
    self._introduce()
    self.gradient_ok = check_network(self.data, self.options.seed, self.console)
    rules = [rule for rule in self.options.rules if rule != NEWTON]
    if rules:
      self._train(rules)
    if NEWTON in self.options.rules:
      self.runs.append(Run(NEWTON))
      self.newton_norms = solve(self.runs[-1], self.data, self.console)

  def _introduce(self) -> None:
    data = self.data
    self.console.show(
      Heading("kinkopt demo"),
      Text(
        f"Data: {data.source}. {len(data.split.train_images):,} images to train on and "
        f"{len(data.split.test_images):,} to test on, of {data.num_features} pixels in "
        f"{data.num_classes} classes, split by seed {self.options.seed}."
      ),
    )

  def _train(self, rules: list[str]) -> None:
    split, steps, seed = self.data.split, self.options.steps, self.options.seed
    self.console.show(
      Heading("How do I step, and is the step the right size?"),
      Text(
        f"Each rule trains the network from the same start on the same {steps:,} minibatches of "
        f"{min(BATCH, len(split.train_images))}, at a rate a0 exp(-kt) with kt = {DECAY:g} at the "
        "end; `update_ratio` watches each step from inside the chain."
      ),
    )
    start = init_network(self.data.num_features, self.data.num_classes, seed)
    for rule in rules:
      run = Run(rule)
      self.runs.append(run)
      train(run, start, split, steps, seed, self.console)
      self.console.note(
        f"{rule:<18}  a0 = {LEARNING_RATES[rule]:<5g}  loss {run.losses[0]:.2f} -> "
        f"{run.losses[-1]:.4f}  {run.accuracy:.1%} right",
        Tone.BAD if run.diverged else Tone.PLAIN,
      )


def run(options: DemoOptions) -> int:
  """Runs the demo.

  Args:
    options: what was asked for.

  Returns:
    The exit code.

  Raises:
    UsageError: if the data or the folder to save in cannot be used.
  """
  if options.save is not None:
    _check_folder(options.save)
  job = _Job(options, load(options.data, options.seed))
  interrupted = False
  try:
    with held_back() as pause:
      job.run(pause)
  except KeyboardInterrupt:
    interrupted = True
  end = closing(job.runs, job.gradient_ok, interrupted)
  job.console.show(Heading("Results"))
  if job.runs:
    job.console.show(table(job.runs), always=True)
  job.console.show(end, always=True)
  if options.save is not None:
    _save(job, options.save)
  if interrupted:
    return INTERRUPTED
  return OK if job.gradient_ok and not any(run.diverged for run in job.runs) else FOUND_WRONG


def _unwritable(folder: Path, error: OSError) -> UsageError:
  return UsageError(
    f"cannot write into the folder `{folder}` ({error.strerror or error}). Give `--save` a folder "
    "that can be made or written to."
  )


def _check_folder(folder: Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
    # The permission bits do not tell all (a read-only file system), so it is tried.
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise _unwritable(folder, error) from None


def _save(job: _Job, folder: Path) -> None:
  drawn = charts(job.runs, job.newton_norms)
  document = job.console.document
  document = dataclasses.replace(document, blocks=(*document.blocks, *drawn.values()))
  try:
    (folder / "report.json").write_text(to_json(document) + "\n", encoding="utf-8")
    for name, chart in drawn.items():
      save_chart(chart, folder / f"{name}.png")
    names = ", ".join(["report.json", *(f"{name}.png" for name in drawn)])
    written = Text(f"Written to {folder}: {names}.", Tone.FAINT)
  except MissingExtraError as error:
    written = Text(f"Written to {folder}: report.json, but no pictures. {error}", Tone.WARN)
  except OSError as error:  # such as a disk that is full by now
    raise _unwritable(folder, error) from None
  job.console.show(written)
