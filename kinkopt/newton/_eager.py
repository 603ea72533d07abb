"""Updates that are called outside of `jit`, compiled all the same.

An update of Newton's method searches in a loop, and JAX compiles a loop that it meets outside of
`jit` anew at each call: 0.7 s for two parameters, ten thousand times the step itself.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.typing import ArrayLike

from kinkopt._jax import is_traced

# Programs kept by each transform. Each holds its loss, with all that it closes over, so few.
_KEPT = 8
_ARGUMENTS = (jax.Array, np.ndarray, float, complex, np.inexact)


def compiled(update: Callable[..., Any]) -> Callable[..., Any]:
  """Compiles an update where nothing else does: once for each loss, structure, shape and dtype.

  Arrays and fractions are arguments of the program. Whatever else it is called with, such as the
  loss, a flag or a count, on which the loss may branch, is a constant of it.
  """

  @functools.lru_cache(maxsize=_KEPT)
  def program(tree: Any, constants: tuple[tuple[type, Any] | None, ...]) -> Callable[..., Any]:
    def newton_update(arrays: list[ArrayLike]) -> Any:
      given = iter(arrays)
      leaves = [next(given) if held is None else held[1] for held in constants]
      args, kwargs = tree.unflatten(leaves)
      return update(*args, **kwargs)

    return jax.jit(newton_update)

  @functools.wraps(update)
  def maybe_compiled(
    updates: optax.Updates, state: Any, params: optax.Params | None = None, **kwargs: Any
  ) -> tuple[optax.Updates, Any]:
    args = (updates, state, params)
    if is_traced():
      return update(*args, **kwargs)
    leaves, tree = jax.tree.flatten((args, kwargs))
    is_argument = [isinstance(leaf, _ARGUMENTS) for leaf in leaves]
    # With the type, because 1 and True are equal.
    constants = tuple(None if a else (type(leaf), leaf) for a, leaf in zip(is_argument, leaves))
    try:
      run = program(tree, constants)
    except TypeError:  # something that cannot be hashed
      return update(*args, **kwargs)
    return run([leaf for a, leaf in zip(is_argument, leaves) if a])

  return maybe_compiled
