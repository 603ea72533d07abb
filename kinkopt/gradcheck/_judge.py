"""From numbers to a verdict, leaf by leaf.

What is known of a leaf: the derivatives that its gradient claims along a few directions, what
differences say of them, and how far the differences can be wrong. An error is only called one if it
is larger than that; and what would have been too small to see is told.
"""

import dataclasses

import numpy as np

from kinkopt.gradcheck._verdict import Verdict, verdict

# What constants of a rule that were rounded to float32 may cost, in units of the gradient; and what
# those of a gradient that was handed in may, each of them up to half a spacing off.
SLACK = 3e-8
SLACK_HANDED = 6e-8
_CANCELLED = 0.1
# Above this relative error the notes would call nothing okay.
_BLIND = 1e-4
# What is run in its own precision may be off by this and still be right.
COARSE = 1e-2

WRONG = (Verdict.TOO_HIGH, Verdict.UNCOMFORTABLE, Verdict.WRONG)


@dataclasses.dataclass(frozen=True)
class Evidence:
  """What was seen of one leaf."""

  claim: np.ndarray  # the derivative along each direction by the gradient, [probes]
  estimate: np.ndarray  # by differences, [probes]
  error: np.ndarray  # a bound on the error of `estimate`, [probes]; NaN: nothing is known
  norm: float  # of the gradient; NaN where it is not at hand
  nothing: float  # what the value moves by if moving does nothing

  @property
  def gap(self) -> np.ndarray:
    """How far claim and estimate are apart."""
    return np.abs(self.claim - self.estimate)

  @property
  def sizes(self) -> np.ndarray:
    """The larger of claim and estimate."""
    return np.maximum(np.abs(self.claim), np.abs(self.estimate))

  @property
  def scale(self) -> float:
    """The size that an error is measured by."""
    sizes = [self.norm, *np.abs(self.estimate), *np.abs(self.claim)]
    return max((size for size in sizes if np.isfinite(size)), default=0.0)

  @property
  def is_finite(self) -> bool:
    """Whether the gradient is finite, as far as it is known."""
    return bool(np.isfinite(self.claim).all()) and not np.isinf(self.norm)

  def agrees(self, slack: float) -> bool:
    """Whether claim and estimate agree as they stand, however well the estimate is known."""
    return bool((self.gap <= slack * self.scale).all())

  def is_beyond(self, slack: float) -> np.ndarray:
    """Says of each direction whether claim and estimate are known to differ too much."""
    return self.gap > np.where(np.isfinite(self.error), self.error, np.inf) + slack * self.scale


@dataclasses.dataclass(frozen=True)
class Judgement:
  """What to make of a leaf."""

  verdict: Verdict
  relative_error: float = np.nan
  power: float = np.nan  # a relative error above this would have been seen
  is_rough: bool = False  # too rough to be told from wrong


def judge(
  seen: Evidence,
  slack: float,
  value: float = 0.0,
  is_opaque: bool = False,
  is_iterated: bool = False,
) -> Judgement:
  """Gives the verdict on a leaf.

  Args:
    seen: what is known of it.
    slack: a relative error below this passes.
    value: of the function at the point.
    is_opaque: whether part of the program was run in its own precision, and not seen into.
    is_iterated: whether it ends a loop by a tolerance, and so is only that exact.
  """
  if not (seen.is_finite and np.isfinite(value)):
    return Judgement(Verdict.NOT_FINITE)
  scale = seen.scale or 1.0
  relative = float(seen.gap.max() / scale) if np.isfinite(seen.gap).all() else np.nan
  if seen.agrees(slack):
    return Judgement(Verdict.HAPPY, relative, slack)
  is_seen = seen.is_beyond(slack)
  if not is_seen.any() and not np.isfinite(seen.error).all():
    return Judgement(Verdict.UNDECIDED)
  if is_seen.any():
    # A direction along which the gradient nearly cancels would make much of little.
    sizes = np.maximum(seen.sizes, _CANCELLED * scale)
    relative = float((seen.gap / sizes)[is_seen].max())
    if is_opaque and relative <= COARSE:
      return Judgement(Verdict.UNDECIDED, relative, COARSE)
    power = _BLIND if is_iterated else slack
    return Judgement(verdict(relative, kinks=is_iterated), relative, power)
  if scale <= seen.error.max() <= seen.nothing:  # a gradient of 0, as far as differences can tell
    return Judgement(Verdict.HAPPY, 0.0)
  power = float(max(seen.error.max() / scale, slack))
  if power > (COARSE if is_opaque else _BLIND):
    return Judgement(Verdict.UNDECIDED, relative, power)
  if is_opaque and relative > _BLIND:
    return Judgement(Verdict.UNDECIDED, relative, power)
  return Judgement(verdict(relative, kinks=True) if is_opaque else Verdict.HAPPY, relative, power)


def judge_swept(
  found: Judgement, swept: Evidence | None, slack: float, is_iterated: bool = False
) -> Judgement:
  """Sharpens a verdict by what was seen of each coordinate by itself.

  Args:
    found: the verdict along random directions.
    swept: claims, estimates and bounds of the coordinates; None where they were not swept.
    slack: a relative error below this passes.
    is_iterated: as for `judge`.
  """
  if swept is None or not swept.claim.size or not (found.verdict.is_pass or found.verdict in WRONG):
    return found
  is_wrong = wrong_coordinates(swept, slack)
  if is_wrong.any():
    relative = float((swept.gap[is_wrong] / swept.sizes[is_wrong]).max())
    return Judgement(verdict(relative, kinks=is_iterated), relative, found.power)
  # What is too small to be resolved counts for no more than the slack.
  room = swept.sizes + np.nan_to_num(swept.error) / slack
  relative = np.nan_to_num(swept.gap) / np.where(room == 0, 1, room)
  return dataclasses.replace(found, relative_error=float(relative.max()))


def wrong_coordinates(swept: Evidence, slack: float) -> np.ndarray:
  """Says of each coordinate whether its gradient is known to be wrong."""
  return swept.gap > swept.error + slack * swept.sizes
