"""What a check asks of its stages, in one mode: a first look, a ladder, a search.

On the host, in NumPy; it counts evaluations and tells how far it is.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._numerics import machine_eps
from kinkopt._places import Place
from kinkopt._typing import PyTree
from kinkopt.gradcheck._judge import Evidence
from kinkopt.gradcheck._ladder import extrapolate, extrapolate_from_one_side, rounding_of
from kinkopt.gradcheck._locate import locate
from kinkopt.gradcheck._noise import noise_of
from kinkopt.gradcheck._question import Claim, Row, Seen, Watch
from kinkopt.gradcheck._residuals import steps_of
from kinkopt.gradcheck._stages import Stages, stages_of
from kinkopt.gradcheck._step_curve import Ladder

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


class Stretch(NamedTuple):
  """Coordinates `[low, high)` of a leaf that move along a random direction."""

  leaf: int
  draw: int
  low: int
  high: int
  is_upward: bool = False


class Slopes(NamedTuple):
  """Derivatives along stretches, each `[stretches]`."""

  claim: np.ndarray  # by the gradient
  estimate: np.ndarray  # by differences
  error: np.ndarray  # a bound on the error of `estimate`; NaN: nothing is known
  length: np.ndarray  # of the direction


class Inspection:
  """A function at a point, with the gradient under test."""

  def __init__(
    self,
    stages: Stages,
    args: tuple[PyTree, ...],
    given: PyTree,
    key: jax.Array,
    watch: Watch,
    claim: Claim | None = None,
  ):
    self.stages, self.args, self.key, self.watch = stages, args, key, watch
    self.claim = claim or stages.claim(args, given, key)
    self.evaluations = self.planned = 0
    self.trusted = False  # whether a rule of a library was taken for what it evaluates
    self.magnitude = 0.0  # of the values seen
    self.origins: list[Place] = []  # of numbers that are not finite
    self.ladders: dict[Stretch, list[Ladder]] = {}  # that were climbed

  def trusting_libraries(self) -> "Inspection":
    """Gives the same inspection, which takes the rules of libraries for what they evaluate."""
    stages = stages_of(dataclasses.replace(self.stages.question, trusts_libraries=True))
    return Inspection(stages, self.args, None, self.key, self.watch, self.claim)

  def whole(self, number: int, draw: int) -> Stretch:
    """Gives a direction in which all of a leaf moves."""
    return Stretch(number, draw, 0, self.claim.sizes[number])

  def glance(self, stretches: Sequence[Stretch]) -> Slopes:
    """Takes one difference along each stretch; its bound knows of rounding alone."""
    seen = self._look([_row(stretch, _FIRST) for stretch in stretches])
    error = rounding_of(seen.size) / seen.steps
    return Slopes(seen.claim, (seen.right - seen.left) / (2 * seen.steps), error, seen.length)

  def climb(self, stretches: Sequence[Stretch]) -> Slopes:
    """Takes differences at ladders of steps; where only one side is finite, on that side.

    A second, finer ladder is for where the first is too coarse: near the edge of a domain, or where
    the function turns within a small part of its argument.
    """
    noise = self._noise(stretches)
    found = self._ladder(stretches, noise, 1.0)
    # The noise of what is opaque would only grow.
    fine = np.inf if self.claim.opaque else _FINE
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
    seen = self._look_at(stretches, [factor * steps_of(s.high - s.low) for s in stretches])
    with jax.enable_x64(True):
      right, left, steps = map(jnp.asarray, (seen.right, seen.left, seen.steps))
      known = jnp.asarray(rounding_of(seen.size) if noise is None else noise)
      value, error = map(np.array, extrapolate(right, left, steps, known))
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
    glance = [column.reshape(shape) for column in self.glance(flat)]
    found = Slopes(*glance)._replace(error=np.full(glance[0].shape, np.nan))
    units = np.asarray(self.claim.units)[[group[0].leaf for group in groups]]
    nothing = _NOTHING * self.magnitude / units

    def evidence(n: int) -> Evidence:
      claim, estimate, error, _ = (column[n] for column in found)
      return Evidence(claim, estimate, error, float(norms[n]), nothing[n])

    seen = [evidence(n) for n in range(len(groups))]
    doubts = [n for n, e in enumerate(seen) if e.is_finite and not e.agrees(slack)]
    if doubts:
      better = self.climb([stretch for n in doubts for stretch in groups[n]])
      for column, some in zip(found, better):
        column[doubts] = some.reshape(len(doubts), -1)
    return [evidence(n) if n in doubts else e for n, e in enumerate(seen)]

  def sweep(self, number: int, slack: float) -> Evidence:
    """Gives what is seen of each coordinate of a leaf by itself."""
    stretches = [Stretch(number, 0, i, i + 1, True) for i in range(self.claim.sizes[number])]
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
    return locate(gaps, self.claim.sizes[number], whole, least)

  def along(self, number: int, gradient: list[jax.Array], draws: int) -> np.ndarray:
    """Gives the derivatives of a leaf by another gradient, along its directions."""
    other = dataclasses.replace(self.claim, leaves=gradient)
    return self._look([_row(self.whole(number, i), _FIRST) for i in range(draws)], other).claim

  def _from_one_side(self, stretches: Sequence[Stretch]) -> Slopes:
    ladders = [np.append(0.0, steps_of(s.high - s.low, _AT_AN_EDGE)) for s in stretches]
    seen = self._look_at(stretches, ladders)
    center = seen.right[0]
    with jax.enable_x64(True):
      sides = [
        extrapolate_from_one_side(*map(jnp.asarray, (values[1:], center, sign * seen.steps[1:])))
        for values, sign in ((seen.right, 1), (seen.left, -1))
      ]
      (right, error), (left, other) = (map(np.array, side) for side in sides)
    is_right = np.isfinite(error)
    value, error = np.where(is_right, right, left), np.where(is_right, error, other)
    return Slopes(seen.claim[0].copy(), value, error, seen.length[0].copy())

  def _noise(self, stretches: Sequence[Stretch]) -> np.ndarray | None:
    """Gives what a value may be off by, where that is not float64's rounding."""
    if not self.claim.opaque:
      return None
    seen = self._look_at(stretches, [_NOISE_STEPS] * len(stretches))
    size = seen.size.max(0)
    measured = noise_of(np.concatenate([seen.left[:0:-1], seen.right]).T)
    unknown = _UNKNOWN * machine_eps("float32") * size
    known = np.where(np.isfinite(measured), _DEVIATIONS * measured, unknown)
    return np.maximum(known, rounding_of(size))

  def _look_at(self, stretches: Sequence[Stretch], ladders: Sequence[np.ndarray]) -> Seen:
    """Looks along each stretch at several steps, as many for each: `[steps, stretches]`."""
    rows = [_row(stretch, h) for stretch, ladder in zip(stretches, ladders) for h in ladder]
    return Seen(*(column.reshape(len(stretches), -1).T for column in self._look(rows)))

  def _look(self, rows: Sequence[Row], claim: Claim | None = None) -> Seen:
    cost = 3 if self.claim.leaves is None else 2
    self.planned += cost * len(rows)
    if self.watch.is_stopped:
      return Seen.nothing(len(rows))

    def tell(count: int) -> bool:
      self.evaluations += cost * count
      self.watch.tell(self.evaluations, self.planned)
      return not self.watch.is_stopped

    seen = self.stages.look(self.args, self.key, claim or self.claim, rows, tell)
    largest = np.abs(seen.right).max(initial=0.0, where=np.isfinite(seen.right))
    self.magnitude = max(self.magnitude, float(largest))
    return seen


def _row(stretch: Stretch, step: float) -> Row:
  return Row(*stretch[:4], step, stretch.is_upward)


def _replace(
  found: Slopes, places: Sequence[int] | np.ndarray, better: Sequence[np.ndarray]
) -> None:
  for column, numbers in zip(found, better):
    column[places] = numbers
