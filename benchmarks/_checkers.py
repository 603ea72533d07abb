"""Checkers by one interface: a case, a side of it and a point in; what was said out.

What is no verdict is no detection: a checker that cannot be asked, or that fails for another reason
than that it found an error, is recorded as n/a, with the reason.
"""

import dataclasses
import re
import time
from collections.abc import Callable
from typing import Any

import jax
from _cases import Case

import kinkopt

PASSED, REJECTED, UNDECIDED, NOT_RUN = "passed", "rejected", "undecided", "n/a"


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a checker said of one gradient; None where it never says such a thing."""

  verdict: str
  leaves: frozenset[str] | None = None
  coordinates: frozenset[str] | None = None
  rules: frozenset[str] | None = None
  evaluations: int | None = None
  text: str = ""
  seconds: float = 0.0


class NotApplicableError(Exception):
  """Raised by a checker that cannot be asked this; says why."""


Checker = Callable[[Case, str, int, Any, tuple[Any, ...]], Outcome]


def timed(checker: Checker, *args: Any) -> Outcome:
  """Asks a checker."""
  started = time.perf_counter()
  try:
    outcome = checker(*args)
  except NotApplicableError as reason:
    outcome = Outcome(NOT_RUN, text=str(reason))
  except Exception as error:  # what a peer may raise has no common class
    outcome = Outcome(NOT_RUN, text=f"{type(error).__name__}: {str(error).splitlines()[0][:150]}")
  return dataclasses.replace(outcome, seconds=time.perf_counter() - started)


def kinkopt_(case: Case, side: str, seed: int, params: Any, data: tuple[Any, ...]) -> Outcome:
  """Asks kinkopt."""
  report = kinkopt.check_gradient(
    case.funs[side],
    params,
    *data,
    gradient=case.gradients[side],
    key=jax.random.key(seed),
    **case.bug.options,
  )
  is_bad = {x.name: x.verdict.name not in ("HAPPY", "OKAY", "UNDECIDED") for x in report.leaves}
  verdict = PASSED if report.ok else REJECTED if any(is_bad.values()) else UNDECIDED
  # A coordinate stands in backticks, and each of them at its leaf.
  named = {c for x in report.leaves for c in re.findall(r"`([^`]*)`", x.detail)}
  return Outcome(
    verdict,
    frozenset(name for name, bad in is_bad.items() if bad),
    frozenset(named),
    frozenset(re.findall(r"rule of `(\w+)`", "; ".join(report.blame))),
    report.evaluations,
    "" if verdict == PASSED else str(report),
  )


CHECKERS: dict[str, Checker] = {"kinkopt": kinkopt_}
