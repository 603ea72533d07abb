"""What the demo found, as blocks: the final table, the curves, and the closing sentence."""

import itertools
import math

import numpy as np

from kinkopt.cli._rates import NEWTON
from kinkopt.cli._training import Run
from kinkopt.monitor import band
from kinkopt.render import Band, Chart, Column, Series, Table, Text, Tone

_COLUMNS = (
  Column("rule"),
  Column("loss", ".4f"),
  Column("accuracy", ".1%"),
  Column("steps"),
  Column("ratio", ".1e"),
  Column("step size"),
  Column("time", ".2f"),
  Column("status"),
)
HEALTHY = (1e-4, 1e-2)  # where `kinkopt.monitor.band` says so
_CAPTION = (
  "Loss: mean cross-entropy over all training images. Accuracy: share of the test images that are "
  "right. Ratio: |update| / |parameters|, the median over all steps; from 1e-4 to 1e-2 the step "
  "size is called healthy. The rates are first choices, not tuned. "
)
_NEWTON_CAPTION = (
  "Newton's row is the softmax regression; its step is the way to the minimum, which no band can "
  "judge. "
)


def table(runs: list[Run]) -> Table:
  """Tells how each rule ended, one row each, well or badly."""
  compiling = sum(run.compile_seconds for run in runs)
  return Table(
    columns=_COLUMNS,
    rows=tuple(_row(run) for run in runs),
    caption=_CAPTION
    + _NEWTON_CAPTION * any(run.rule == NEWTON for run in runs)
    + f"Time: seconds for the steps alone; compiling took another {compiling:.1f} s in all.",
    tones=tuple(_tone(run) for run in runs),
  )


def _row(run: Run) -> tuple:
  if not run.steps:
    return (run.rule, *(None,) * (len(_COLUMNS) - 2), run.status)
  ratio = run.median_ratio
  return (
    run.rule,
    run.losses[-1],
    run.accuracy,
    run.steps[-1],
    None if math.isnan(ratio) else ratio,
    band(ratio).words if run.ratios and run.rule != NEWTON else None,
    run.seconds,
    run.status,
  )


def _tone(run: Run) -> Tone:
  if run.diverged:
    return Tone.BAD
  return Tone.PLAIN if run.status == "done" else Tone.WARN


def closing(runs: list[Run], gradient_ok: bool | None, interrupted: bool) -> Text:
  """Says in a sentence how the whole went.

  Args:
    runs: every rule that was asked for and begun.
    gradient_ok: whether the gradient check passed; None if it was not finished.
    interrupted: whether the user stopped the job.
  """
  news = [f"{run.rule} diverged at step {run.steps[-1]}" for run in runs if run.diverged]
  if gradient_ok is False:
    news.insert(0, "the gradient check failed")
  if interrupted:
    done = sum(run.status == "done" for run in runs)
    news.append(f"interrupted, with {done} rule{'s' * (done != 1)} done")
  if not news:
    return Text("The gradient was right, and every rule stayed finite.", Tone.GOOD)
  text = "; ".join(news)
  return Text(f"{text[0].upper()}{text[1:]}.", Tone.WARN if interrupted else Tone.BAD)


def charts(runs: list[Run], newton_norms: list[float]) -> dict[str, Chart]:
  """Draws what was watched, by the name of the picture; no curve, no picture."""
  trained = [run for run in runs if run.rule != NEWTON and run.ratios]
  drawn = {}
  if trained:
    drawn["learning-curves"] = Chart(
      title="Training loss of the ReLU network, by rule",
      x_label="step (minibatch)",
      y_label="mean cross-entropy over all training images [nats]",
      series=tuple(Series(run.rule, tuple(run.steps), tuple(run.losses)) for run in trained),
      log_y=True,
    )
    drawn["update-ratios"] = Chart(
      title="Size of the steps, by rule",
      x_label="step (minibatch)",
      y_label="|update| / |parameters|, median of a window of steps",
      series=tuple(_ratio_curve(run) for run in trained),
      log_y=True,
      bands=(Band(*HEALTHY, "healthy: 1e-4 to 1e-2"),),
    )
  if newton_norms:
    drawn["newton"] = Chart(
      title="Newton's method on the softmax regression",
      x_label="step",
      y_label="norm of the gradient",
      series=(Series(NEWTON, tuple(range(len(newton_norms))), tuple(newton_norms)),),
      log_y=True,
    )
  return drawn


def _ratio_curve(run: Run) -> Series:
  windows = list(itertools.pairwise(run.steps))
  return Series(
    label=run.rule,
    x=tuple((start + stop + 1) / 2 for start, stop in windows),
    y=tuple(float(np.median(run.ratios[start:stop])) for start, stop in windows),
  )
