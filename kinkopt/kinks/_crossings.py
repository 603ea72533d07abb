"""Which winners differ between two points.

Both points are run in step, each deciding for itself, and at every winner the decisions are
compared and counted. Nothing is stored, so a loop of any length can be counted through.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt._typing import PyTree
from kinkopt.trace._interpreter import Interpreter, Lanes, is_active, lane, replaying
from kinkopt.trace._policy import Policy
from kinkopt.trace._program import as_tuple, write_program
from kinkopt.trace._registry import Call, Winner
from kinkopt.trace._replay import Replay
from kinkopt.trace._site import Site


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Crossing:
  """How many units of a winner decide differently at two points.

  A pytree: `site` is static and the counts are int32 arrays, so `crossings` can be jitted.
  """

  site: Site = dataclasses.field(metadata={"static": True})
  changed: jax.Array  # units that decide differently
  total: jax.Array  # units that were compared, over all turns of the loops around

  @property
  def share(self) -> jax.Array:
    """The share of the units that decide differently; 0 where there is none."""
    return self.changed / jnp.maximum(self.total, 1)

  def __str__(self) -> str:
    changed, total = int(self.changed), int(self.total)
    return f"{self.site}: {changed:,} of {total:,} ({float(self.share):.1%})"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Count:
  changed: jax.Array
  total: jax.Array

  def empty(self) -> "_Count":
    return _Count(jnp.int32(0), jnp.int32(0))

  def merge(self, other: "_Count") -> "_Count":
    return _Count(self.changed + other.changed, self.total + other.total)

  def only_if(self, holds: jax.Array) -> "_Count":
    return _Count(jnp.where(holds, self.changed, 0), jnp.where(holds, self.total, 0))


def _counted(changed: jax.Array) -> _Count:
  return _Count(jnp.sum(changed, dtype=jnp.int32), jnp.int32(changed.size))


class _Comparer(Interpreter):
  """Two lanes that each decide for themselves."""

  count = 2
  decided_lanes = 2
  is_apart = True

  def run_winner(self, winner: Winner, call: Call, values: list[Any]) -> list[Any]:
    decisions, results = [], []
    for i in range(self.count):
      point = [self.widen(lane(value, i)) for value in values]
      decisions.append(winner.decide(call, point, None))
      results.append(winner.value(call, decisions[-1], point))
    if any(is_active(v) and jnp.issubdtype(v.values[0].dtype, jnp.inexact) for v in values):
      changed = winner.changed(call, *decisions)
      self.merge(self.site(call.name, changed), _counted(changed))
    return [Lanes(pair) for pair in zip(*results, strict=True)]

  def stop_gradient(self, value: Any) -> Any:
    return Lanes(tuple(map(jax.lax.stop_gradient, value.values)))

  def alone(self) -> Replay:
    return Replay.within(self)

  def record_parting(self, name: str, decisions: Lanes) -> None:
    changed = jnp.asarray(decisions.values[0] != decisions.values[1])
    self.merge(self.site(name, changed), _counted(changed))


def crossings(
  fun: Callable[..., Any],
  args_a: tuple[PyTree, ...],
  args_b: tuple[PyTree, ...],
  *,
  argnums: int | Sequence[int] | None = None,
  float64: bool = True,
) -> tuple[Crossing, ...]:
  """Counts, for each winner of a program, the units that decide differently at two points.

  After a training step: which ReLUs did the update flip, in which layer? Before a difference: does
  the probe cross a kink?

  Args:
    fun: a function of pytrees that JAX can trace; it is traced once, in the dtypes of `args_a`.
    args_a: the arguments at one point, as a tuple.
    args_b: those at the other, with the same trees and shapes.
    argnums: which arguments differ; the others are taken from `args_a`. By default all.
    float64: decide in float64, so that only real crossings count; False: in the program's own
      precision, where a decision can also change by rounding.

  Returns:
    A `Crossing` for each winner whose floating operands depend on the arguments, in the order of
    the program; those that did not change as well. A unit is what is decided by itself: an element
    of a `max`, a window of a pooling, an output of a `reduce_max`, a place in a sorted row, a
    branch of a `cond`, the trip count of a `while`. Winners in a loop are counted over all turns
    that both points make; where the points take different branches, the branch is counted and its
    inside not.

  Raises:
    TypeError: if `args_a` or `args_b` is no tuple.
    ValueError: if the trees or the shapes of the two points differ, or `argnums` names an argument
      that is not there.
    NotImplementedError: if a winner stands inside `shard_map`.

  Numerics:
    A tie is a decision of its own, so leaving a kink counts as a change. Counts are int32.

  Example:
    >>> import jax, jax.numpy as jnp, kinkopt
    >>> def layer(x):
    ...   return jnp.maximum(x, 0.0)
    >>> a, b = jnp.array([-1.0, 2.0]), jnp.array([1.0, 3.0])
    >>> (relu,) = kinkopt.kinks.crossings(layer, (a,), (b,))
    >>> print(relu.site.primitive, relu.changed, "of", relu.total)
    max 1 of 2

  References:
    None.
  """
  args_a, args_b = as_tuple("crossings", "args_a", args_a), as_tuple("crossings", "args_b", args_b)
  program = write_program("crossings", fun, args_a, argnums)
  program.check("second point's argument", args_b, range(len(program.args)))
  args_b = tuple(
    b if argnum in program.argnums else a
    for argnum, (a, b) in enumerate(zip(program.args, args_b, strict=True))
  )
  run = _Comparer(float64, Policy(), program.is_x64)
  with replaying(float64):
    program.run(run, [program.args, args_b])
  return tuple(Crossing(site, c.changed, c.total) for site, c in run.records.items())
