"""What a check asks of its stages, in one mode: a first look, a ladder, a search.

On the host, in NumPy; it counts evaluations and tells how far it is.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kinkopt._numerics import machine_eps
from kinkopt._places import Place
from kinkopt.gradcheck._differences import (
  extrapolate,
  extrapolate_from_one_side,
  noise_of,
  rounding_of,
)
from kinkopt.gradcheck._judge import Evidence
from kinkopt.gradcheck._looks import Looks, Row, Stretch, length_of
from kinkopt.gradcheck._pictures import Ladder
from kinkopt.gradcheck._residuals import steps_of

# The first look: one pair of values, near the best step of a centered difference in float64.
_FIRST = 2.0**-18
# The second ladder's steps, in units of the first one's.
_FINER = 2.0**-8
# The steps at the edge of a domain, where convergence is slow.
_AT_AN_EDGE = 11
# A bound of this size, relative to the derivative, needs no second ladder.
_FINE = 1e-8
# Where the noise is measured, on both sides of the point.
_NOISE_STEPS = 2.0**-14 * np.arange(4)
# Of the noise, what a value may be off by.
_DEVIATIONS = 4.0
# Where the noise cannot be measured, that of float32, in roundings.
_UNKNOWN = 8.0
# A gradient is known to be 0 if moving a leaf by its size moves the value less than this share.
_NOTHING = 1e-7


class Slopes(NamedTuple):
  """Derivatives along stretches, each `[stretches]`."""

  claim: np.ndarray  # by the gradient
  estimate: np.ndarray  # by differences
  error: np.ndarray  # a bound on the error of `estimate`; NaN: nothing is known
  length: np.ndarray  # of the direction


class Inspection(Looks):
  """A function at a point, with the gradient under test: how far differences agree with it."""

  def __init__(self, *how: Any, **options: Any):
    super().__init__(*how, **options)
    self.trusted = False  # whether a rule of a library was taken for what it evaluates
    self.origins: list[Place] = []  # of numbers that are not finite
    self.ladders: dict[Stretch, list[Ladder]] = {}  # that were climbed
    self._glances: dict[Stretch, tuple[float, ...]] = {}  # as of `Slopes`, with a bound of rounding

  def trusting_libraries(self) -> "Inspection":
    """Gives the same inspection, which takes the rules of libraries for what they evaluate."""
    question = self.stages.question
    policy = dataclasses.replace(question.policy, of_libraries=True)
    stages = self.stages.asking(dataclasses.replace(question, policy=policy))
    return Inspection(stages, self.args, None, self.watch, self.is_forward, self.claim)

  def look_first(self, probes: int, slack: float) -> None:
    """Takes one difference in which all leaves move at once, which shows any leaf's error.

    Where it is less than a leaf's own gradient allows, the leaf is seen; the others move alone.
    """
    draws = [[self.whole(n, i) for n in range(len(self._leaves))] for i in range(probes)]
    if self.claim.leaves is not None:
      for stretches in draws:
        if not self.watch.is_stopped:
          self.planned += 2
          self._look_together(stretches, slack)
          self.watch.tell(self.evaluations, self.planned)
    self.glance([stretch for n in range(len(self._leaves)) for stretch in (d[n] for d in draws)])

  def _look_together(self, stretches: Sequence[Stretch], slack: float) -> None:
    drawn = [self.drawn(stretch) for stretch in stretches]
    rates = np.array(list(map(self.claim_along, stretches, drawn)))
    ways = [
      self.way(n, {0: (s, u * v)}) for n, (s, u, v) in enumerate(zip(stretches, self.units, drawn))
    ]
    right, left, size = self.evaluate(ways, np.zeros(1, int), np.array([_FIRST]), 1)
    # What the leaf alone would be off by, if it were all its own.
    gaps = (rates @ self.units - (right[0] - left[0]) / (2 * _FIRST)) / self.units
    errors = rounding_of(size)[0] / (_FIRST * self.units)
    for stretch, rate, gap, error, v in zip(stretches, rates, gaps, errors, drawn):
      if abs(gap) <= slack * max(self.claim.norms[stretch.leaf], abs(rate)):
        self._glances[stretch] = rate, rate - gap, error, length_of(v)

  def glance(self, stretches: Sequence[Stretch]) -> Slopes:
    """Takes one difference along each stretch; its bound knows of rounding alone."""
    missing = [stretch for stretch in dict.fromkeys(stretches) if stretch not in self._glances]
    seen = self.look([Row(stretch, _FIRST) for stretch in missing])
    error = rounding_of(seen.size) / seen.steps
    estimate = (seen.right - seen.left) / (2 * seen.steps)
    self._glances.update(zip(missing, zip(seen.claim, estimate, error, seen.length)))
    found = [self._glances[stretch] for stretch in stretches]
    return Slopes(*map(np.array, zip(*found))) if found else Slopes(*[np.zeros(0)] * 4)

  def climb(self, stretches: Sequence[Stretch]) -> Slopes:
    """Takes differences at ladders of steps; where only one side is finite, on that side.

    A second, finer ladder is for where the first is too coarse: near the edge of a domain, or where
    the function turns within a small part of its argument.
    """
    noise = self._noise(stretches)
    found = self._ladder(stretches, noise, 1.0)
    # The noise of what is opaque would only grow.
    fine = np.inf if self.opaque else _FINE
    coarse = ~(found.error <= fine * np.maximum(np.abs(found.claim), np.abs(found.estimate)))
    if coarse.any():
      some = np.flatnonzero(coarse).tolist()
      rest = None if noise is None else noise[some]
      finer = self._ladder([stretches[i] for i in some], rest, _FINER)
      is_better = ~(finer.error >= found.error[some])
      _replace(found, np.array(some)[is_better], [column[is_better] for column in finer])
    lost = np.flatnonzero(~np.isfinite(found.error)).tolist()
    if lost:
      edges = [stretches[i]._replace(is_upward=True) for i in lost]
      _replace(found, lost, self._from_one_side(edges))
    return found

  def _ladder(
    self, stretches: Sequence[Stretch], noise: np.ndarray | None, factor: float
  ) -> Slopes:
    seen = self.look_at(stretches, [factor * steps_of(s.high - s.low) for s in stretches])
    known = rounding_of(seen.size) if noise is None else noise
    value, error = map(np.array, extrapolate(seen.right, seen.left, seen.steps, known))
    differences = (seen.right - seen.left) / (2 * seen.steps)
    for stretch, *ladder in zip(
      stretches, seen.steps.T, differences.T, seen.claim[0], value, error, strict=True
    ):
      self.ladders.setdefault(stretch, []).append(Ladder(*ladder))
    return Slopes(seen.claim[0].copy(), value, error, seen.length[0].copy())

  def see(
    self, groups: Sequence[Sequence[Stretch]], norms: np.ndarray, slack: float
  ) -> list[Evidence]:
    """Gives what is seen of leaves along their stretches, a group each, with the leaf's norm.

    A glance at first, which agrees with a right gradient, and the ladder where it does not.
    """
    flat = [stretch for group in groups for stretch in group]
    shape = len(groups), -1
    first = Slopes(*(column.reshape(shape) for column in self.glance(flat)))
    found = Slopes(*(column.copy() for column in first))._replace(
      error=np.full(first.error.shape, np.nan)
    )
    units = self.units[[group[0].leaf for group in groups]]
    nothing = _NOTHING * self.magnitude / units

    def evidence(n: int) -> Evidence:
      claim, estimate, error, _ = (column[n] for column in found)
      return Evidence(claim, estimate, error, float(norms[n]), nothing[n])

    doubts = []
    for n in range(len(groups)):
      seen = evidence(n)
      if not seen.is_finite or seen.agrees(slack):
        continue
      if (seen.gap <= first.error[n]).all() and seen.scale <= first.error[n].max() <= nothing[n]:
        found.error[n] = first.error[n]  # moving it does nothing
      else:
        doubts.append(n)
    for draw in range(first.claim.shape[1]):
      some = [n for n in doubts if np.isnan(found.error[n, draw])]
      if some:
        better = self.climb([groups[n][draw] for n in some])
        for column, numbers in zip(found, better):
          column[some, draw] = numbers
      for n in some:
        # Along one direction that shows an error the ladder tells how good the first look is.
        seen, known = evidence(n), found.error[n, draw]
        off = abs(first.estimate[n, draw] - found.estimate[n, draw]) + known
        if seen.is_beyond(slack).any() and off <= slack * seen.scale:
          found.error[n, draw + 1 :] = slack * seen.scale
    return list(map(evidence, range(len(groups))))

  def sweep(self, number: int, slack: float) -> Evidence:
    """Gives what is seen of each coordinate of a leaf by itself."""
    stretches = [Stretch(number, 0, i, i + 1, True) for i in range(self.layout.sizes[number])]
    if not stretches:
      none = np.zeros(0)
      return Evidence(none, none, none, 0.0, 0.0)
    found = self.glance(stretches)
    sizes = np.maximum(np.abs(found.claim), np.abs(found.estimate))
    is_close = np.abs(found.claim - found.estimate) <= slack * sizes + found.error
    doubts = np.flatnonzero(~is_close & np.isfinite(found.claim)).tolist()
    if doubts:
      _replace(found, doubts, self.climb([stretches[i] for i in doubts]))
    claim, estimate, error = (column / found.length for column in found[:3])
    return Evidence(claim, estimate, error, float(self.claim.norms[number]), 0.0)

  def find(self, number: int, whole: float, size: float, slack: float) -> list[int] | None:
    """Searches a leaf for the coordinates that are wrong; None where they are too many."""

    def gaps(ranges: Sequence[tuple[int, int]]) -> np.ndarray:
      slopes = self.glance([Stretch(number, 0, *some) for some in ranges])
      return slopes.claim - slopes.estimate

    (error,) = self.glance([self.whole(number, 0)]).error
    least = 8 * float(error) + slack * size
    return locate(gaps, self.layout.sizes[number], whole, least)

  def _from_one_side(self, stretches: Sequence[Stretch]) -> Slopes:
    ladders = [np.append(0.0, steps_of(s.high - s.low, _AT_AN_EDGE)) for s in stretches]
    seen = self.look_at(stretches, ladders)
    center = seen.right[0]
    (right, error), (left, other) = (
      extrapolate_from_one_side(values[1:], center, sign * seen.steps[1:])
      for values, sign in ((seen.right, 1), (seen.left, -1))
    )
    is_right = np.isfinite(error)
    value, error = np.where(is_right, right, left), np.where(is_right, error, other)
    return Slopes(seen.claim[0].copy(), value, error, seen.length[0].copy())

  def _noise(self, stretches: Sequence[Stretch]) -> np.ndarray | None:
    """Gives what a value may be off by, where that is not float64's rounding."""
    if not self.opaque:
      return None
    seen = self.look_at(stretches, [_NOISE_STEPS] * len(stretches))
    size = seen.size.max(0)
    measured = noise_of(np.concatenate([seen.left[:0:-1], seen.right]).T)
    unknown = _UNKNOWN * machine_eps("float32") * size
    known = np.where(np.isfinite(measured), _DEVIATIONS * measured, unknown)
    return np.maximum(known, rounding_of(size))


def _replace(
  found: Slopes, places: Sequence[int] | np.ndarray, better: Sequence[np.ndarray]
) -> None:
  for column, numbers in zip(found, better):
    column[places] = numbers


# More wrong coordinates than this are no longer listed.
_MOST = 4


def locate(
  gaps: Callable[[Sequence[tuple[int, int]]], np.ndarray], size: int, whole: float, least: float
) -> list[int] | None:
  """Finds the coordinates that an error stands in.

  Args:
    gaps: gives, for stretches `[low, high)` of coordinates, what the gradient is off by there along
      one direction, signed.
    size: the number of coordinates.
    whole: what it is off by along all of them.
    least: the smallest size that is more than rounding.

  Returns:
    Their numbers, row-major; None where they are too many.
  """
  stretches = [(0, size, whole)]
  while stretches and any(high - low > 1 for low, high, _ in stretches):
    long = [s for s in stretches if s[1] - s[0] > 1]
    found = gaps([(low, (low + high) // 2) for low, high, _ in long])
    stretches = [s for s in stretches if s[1] - s[0] == 1]
    for (low, high, total), first in zip(long, found):
      halves = ((low, (low + high) // 2, first), ((low + high) // 2, high, total - first))
      stretches += [half for half in halves if not abs(half[2]) <= least]
    if len(stretches) > _MOST:
      return None
  return sorted(low for low, _, _ in stretches)
