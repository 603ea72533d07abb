"""What is seen along directions: a function's values, and what the gradient claims of them.

On the host, in NumPy: it draws the directions, hands them to the compiled stages, counts the
evaluations and tells how far it is. Where to look is decided by whoever asks.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._typing import PyTree
from kinkopt.gradcheck._directions import direction, fold, leaf_seeds
from kinkopt.gradcheck._point import named
from kinkopt.gradcheck._residuals import unit_of
from kinkopt.gradcheck._stages import Sight, Stages


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
    leaves = list(map(wide, leaves))
    norms = np.array([length_of(np.ravel(leaf)) for leaf in leaves])
    losses = unknown if own is None else losses_of(own, leaves)
    return cls(leaves, float(value), norms, losses)


def losses_of(own: Sequence[Any], right: Sequence[np.ndarray]) -> np.ndarray:
  """Gives the relative error of each leaf of a gradient."""
  gaps = [length_of(np.ravel(wide(a) - b)) for a, b in zip(own, right)]
  sizes = [length_of(np.ravel(b)) for b in right]
  return np.array([0.0 if gap == 0 else np.divide(gap, size) for gap, size in zip(gaps, sizes)])


def wide(leaf: Any) -> np.ndarray:
  """Gives an array of NumPy, float64 or complex128."""
  leaf = np.asarray(leaf)
  return leaf.astype(np.complex128 if np.iscomplexobj(leaf) else np.float64)


class Looks:
  """A function at a point, seen along directions, beside what its gradient claims there."""

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
    self.units = np.array([float(unit_of(wide(leaf))) for leaf in self._leaves])
    self._still: dict[Any, jax.Array] = {}  # directions in which a leaf does not move
    self.claim = claim or self._claimed(given)
    self.evaluations = self.planned = 0
    self.magnitude = 0.0  # of the values seen
    self.ties = 0  # winners that tie at the point and part beside it
    self.sight: Sight | None = None  # the last, for what the program met

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

  def whole(self, number: int, draw: int) -> Stretch:
    """Gives a direction in which all of a leaf moves."""
    return Stretch(number, draw, 0, self.layout.sizes[number])

  def along(self, number: int, gradient: Sequence[Any], draws: int) -> np.ndarray:
    """Gives the derivatives of a leaf by another gradient, along its directions."""
    stretches = [self.whole(number, i) for i in range(draws)]
    leaf = np.ravel(wide(gradient[number]))
    return np.array([_rate(leaf, self.drawn(stretch)) for stretch in stretches])

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

  def look_at(self, stretches: Sequence[Stretch], ladders: Sequence[np.ndarray]) -> Seen:
    """Looks along each stretch at several steps, as many for each: `[steps, stretches]`."""
    rows = [Row(stretch, h) for stretch, ladder in zip(stretches, ladders) for h in ladder]
    return Seen(*(column.reshape(len(stretches), -1).T for column in self.look(rows)))

  def look(self, rows: Sequence[Row]) -> Seen:
    """Looks along rows; what is left when the check is stopped is not seen."""
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
    drawn = {stretch: self.drawn(stretch) for stretch in ways}
    along = [
      self.way(n, {ways[s]: (s, v) for s, v in drawn.items() if s.leaf == n})
      for n in range(len(self._leaves))
    ]
    which = np.array([ways[row.stretch] for row in rows])
    steps = np.array([row.step * self.units[row.stretch.leaf] for row in rows])
    right, left, size = self.evaluate(along, which, steps, to_come)
    if self.claim.leaves is None:
      rates = {s: self.stages.push(self.args, along, np.int32(ways[s])) for s in ways}
    else:
      rates = {stretch: self.claim_along(stretch, v) for stretch, v in drawn.items()}
    lengths = {stretch: length_of(v) for stretch, v in drawn.items()}
    claim, length = (np.array([table[row.stretch] for row in rows]) for table in (rates, lengths))
    return Seen(right, left, steps, claim, length, size)

  def evaluate(
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

  def claim_along(self, stretch: Stretch, drawn: np.ndarray) -> float:
    """Gives the derivative along a direction; JAX's gradient of x + iy is df/dx - i df/dy."""
    # What does not move counts for nothing, though its gradient be NaN.
    leaves = self.claim.leaves or []
    return _rate(np.ravel(leaves[stretch.leaf])[stretch.low : stretch.high], drawn)

  def way(self, number: int, parts: dict[int, tuple[Stretch, np.ndarray]]) -> jax.Array:
    """Gives a leaf's part of some directions, given by number: 0 but on their stretches."""
    if not parts:
      return self._unmoved(number)
    dtype = next(iter(parts.values()))[1].dtype
    flat = np.zeros((self.stages.calls[1], self.layout.sizes[number]), dtype)
    for place, (stretch, drawn) in parts.items():
      flat[place, stretch.low : stretch.high] = drawn
    return self._put(number, flat.reshape(-1, *self.layout.shapes[number]))

  def drawn(self, stretch: Stretch) -> np.ndarray:
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


def length_of(drawn: np.ndarray) -> float:
  """Gives the Euclidean norm of a flat array."""
  return float(np.sqrt(_rate(drawn.conj(), drawn)))
