"""The selection function of a program at a point.

Near a point where nothing ties, a program with kinks equals one smooth program: that in which each
winner is fixed to who wins at the point. `freeze` makes this program, so that a difference cannot
cross a kink, however long its step.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt import _jax
from kinkopt._checks import check_same_tree, dtype_of
from kinkopt._typing import PyTree
from kinkopt.kinks._interpreter import Interpreter, Pair, at_moved, is_pair
from kinkopt.kinks._winners import control, elementwise, ordering, scatter

# Their decorators have filled the table.
_FAMILIES = (control, elementwise, ordering, scatter)


@dataclasses.dataclass(frozen=True, eq=False)
class Frozen:
  """A function whose winners are decided at a point. See `freeze`."""

  program: Any
  result: Any  # the pytree of the results, its leaves shapes and dtypes
  args: tuple[PyTree, ...]
  argnums: tuple[int, ...]
  float64: bool
  through_stop_gradient: bool
  opaque: tuple[str, ...] = ()

  def __call__(self, *moved: PyTree) -> PyTree:
    """Evaluates at moved arguments, those of `argnums` in their order."""
    if len(moved) != len(self.argnums):
      raise ValueError(
        f"A function frozen with `argnums={self.argnums}` takes these arguments alone, but was "
        f"given {len(moved)}. The others are those of the point; leave them out."
      )
    for argnum, value in zip(self.argnums, moved):
      check_same_tree("frozen", "moved argument", value, "point", self.args[argnum])
    return self._run(moved)[0]

  def _run(self, moved: Sequence[PyTree]) -> tuple[PyTree, tuple[str, ...]]:
    interpreter = Interpreter(self.float64, self.through_stop_gradient)
    # Elsewhere 64 bits stay as the caller has them.
    wide = jax.enable_x64(True) if self.float64 else contextlib.nullcontext()
    with wide, jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
      args = list(self.args)
      for argnum, value in zip(self.argnums, moved):
        args[argnum] = jax.tree.map(
          lambda p, m: _enter(interpreter, p, m), self.args[argnum], value
        )
      values = jax.tree.leaves(args, is_leaf=is_pair)
      values = [v if is_pair(v) or hasattr(v, "dtype") else jnp.asarray(v) for v in values]
      leaves = list(map(at_moved, interpreter.run(self.program, values)))
    return jax.tree.unflatten(jax.tree.structure(self.result), leaves), tuple(interpreter.opaque)


def _enter(interpreter: Interpreter, point: Any, moved: Any) -> Any:
  dtype = dtype_of(point)
  if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
    return point
  wide = interpreter.wide(jnp.result_type(point))
  return Pair(jnp.asarray(point, wide), jnp.asarray(moved, wide))


def freeze(
  fun: Callable[..., Any],
  *args: PyTree,
  argnums: int | Sequence[int] = 0,
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
    float64: replay what depends on them in float64 (complex128), without `jax_enable_x64`; the rest
      keeps its dtypes, so random draws and masks are those of `fun`. False: in its own precision.
    through_stop_gradient: whether moves pass `stop_gradient`; by default it yields the point's
      value, as the derivative sees it.

  Returns:
    A pure function `frozen(*moved)` of the moved arguments alone; it works under `jit`, `vmap` and
    `grad`. `frozen.opaque` names what could not be seen into, with the source line: such primitives
    are run as they are, in their own precision.

  Raises:
    ValueError: if `argnums` names an argument that is not there; at the call, if the number, the
      trees or the shapes of the moved arguments are not the point's.

  Numerics:
    At an exact tie the decision is what JAX's derivative takes: both halves for `max`, `x` for
    `abs`, all of the tied for `reduce_max`, the first for `sort`. Custom derivative rules are left
    out: the function is what is evaluated. Under a caller's `jit`, turn on 64 bits around it.

  Example:
    >>> import jax, jax.numpy as jnp, kinkopt
    >>> frozen = kinkopt.kinks.freeze(jnp.abs, jnp.array([-1.0, 2.0]))
    >>> print(frozen(jnp.array([0.5, -3.0])))
    [-0.5 -3. ]

  References:
    Selection functions: Scholtes (2012), "Introduction to Piecewise Differentiable Equations".
  """
  chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
  for argnum in chosen:
    if not 0 <= argnum < len(args):
      raise ValueError(
        f"`freeze(argnums={argnums})` names argument {argnum}, but the point has {len(args)} "
        "arguments. Count from 0, and pass the point after the function: `freeze(fun, *args)`."
      )
  program, result = _jax.trace(fun, *args)
  frozen = Frozen(program, result, args, chosen, float64, through_stop_gradient)
  seen: list[tuple[str, ...]] = []

  def look(moved: Sequence[PyTree]) -> PyTree:
    value, opaque = frozen._run(moved)
    seen.append(opaque)
    return value

  jax.eval_shape(look, [args[argnum] for argnum in chosen])
  return dataclasses.replace(frozen, opaque=seen[-1])
