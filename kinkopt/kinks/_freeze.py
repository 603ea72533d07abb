"""The selection function of a program at a point.

Near a point where nothing ties, a program with kinks equals one smooth program: that in which each
winner is fixed to who wins at the point. `freeze` makes this program, so that a difference cannot
cross a kink, however long its step.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from kinkopt._typing import PyTree
from kinkopt.kinks._interpreter import Interpreter, Lanes, is_inexact, lane, replaying
from kinkopt.kinks._program import Program, write_program
from kinkopt.kinks._registry import Call, Winner
from kinkopt.kinks._replay import Replay
from kinkopt.kinks._reveal import reveal


class _Freezer(Interpreter):
  """Two lanes: the point, which decides, and the moved point, which follows."""

  count = 2

  def __init__(self, float64: bool, through_stop_gradient: bool, has_direction: bool):
    super().__init__(float64, through_stop_gradient)
    self.has_direction = has_direction

  def run_winner(self, winner: Winner, call: Call, values: list[Any]) -> list[Any]:
    point, moved = ([self.widen(lane(value, i)) for value in values] for i in (0, 1))
    if not self.has_direction:
      decision = winner.decide(call, point, None)
      fixed = winner.value(call, decision, point)
    else:
      seen, rates = ([jax.lax.stop_gradient(x) for x in part] for part in reveal(point))
      decision = winner.decide(call, seen, rates)
      fixed = winner.follow(call, decision, point, point)
    following = winner.follow(call, decision, point, moved)
    return [Lanes((p, m)) if is_inexact(p) else p for p, m in zip(fixed, following, strict=True)]

  def stop_gradient(self, value: Any) -> Any:
    point = jax.lax.stop_gradient(lane(value, 0))
    return Lanes((point, point))

  def alone(self) -> Replay:
    return Replay.within(self)


@dataclasses.dataclass(frozen=True, eq=False)
class Frozen:
  """A function whose winners are decided at a point. See `freeze`."""

  program: Program
  toward: tuple[PyTree, ...] | None
  float64: bool
  through_stop_gradient: bool
  opaque: tuple[str, ...] = ()

  def __call__(self, *moved: PyTree) -> PyTree:
    """Evaluates at moved arguments, those of `argnums` in their order."""
    argnums = self.program.argnums
    if len(moved) != len(argnums):
      raise ValueError(
        f"A function frozen with `argnums={argnums}` takes these arguments alone, but was "
        f"given {len(moved)}. The others are those of the point; leave them out."
      )
    self.program.check("moved argument", moved, argnums)
    return self._run(moved)[0]

  def _run(self, moved: Sequence[PyTree]) -> tuple[PyTree, tuple[str, ...]]:
    program = self.program.held()
    run = _Freezer(self.float64, self.through_stop_gradient, self.toward is not None)
    args = program.with_moved(moved)
    with replaying(self.float64):
      if self.toward is None:
        result = program.run(run, [program.args, args])
      else:
        result = program.along(
          run, self.toward, lambda point: program.run(run, [program.with_moved(point), args])
        )
    return result, tuple(run.opaque)


def freeze(
  fun: Callable[..., Any],
  *args: PyTree,
  argnums: int | Sequence[int] = 0,
  toward: PyTree | None = None,
  float64: bool = True,
  through_stop_gradient: bool = False,
) -> Frozen:
  """Fixes every winner of a function to who wins at a point.

  Each max, abs, compare, select, clamp, sort, top_k, argmax, rounding, branch and trip count is
  decided by the values at `args`; the moved values follow. So the result is smooth where `fun` has
  kinks, equals `fun` wherever no winner differs, and has the derivative of `fun` at the point.

  Args:
    fun: a function of pytrees that JAX can trace; it is traced once, in the dtypes of `args`.
    *args: the point.
    argnums: which arguments move; integer leaves in them stay the point's.
    toward: a direction, shaped like the moving argument (a tuple of them where `argnums` is one):
      winners that tie at the point are decided by how their margins move along it, and the value
      at the point is the limit from that side. So the derivative of the frozen function along
      `toward` is the exact one-sided derivative, on a kink as well.
    float64: replay what depends on them in float64 (complex128), without `jax_enable_x64`; the rest
      keeps its dtypes, so random draws and masks are those of `fun`. False: in its own precision.
    through_stop_gradient: whether moves pass `stop_gradient`; by default it yields the point's
      value, as the derivative sees it.

  Returns:
    A pure function `frozen(*moved)` of the moved arguments alone; it works under `jit`, `vmap` and
    `grad`. `frozen.opaque` names what could not be seen into, with the source line: such primitives
    are run as they are, in their own precision.

  Raises:
    TypeError: if a moved argument is complex where the point's is real.
    ValueError: if `argnums` names an argument that is not there; if the tree or the shapes of
      `toward`, or, at the call, of the moved arguments are not the point's.

  Numerics:
    At an exact tie the decision is what JAX's derivative of the primitive takes: both halves for
    `max`, `x` for `abs`, all of the tied for `reduce_max`, the first for `sort`. (`jax.nn.relu` has
    a rule of its own, by which its derivative at 0 is 0.) Custom derivative rules are left
    out: the function is what is evaluated. For a caller's `jit` see `in_float64`.

  Example:
    >>> import jax, jax.numpy as jnp, kinkopt
    >>> frozen = kinkopt.kinks.freeze(jnp.abs, jnp.array([-1.0, 2.0]))
    >>> print(frozen(jnp.array([0.5, -3.0])))
    [-0.5 -3. ]

  References:
    Selection functions: Scholtes (2012), "Introduction to Piecewise Differentiable Equations".
  """
  program = write_program("freeze", fun, args, argnums)
  if toward is not None:
    toward = (toward,) if isinstance(argnums, int) else tuple(toward)
    program.check("direction `toward`", toward, program.argnums)
  frozen = Frozen(program, toward, float64, through_stop_gradient)
  seen: list[tuple[str, ...]] = []

  def look(moved: Sequence[PyTree]) -> PyTree:
    value, opaque = frozen._run(moved)
    seen.append(opaque)
    return value

  jax.eval_shape(look, [args[argnum] for argnum in program.argnums])
  return dataclasses.replace(frozen, opaque=seen[-1])
