"""How each winner of a program stands at a point: ties, distances, dead units.

One run under `jax.jvp`: at every winner its margin, which is 0 at a tie, and how fast the margin
moves along the direction.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._typing import PyTree
from kinkopt.trace._interpreter import (
  Interpreter,
  Lanes,
  is_active,
  is_inexact,
  lane,
  replaying,
  without_derivative,
)
from kinkopt.trace._policy import Policy
from kinkopt.trace._program import Program, write_program
from kinkopt.trace._registry import Call, Winner
from kinkopt.trace._replay import Replay
from kinkopt.trace._reveal import reveal
from kinkopt.trace._site import Site


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SiteStatus:
  """How a winner stands at a point.

  A pytree: `site` is static; the rest are arrays, so `sites` works under `jit` and `vmap`.
  """

  site: Site = dataclasses.field(metadata={"static": True})
  total: jax.Array  # units, over all turns of the loops around; int32
  ties: jax.Array  # units that tie exactly; int32
  moving_ties: (
    jax.Array
  )  # of these, units whose margin moves along the direction: true kinks; int32
  distance: jax.Array  # steps along the direction, either way, to the nearest kink; inf: none ahead
  dead: jax.Array  # units cut off for every example of the batch; int32, -1 where it has no meaning

  def __str__(self) -> str:
    parts = [f"{self.site}: {int(self.total):,} units", f"{int(self.ties):,} tie"]
    if int(self.moving_ties):
      parts.append(f"{int(self.moving_ties):,} of them on a kink")
    if int(self.dead) > 0:
      parts.append(f"{int(self.dead):,} dead")
    return ", ".join(parts) + f", nearest kink at {float(self.distance):.1e}"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Tally:
  total: jax.Array
  ties: jax.Array
  moving_ties: jax.Array
  distance: jax.Array
  lost: jax.Array | None  # for each unit of one example, whether it lost so far wherever it was met

  def empty(self) -> "_Tally":
    zero = jnp.int32(0)
    lost = None if self.lost is None else jnp.ones(self.lost.shape, bool)
    return _Tally(zero, zero, zero, jnp.asarray(jnp.inf, self.distance.dtype), lost)

  def merge(self, other: "_Tally") -> "_Tally":
    return _Tally(
      self.total + other.total,
      self.ties + other.ties,
      self.moving_ties + other.moving_ties,
      jnp.minimum(self.distance, other.distance),
      None if self.lost is None or other.lost is None else self.lost & other.lost,
    )

  def only_if(self, holds: jax.Array) -> "_Tally":
    return jax.tree.map(lambda new, old: jnp.where(holds, new, old), self, self.empty())


class _Surveyor(Interpreter):
  """One lane, run under `jax.jvp`, which carries the direction."""

  count = 1

  def __init__(self, float64: bool, policy: Policy, is_x64: bool, batch_axis: int | None):
    super().__init__(float64, policy, is_x64)
    self.batch_axis = batch_axis

  def run_winner(self, winner: Winner, call: Call, values: list[Any]) -> list[Any]:
    point = [self.widen(lane(value, 0)) for value in values]
    decision = winner.decide(call, list(map(jax.lax.stop_gradient, point)), None)
    results = winner.value(call, decision, point)
    margins = winner.margins(call, decision, point)
    if margins is not None and any(is_active(v) and is_inexact(v.values[0]) for v in values):
      (margin,), (rate,) = reveal([margins])
      tally = self._tally(margin, rate, winner.loses(call, point, list(map(is_active, values))))
      self.merge(self.site(call.name, margins[..., 0]), tally)
    return list(map(self.join, zip(results)))

  def _tally(self, margin: Any, rate: Any, loses: Any) -> _Tally:
    is_tied = margin == 0
    steps = jnp.where(
      is_tied | (rate == 0) | ~jnp.isfinite(margin), jnp.inf, jnp.abs(margin / rate)
    )
    if loses is not None and self.batch_axis is not None and loses.ndim > self.batch_axis:
      loses = loses.all(self.batch_axis)
    return _Tally(
      jnp.int32(np.prod(margin.shape[:-1])),
      jnp.sum(is_tied.any(-1), dtype=jnp.int32),
      jnp.sum((is_tied & (rate != 0)).any(-1), dtype=jnp.int32),
      jnp.min(steps, initial=jnp.inf),
      loses,
    )

  def stop_gradient(self, value: Any) -> Any:
    return Lanes((jax.lax.stop_gradient(lane(value, 0)),))

  def run_opaque(self, eqn: Any, values: list[Any]) -> list[Any]:
    return without_derivative(super().run_opaque, eqn, values)

  def alone(self) -> Replay:
    return Replay.within(self)


def _generic(tree: PyTree) -> PyTree:
  """Gives a direction that no margin is blind to but by accident."""
  leaves, treedef = jax.tree.flatten(tree)
  starts = np.cumsum([0, *map(np.size, leaves)])

  def fill(leaf: Any, start: int) -> np.ndarray:
    numbers = np.arange(start, start + np.size(leaf), dtype=np.float64)
    golden = (numbers * (np.sqrt(5) - 1) / 2) % 1  # never repeats
    return np.reshape(np.where(numbers % 2, 1, -1) * (0.5 + golden), np.shape(leaf))

  return jax.tree.unflatten(treedef, list(map(fill, leaves, starts)))


def sites(
  fun: Callable[..., Any],
  *args: PyTree,
  argnums: int | Sequence[int] = 0,
  toward: PyTree | None = None,
  batch_axis: int | None = 0,
  float64: bool = True,
  through_stop_gradient: bool = False,
) -> tuple[SiteStatus, ...]:
  """Says how each winner of a program stands at a point.

  Is the point on a kink, and on which? How far is the next one? Which units are dead?

  Args:
    fun: a function of pytrees that JAX can trace; it is traced once, in the dtypes of `args`.
    *args: the point.
    argnums: which arguments move.
    toward: the direction of rates and distances, shaped like the moving argument (a tuple of them
      where `argnums` is one). By default a fixed one that is not along any axis.
    batch_axis: the axis of examples in a site's units, such as 0 for activations `[batch, width]`;
      None where there is no batch. It matters for dead units only.
    float64: measure in float64; False: in the program's own precision.
    through_stop_gradient: whether what moves passes `stop_gradient`.

  Returns:
    A `SiteStatus` for each winner whose margin depends on the moving arguments, in the order of the
    program. Dead are the units that lose for every example, and so pass no gradient: where a `max`
    or `min` of something that moves with something that does not takes the latter, or `x > c` and
    `x >= c` do not hold.

  Raises:
    ValueError: if `argnums` names an argument that is not there, or the tree or the shapes of
      `toward` are not the point's.
    NotImplementedError: if a winner stands inside `shard_map`.

  Numerics:
    A distance is |margin / rate|, to first order: exact where the margin is linear on the way. Ties
    do not count as a distance of 0.

  Example:
    >>> import jax, jax.numpy as jnp, kinkopt
    >>> def layer(w):
    ...   return jnp.maximum(jnp.array([[1.0], [2.0]]) * w, 0.0)
    >>> (relu,) = kinkopt.kinks.sites(layer, jnp.array([-3.0, 0.0, 4.0]), toward=jnp.ones(3))
    >>> print(relu.total, relu.ties, relu.moving_ties, relu.dead, relu.distance)
    6 2 2 2 3.0

  References:
    None.
  """
  program = write_program("sites", fun, args, argnums)
  if toward is not None:
    toward = (toward,) if isinstance(argnums, int) else tuple(toward)
    program.check("direction `toward`", toward, program.argnums)
  return survey(program, toward, batch_axis, float64, through_stop_gradient)


def survey(
  program: Program,
  toward: tuple[PyTree, ...] | None = None,
  batch_axis: int | None = 0,
  float64: bool = True,
  through_stop_gradient: bool = False,
) -> tuple[SiteStatus, ...]:
  """Says how each winner of a program stands at its arguments; see `sites`."""
  policy = Policy(through_stop_gradient=through_stop_gradient)
  run = _Surveyor(float64, policy, program.is_x64, batch_axis)
  found: list[Site] = []

  def tally(point: Sequence[PyTree]) -> list[_Tally]:
    program.run(run, [program.with_moved(point)])
    found.extend(run.records)
    return list(run.records.values())

  with replaying(float64):
    if toward is None:
      toward = tuple(map(_generic, (program.args[argnum] for argnum in program.argnums)))
    tallies = program.along(run, toward, tally)
  return tuple(
    SiteStatus(site, t.total, t.ties, t.moving_ties, t.distance, _dead(t.lost))
    for site, t in zip(found, tallies, strict=True)
  )


def _dead(lost: Any) -> jax.Array:
  return jnp.int32(-1) if lost is None else jnp.sum(lost, dtype=jnp.int32)
