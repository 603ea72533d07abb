"""A pytree as a row of named numbers.

Messages and reports name a place as the user would index it, `['dense']['w'][3, 7]`; Newton and the
numerical gradient see the same tree as one real vector. Both views number the coordinates alike:
leaf after leaf in JAX's order, row-major within a leaf, a complex number as its real part and then
its imaginary part.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import keystr

from kinkopt._numerics import compute_dtype, real_dtype
from kinkopt._typing import PyTree


def leaf_names(tree: PyTree) -> list[str]:
  """Names each leaf by its path, as one would index it; the leaf of a bare array is `(root)`.

  Example:
    >>> leaf_names({"dense": {"w": 1.0, "b": 2.0}, "scales": [3.0]})
    ["['dense']['b']", "['dense']['w']", "['scales'][0]"]
  """
  return [keystr(path) or "(root)" for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def coordinate_name(tree: PyTree, index: int) -> str:
  """Names the coordinate at `index` of the tree's leaves laid end to end.

  Unlike `ravel_real`, this counts a complex number as one coordinate.

  Raises:
    IndexError: if the tree has no coordinate of that number.

  Example:
    >>> import jax.numpy as jnp
    >>> coordinate_name({"b": jnp.zeros(3), "w": jnp.zeros((2, 4))}, 8)
    "['w'][1, 1]"
  """
  offset = index
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    shape, size = jnp.shape(leaf), math.prod(jnp.shape(leaf))
    if 0 <= offset < size:
      place = []
      for length in reversed(shape):
        offset, position = divmod(offset, length)
        place.append(str(position))
      return keystr(path) + (f"[{', '.join(reversed(place))}]" if place else "") or "(root)"
    offset -= size
  raise IndexError(f"The tree has no coordinate {index}: it has {index - offset} coordinates.")


def split_real(tree: PyTree) -> tuple[list[jax.Array], Callable[[list[jax.Array]], PyTree]]:
  """Gives the leaves of a tree of floating or complex numbers as real arrays of one dtype.

  Nothing is laid end to end, so the arrays are sharded as the leaves are.

  Args:
    tree: a pytree of floating or complex arrays.

  Returns:
    `(parts, join)`: one array for each leaf, in the widest real dtype among the leaves (float32 at
    the least), a complex one with a last axis of length 2 for its real and its imaginary part; and
    the way back, which gives each leaf its shape and dtype again.

  Example:
    >>> import jax.numpy as jnp
    >>> parts, join = split_real({"a": jnp.array([1.0, 2.0]), "z": jnp.array(3.0 + 4.0j)})
    >>> print(*parts)
    [1. 2.] [3. 4.]
    >>> print(join(parts)["z"])
    (3+4j)
  """
  leaves, treedef = jax.tree.flatten(tree)
  dtypes = [jnp.result_type(leaf) for leaf in leaves]
  dtype = compute_dtype(*map(real_dtype, dtypes))

  def split(leaf: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(leaf):
      leaf = jnp.stack([jnp.real(leaf), jnp.imag(leaf)], axis=-1)
    return jnp.asarray(leaf, dtype)

  def join(parts: list[jax.Array]) -> PyTree:
    leaves = [
      jax.lax.complex(part[..., 0], part[..., 1]).astype(dtype)
      if jnp.issubdtype(dtype, jnp.complexfloating)
      else part.astype(dtype)
      for part, dtype in zip(parts, dtypes)
    ]
    return jax.tree.unflatten(treedef, leaves)

  return [split(leaf) for leaf in leaves], join


def ravel_real(tree: PyTree) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
  """Lays a tree of floating or complex leaves out as one real vector.

  Args:
    tree: a pytree of floating or complex arrays; an empty one gives a vector of length 0.

  Returns:
    `(vector, unravel)`: the coordinates in the widest real dtype among the leaves (float32 at the
    least), and the way back, which gives each leaf its shape and dtype again.

  Example:
    >>> import jax.numpy as jnp
    >>> vector, unravel = ravel_real({"a": jnp.array([1.0, 2.0]), "z": jnp.array(3.0 + 4.0j)})
    >>> print(vector)
    [1. 2. 3. 4.]
    >>> print(unravel(vector)["z"])
    (3+4j)
  """
  parts, join = split_real(tree)
  vector, unravel_parts = ravel_pytree(parts)
  dtype = compute_dtype(vector.dtype)  # of no parts at all
  return vector.astype(dtype), lambda vector: join(unravel_parts(vector))
