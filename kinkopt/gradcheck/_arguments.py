"""Arguments as arrays alone: everything else goes into the tree's structure.

A model may hold strings, functions or sizes among its leaves. They have no gradient, and a program
may depend on them as Python does, so they are put where JAX keeps what is static, and shown again
to whoever asks for them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._checks import dtype_of
from kinkopt._typing import PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class _Hidden:
  """A leaf that is no array, as a node without leaves."""

  value: Any

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, _Hidden):
      return False
    return self.value is other.value or self._key() == other._key()

  def __hash__(self) -> int:
    return hash(self._key())

  def _key(self) -> Any:
    try:
      hash(self.value)
    except TypeError:
      return id(self.value)
    return type(self.value), self.value


def is_array(leaf: Any) -> bool:
  """Whether JAX takes a leaf for an array: numbers, truth values and random keys."""
  dtype = dtype_of(leaf)
  kinds = (jnp.number, jnp.bool_, jax.dtypes.extended)
  return dtype is not None and any(jnp.issubdtype(dtype, kind) for kind in kinds)


def is_inexact(leaf: Any) -> bool:
  """Whether a leaf or a shape is real or complex floating point, and so has a gradient."""
  return is_array(leaf) and jnp.issubdtype(dtype_of(leaf), jnp.inexact)


def hide(tree: PyTree, moves: bool = True) -> PyTree:
  """Puts each leaf that is no array out of sight.

  Args:
    tree: an argument.
    moves: whether it is differentiated, so that Python's floating numbers stand for arrays.
  """
  static = (bool, int) if moves else (bool, int, float, complex)

  def hidden(leaf: Any) -> Any:
    is_static = not is_array(leaf) or (
      isinstance(leaf, static) and not isinstance(leaf, np.generic)
    )
    return _Hidden(leaf) if is_static else leaf

  return jax.tree.map(hidden, tree)


def show(tree: PyTree) -> PyTree:
  """Gives back the leaves that `hide` put away."""
  is_hidden = lambda node: isinstance(node, _Hidden)  # noqa: E731
  return jax.tree.map(lambda x: x.value if is_hidden(x) else x, tree, is_leaf=is_hidden)


def of_shown(fun: Callable[..., Any]) -> Callable[..., Any]:
  """Lets a function be called with arguments some leaves of which are hidden."""
  return lambda *args: fun(*show(args))


def without_hidden(tree: PyTree, like: PyTree) -> PyTree:
  """Puts None in the place of what is hidden in another tree, and has no gradient there.

  A tree that is not like the other one is given back as it is.
  """

  def kept(node: Any, leaf: Any) -> Any:
    return None if isinstance(node, _Hidden) else leaf

  try:
    return jax.tree.map(kept, like, tree, is_leaf=lambda node: isinstance(node, _Hidden))
  except ValueError:
    return tree
