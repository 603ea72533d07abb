"""What a check asks of its stages, in one mode: a first look, a ladder, a search.

On the host, in NumPy; it counts evaluations and tells how far it is.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._numerics import machine_eps
from kinkopt._places import Place
from kinkopt._typing import PyTree
from kinkopt.gradcheck._directions import direction, fold, leaf_seeds
from kinkopt.gradcheck._judge import Evidence
from kinkopt.gradcheck._ladder import extrapolate, extrapolate_from_one_side, rounding_of
from kinkopt.gradcheck._locate import locate
from kinkopt.gradcheck._noise import noise_of
from kinkopt.gradcheck._point import named
from kinkopt.gradcheck._residuals import steps_of, unit_of
from kinkopt.gradcheck._stages import Sight, Stages
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


class Row(NamedTuple):
  """One pair of values to look at."""

  stretch: Stretch
  step: float  # in the leaf's unit


class Seen(NamedTuple):
  """What was seen along rows; each `[rows]`."""

  right: np.ndarray
  left: np.ndarray
  steps: np.ndarray
  claim: np.ndarray
  length: np.ndarray
  size: np.ndarray

  @classmethod
  def nothing(cls, count: int) -> "Seen":
    """What is seen along rows that were not looked at: a claim of 0, and values not known."""
    return cls(*(np.full(count, x) for x in (np.nan, np.nan, 1.0, 0.0, 1.0, 0.0)))


class StopCheck(Exception):  # noqa: N818, as `StopIteration`: it is no error
  """Raised by a `progress` of `check_gradient`: the check ends, and reports what it has seen."""


class Watch:
  """Tells how far a check is, and hears whether it is to end."""

  def __init__(self, progress: Callable[[int, int], None] | None):
    self._progress = progress
    self.is_stopped = False

  def tell(self, done: int, planned: int) -> None:
    """Tells how many evaluations are done, and how many of those are known to be needed."""
    if self._progress is not None and not self.is_stopped:
      try:
        self._progress(done, planned)
      except StopCheck:
        self.is_stopped = True


@dataclasses.dataclass(frozen=True)
class Gradient:
  """The gradient under test, on the host."""

  leaves: list[np.ndarray] | None  # float64 or complex128; None in forward mode
  value: float  # of the function, its outputs weighed
  norms: np.ndarray  # [leaves]; in forward mode NaN
  losses: np.ndarray  # [leaves], the relative error of the program's own precision; NaN: not known

  @classmethod
  def of(
    cls, value: Any, leaves: Sequence[Any] | None, own: Sequence[Any] | None, count: int
  ) -> "Gradient":
    """Measures a gradient, and what its own precision costs it."""
    unknown = np.full(count, np.nan)
    if leaves is None:
      return cls(None, float(value), unknown, unknown)
    leaves = list(map(_wide, leaves))
    norms = np.array([_length(np.ravel(leaf)) for leaf in leaves])
    losses = unknown if own is None else losses_of(own, leaves)
    return cls(leaves, float(value), norms, losses)


def losses_of(own: Sequence[Any], right: Sequence[np.ndarray]) -> np.ndarray:
  """Gives the relative error of each leaf of a gradient."""
  gaps = [_length(np.ravel(_wide(a) - b)) for a, b in zip(own, right)]
  sizes = [_length(np.ravel(b)) for b in right]
  return np.array([0.0 if gap == 0 else np.divide(gap, size) for gap, size in zip(gaps, sizes)])


def _wide(leaf: Any) -> np.ndarray:
  leaf = np.asarray(leaf)
  return leaf.astype(np.complex128 if np.iscomplexobj(leaf) else np.float64)


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
    given: Sequence[Any] | None,
    watch: Watch,
    is_forward: bool = False,
    claim: Gradient | None = None,
  ):
    """Evaluates the gradient at a point.

    Args:
      stages: what computes.
      args: the point.
      given: a gradient that was handed in as arrays, leaf by leaf.
      watch: hears of progress.
      is_forward: whether the gradient is asked for along each direction, by `jax.jvp`.
      claim: the gradient, if it is known already.
    """
    self.stages, self.args, self.watch, self.is_forward = stages, args, watch, is_forward
    self.layout = layout = stages.layout
    seeds = leaf_seeds(fold(stages.seed, 0), named(args, layout.argnums))
    self._seeds = [seeds[place] for place in layout.places]
    self._leaves = layout.leaves(args)
    self.units = np.array([float(unit_of(_wide(leaf))) for leaf in self._leaves])
    self._still: dict[Any, jax.Array] = {}  # directions in which a leaf does not move
    self.claim = claim or self._claimed(given)
    self.evaluations = self.planned = 0
    self.trusted = False  # whether a rule of a library was taken for what it evaluates
    self.magnitude = 0.0  # of the values seen
    self.ties = 0  # winners that tie at the point and part beside it
    self.origins: list[Place] = []  # of numbers that are not finite
    self.ladders: dict[Stretch, list[Ladder]] = {}  # that were climbed
    self.sight: Sight | None = None  # the last, for what the program met
    self._glances: dict[Stretch, tuple[float, ...]] = {}  # as of `Slopes`, with a bound of rounding

  def _claimed(self, given: Sequence[Any] | None) -> Gradient:
    count = len(self._leaves)
    if self.is_forward or given is not None:
      value = self.stages.value(self.args).value
      return Gradient.of(value, given, None, count)
    self.stages.start(self.args, [self._unmoved(n) for n in range(count)])
    found = self.stages.claim(self.args)
    own = found.own
    if own is None and self.stages.question.order == 1:
      own = found.leaves  # all of the program is float64 as it stands
    return Gradient.of(found.value, found.leaves, own, count)

  def trusting_libraries(self) -> "Inspection":
    """Gives the same inspection, which takes the rules of libraries for what they evaluate."""
    question = self.stages.question
    policy = dataclasses.replace(question.policy, of_libraries=True)
    stages = self.stages.asking(dataclasses.replace(question, policy=policy))
    return Inspection(stages, self.args, None, self.watch, self.is_forward, self.claim)

  def whole(self, number: int, draw: int) -> Stretch:
    """Gives a direction in which all of a leaf moves."""
    return Stretch(number, draw, 0, self.layout.sizes[number])

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
    drawn = [self._drawn(stretch) for stretch in stretches]
    rates = np.array(list(map(self._claim_along, stretches, drawn)))
    ways = [self._way(n, {0: (s, u * v)}) for n, (s, u, v) in enumerate(zip(stretches, self.units, drawn))]
    right, left, size = self._evaluate(ways, np.zeros(1, int), np.array([_FIRST]), 1)
    # What the leaf alone would be off by, if it were all its own.
    gaps = (rates @ self.units - (right[0] - left[0]) / (2 * _FIRST)) / self.units
    errors = rounding_of(size)[0] / (_FIRST * self.units)
    for stretch, rate, gap, error, v in zip(stretches, rates, gaps, errors, drawn):
      if abs(gap) <= slack * max(self.claim.norms[stretch.leaf], abs(rate)):
        self._glances[stretch] = rate, rate - gap, error, _length(v)

  def glance(self, stretches: Sequence[Stretch]) -> Slopes:
    """Takes one difference along each stretch; its bound knows of rounding alone."""
    missing = [stretch for stretch in dict.fromkeys(stretches) if stretch not in self._glances]
    seen = self._look([Row(stretch, _FIRST) for stretch in missing])
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
    seen = self._look_at(stretches, [factor * steps_of(s.high - s.low) for s in stretches])
    known = rounding_of(seen.size) if noise is None else noise
    with np.errstate(all="ignore"):
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

  def along(self, number: int, gradient: Sequence[Any], draws: int) -> np.ndarray:
    """Gives the derivatives of a leaf by another gradient, along its directions."""
    stretches = [self.whole(number, i) for i in range(draws)]
    leaf = np.ravel(_wide(gradient[number]))
    return np.array([_rate(leaf, self._drawn(stretch)) for stretch in stretches])

  @property
  def opaque(self) -> tuple[str, ...]:
    """What could not be seen into, once anything was looked at."""
    return self.sight.opaque if self.sight else ()

  @property
  def iterated(self) -> tuple[str, ...]:
    """The loops that end by a tolerance."""
    return self.sight.iterated if self.sight else ()

  @property
  def rules(self) -> tuple[str, ...]:
    """The functions with a derivative rule of the user's."""
    return self.sight.rules if self.sight else ()

  @property
  def cuts(self) -> tuple[str, ...]:
    """Where `stop_gradient` holds back what moves."""
    return self.sight.cuts if self.sight else ()

  def _from_one_side(self, stretches: Sequence[Stretch]) -> Slopes:
    ladders = [np.append(0.0, steps_of(s.high - s.low, _AT_AN_EDGE)) for s in stretches]
    seen = self._look_at(stretches, ladders)
    center = seen.right[0]
    with np.errstate(all="ignore"):
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
    seen = self._look_at(stretches, [_NOISE_STEPS] * len(stretches))
    size = seen.size.max(0)
    measured = noise_of(np.concatenate([seen.left[:0:-1], seen.right]).T)
    unknown = _UNKNOWN * machine_eps("float32") * size
    known = np.where(np.isfinite(measured), _DEVIATIONS * measured, unknown)
    return np.maximum(known, rounding_of(size))

  def _look_at(self, stretches: Sequence[Stretch], ladders: Sequence[np.ndarray]) -> Seen:
    """Looks along each stretch at several steps, as many for each: `[steps, stretches]`."""
    rows = [Row(stretch, h) for stretch, ladder in zip(stretches, ladders) for h in ladder]
    return Seen(*(column.reshape(len(stretches), -1).T for column in self._look(rows)))

  def _look(self, rows: Sequence[Row]) -> Seen:
    cost = 3 if self.is_forward else 2
    self.planned += cost * len(rows)
    most_rows, most_ways = self.stages.calls
    found, start = [], 0
    while start < len(rows) and not self.watch.is_stopped:
      some: list[Row] = []
      ways: dict[Stretch, int] = {}
      for row in rows[start : start + most_rows // 2]:
        if len(ways) == most_ways and row.stretch not in ways:
          break
        ways.setdefault(row.stretch, len(ways))
        some.append(row)
      start += len(some)
      found.append(self._look_once(some, ways, len(rows) - start))
      self.watch.tell(self.evaluations, self.planned)
    return Seen(*map(np.concatenate, zip(*found, Seen.nothing(len(rows) - start))))

  def _look_once(self, rows: Sequence[Row], ways: dict[Stretch, int], to_come: int) -> Seen:
    """Looks along some directions by one call; `to_come` rows may follow."""
    drawn = {stretch: self._drawn(stretch) for stretch in ways}
    along = [
      self._way(n, {ways[s]: (s, v) for s, v in drawn.items() if s.leaf == n})
      for n in range(len(self._leaves))
    ]
    which = np.array([ways[row.stretch] for row in rows])
    steps = np.array([row.step * self.units[row.stretch.leaf] for row in rows])
    right, left, size = self._evaluate(along, which, steps, to_come)
    if self.claim.leaves is None:
      rates = {s: self.stages.push(self.args, along, np.int32(ways[s])) for s in ways}
    else:
      rates = {stretch: self._claim_along(stretch, v) for stretch, v in drawn.items()}
    lengths = {stretch: _length(v) for stretch, v in drawn.items()}
    columns = ([table[row.stretch] for row in rows] for table in (rates, lengths))
    return Seen(right, left, steps, *map(np.array, columns), size)

  def _evaluate(
    self, ways: list[jax.Array], which: np.ndarray, steps: np.ndarray, to_come: int
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives the values at `steps` along directions and against them, and their summands' size."""
    both = np.tile(which, 2), np.concatenate([steps, -steps])
    self.sight = sight = self.stages.look(self.args, ways, *both, to_come)
    self.ties = max(self.ties, int(sight.ties.max(initial=0)))
    cost = 3 if self.is_forward else 2
    self.evaluations += cost * len(steps)
    right, left = np.split(sight.values, 2)
    known = np.abs(sight.values).max(initial=0.0, where=np.isfinite(sight.values))
    self.magnitude = max(self.magnitude, float(known))
    return right, left, np.maximum(*np.split(sight.sizes, 2))

  def _claim_along(self, stretch: Stretch, drawn: np.ndarray) -> float:
    """Gives the derivative along a direction; JAX's gradient of x + iy is df/dx - i df/dy."""
    # What does not move counts for nothing, though its gradient be NaN.
    part = np.ravel(self.claim.leaves[stretch.leaf])[stretch.low : stretch.high]
    return _rate(part, drawn)

  def _way(self, number: int, parts: dict[int, tuple[Stretch, np.ndarray]]) -> jax.Array:
    """Gives a leaf's part of some directions, given by number: 0 but on their stretches."""
    if not parts:
      return self._unmoved(number)
    dtype = next(iter(parts.values()))[1].dtype
    flat = np.zeros((self.stages.calls[1], self.layout.sizes[number]), dtype)
    for place, (stretch, drawn) in parts.items():
      flat[place, stretch.low : stretch.high] = drawn
    return self._put(number, flat.reshape(-1, *self.layout.shapes[number]))

  def _drawn(self, stretch: Stretch) -> np.ndarray:
    """Draws the part of a direction that is not 0."""
    n = stretch.leaf
    dtype = np.complex128 if np.iscomplexobj(self._leaves[n]) else np.float64
    seed = fold(self._seeds[n], stretch.draw)
    drawn = direction(seed, self.layout.shapes[n], dtype, stretch.low, stretch.high)
    return np.abs(drawn).astype(dtype) if stretch.is_upward else drawn

  def _unmoved(self, number: int) -> jax.Array:
    leaf = self._leaves[number]
    key = leaf.shape, jnp.iscomplexobj(leaf), leaf.sharding
    if key not in self._still:
      dtype = np.complex128 if jnp.iscomplexobj(leaf) else np.float64
      self._still[key] = self._put(number, np.zeros((self.stages.calls[1], *leaf.shape), dtype))
    return self._still[key]

  def _put(self, number: int, ways: np.ndarray) -> jax.Array:
    """Puts directions of a leaf where the leaf is."""
    leaf = self._leaves[number]
    sharding = leaf.sharding
    with jax.enable_x64(True):
      if not leaf.committed:
        return jnp.asarray(ways)
      if isinstance(sharding, jax.sharding.NamedSharding):
        spec = jax.sharding.PartitionSpec(None, *sharding.spec)
        sharding = jax.sharding.NamedSharding(sharding.mesh, spec)
      return jax.device_put(ways, sharding)


def _rate(gradient: np.ndarray, drawn: np.ndarray) -> float:
  # Not by BLAS, whose threads get into the way of XLA's.
  return float(np.real(np.einsum("i,i", gradient, drawn)))


def _length(drawn: np.ndarray) -> float:
  return float(np.sqrt(_rate(drawn.conj(), drawn)))


def _replace(
  found: Slopes, places: Sequence[int] | np.ndarray, better: Sequence[np.ndarray]
) -> None:
  for column, numbers in zip(found, better):
    column[places] = numbers
