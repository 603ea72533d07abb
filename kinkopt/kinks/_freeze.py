"""The selection function of a program at a point."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt import _jax
from kinkopt.kinks._interpreter import Interpreter, Pair, at_moved
from kinkopt.kinks._winners import control, elementwise, ordering  # noqa: F401  fills the table


class Frozen:
  """A function whose winners are decided. See `freeze`."""

  def __init__(self, fun, args, argnums, float64, through_stop_gradient):
    self._args, self._float64, self._through = args, float64, through_stop_gradient
    self._argnums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    self._program, self._shape = _jax.trace(fun, *args)
    self.opaque = ()

  def __call__(self, *moved: Any) -> Any:
    run = Interpreter(self._float64, self._through)
    with jax.enable_x64(True) if self._float64 else jax.numpy_dtype_promotion("standard"):
      args = list(self._args)
      for argnum, value in zip(self._argnums, moved, strict=True):
        args[argnum] = jax.tree.map(
          lambda p, m: Pair(run.widen(jnp.asarray(p)), run.widen(jnp.asarray(m)))
          if jnp.issubdtype(jnp.result_type(p), jnp.inexact) else p, args[argnum], value)
      values = jax.tree.leaves(args, is_leaf=lambda x: isinstance(x, Pair))
      values = [v if isinstance(v, Pair) else jnp.asarray(v) for v in values]
      out = list(map(at_moved, run.run(self._program, values)))
    self.opaque = tuple(run.opaque)
    return jax.tree.unflatten(jax.tree.structure(self._shape), out)


def freeze(
  fun: Callable[..., Any], *args: Any, argnums: int | tuple[int, ...] = 0, float64: bool = True,
  through_stop_gradient: bool = False,
) -> Frozen:
  """Decides every winner of `fun` at `args`."""
  return Frozen(fun, args, argnums, float64, through_stop_gradient)
