"""`kinkopt check`: is the gradient of the user's function right?"""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from kinkopt.cli._check_arguments import FORMATS, CheckOptions
from kinkopt.cli._console import Console
from kinkopt.cli._errors import FOUND_WRONG, INTERRUPTED, OK, UNDECIDED
from kinkopt.cli._formats import choose_form, deliver, write_document
from kinkopt.cli._interrupt import Pause, held_back
from kinkopt.cli._machines import to_github, to_junit
from kinkopt.cli._point import At, find_point, in_the_check, only, settings
from kinkopt.cli._target import load
from kinkopt.gradcheck import GradientReport, StopCheck, Verdict, check_gradient
from kinkopt.render import Document


def run(options: CheckOptions) -> int:
  """Checks, tells, and gives the exit code.

  Raises:
    UsageError: if the function, its arguments or the output cannot be used.
  """
  form = choose_form(options.format, options.output, FORMATS)
  with settings(options):
    at = find_point(options, "check")
    gradient = load(options.gradient, at.target).value if options.gradient else None
    part = only(at, options.leaves, gradient, options.has_aux)
    report, is_interrupted = _check(options, *part)
  name = f"{at.target.module}:{at.target.name}"
  document = Document(f"Gradient check of {name}", report.to_document().blocks)
  machines: dict[str, Callable[[], str]] = {
    "json": report.to_json,
    "junit": lambda: to_junit(report, name),
    "github": lambda: to_github(report, name, *_place(at)),
  }

  def write(form: str) -> str:
    return machines[form]() if form in machines else write_document(document, form)

  deliver(document, write, form, options.output)
  if is_interrupted:
    return INTERRUPTED
  return OK if report.ok else UNDECIDED if report.verdict is Verdict.UNDECIDED else FOUND_WRONG


def _check(options: CheckOptions, at: At, gradient: Any) -> tuple[GradientReport, bool]:
  """Gives the report, and whether Ctrl-C ended it."""
  is_machine = options.output is None and options.format not in (None, "rich", "plain")
  console = Console("", quiet=is_machine)
  with console.progress("checking", total=None) as advance, held_back() as pause:

    def progress(done: int, planned: int) -> None:
      advance(done, "evaluations", total=planned)
      if _was_pressed(pause):
        raise StopCheck

    report = in_the_check(
      at,
      lambda: check_gradient(
        at.fun,
        *at.args,
        argnums=at.argnums,
        gradient=gradient,
        has_aux=options.has_aux,
        mode=options.mode,
        order=options.order,
        probes=options.probes,
        sweep=options.sweep,
        key=jax.random.key(options.seed),
        intended=options.intended,
        through_stop_gradient=options.through_stop_gradient,
        locate=options.locate,
        batch_size=options.batch_size,
        progress=progress,
      ),
    )
    return report, _was_pressed(pause) or not report.is_complete


def _was_pressed(pause: Pause) -> bool:
  try:
    pause()
  except KeyboardInterrupt:
    return True
  return False


def _place(at: At) -> tuple[str, int]:
  try:
    function = inspect.unwrap(at.target.value)
    return inspect.getsourcefile(function) or "", inspect.getsourcelines(function)[1]
  except (TypeError, OSError):
    return "", 0
