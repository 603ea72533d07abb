"""Updates that are called outside of `jit`, compiled all the same.

An update of Newton's method searches in a loop, and JAX compiles a loop that it meets outside of
`jit` anew at each call. Here the whole update is traced anew, because the loss may have changed in
the meantime, as when it closes over a batch; but it is compiled only if its program has changed.
"""

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from kinkopt import _jax

_KEPT = 128
_ARGUMENTS = (jax.Array, np.ndarray, float, complex, np.inexact)


def compiled(update: Callable[..., Any]) -> Callable[..., Any]:
  """Compiles an update where nothing else does.

  Arrays and fractions are arguments of the program, those that the loss closes over too. Whatever
  else it is called with, such as a flag or a count, the loss may branch on: it is traced as it is.
  """

  @functools.wraps(update)
  def maybe_compiled(
    updates: optax.Updates, state: Any, params: optax.Params | None = None, **kwargs: Any
  ) -> tuple[optax.Updates, Any]:
    args = (updates, state, params)
    if _jax.is_traced():
      return update(*args, **kwargs)
    leaves, tree = jax.tree.flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, _ARGUMENTS)]

    def on_arrays(arrays: list[Any]) -> Any:
      given = dict(zip(places, arrays))
      args, kwargs = tree.unflatten([given.get(i, leaf) for i, leaf in enumerate(leaves)])
      return update(*args, **kwargs)

    arrays = [leaves[i] for i in places]
    program, shapes = _jax.trace(on_arrays, arrays)
    code, constants = _jax.closed(program)
    operands = (list(constants), arrays)

    def newton_update(constants: list[Any], arrays: list[Any]) -> list[Any]:
      return _jax.evaluate(code, constants, arrays)

    lowered = jax.jit(newton_update).lower(*operands)
    shardings = [getattr(x, "sharding", None) for x in jax.tree.leaves(operands)]
    kept = _kept(hashlib.sha256(lowered.as_text().encode()).digest(), tuple(shardings))
    if "run" not in kept:
      kept["run"] = lowered.compile()
    return jax.tree.unflatten(jax.tree.structure(shapes), kept["run"](*operands))

  return maybe_compiled


@_jax.kept(_KEPT)
def _kept(text: bytes, shardings: tuple[Any, ...]) -> dict[str, Any]:
  """Gives what is kept of a program; at first nothing."""
  return {}
