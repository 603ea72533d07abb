"""Random directions, one leaf at a time, keyed by the leaf's name.

A coordinate of a direction is a random sign times a random size between 1/2 and 1.43, whose mean
square is 1. So the derivative along a direction has the gradient's norm as its root mean square,
whatever the gradient; one wrong coordinate contributes at least half of its error; and, unlike with
signs alone, two equal errors cancel with probability 0. Because the key is the leaf's own, adding a
leaf changes the directions of no other.
"""

import math
import zlib

import jax
import jax.numpy as jnp

from kinkopt._coordinates import leaf_names
from kinkopt._typing import PyTree

_SMALLEST = 0.5
# The size is uniform on [a, b], whose mean square is (a^2 + ab + b^2) / 3 = 1.
_LARGEST = (math.sqrt(12 - 3 * _SMALLEST**2) - _SMALLEST) / 2


def leaf_keys(key: jax.Array, tree: PyTree) -> list[jax.Array]:
  """Gives each leaf a random key of its own, by its name alone."""
  return [jax.random.fold_in(key, zlib.crc32(name.encode())) for name in leaf_names(tree)]


def direction(key: jax.Array, like: jax.Array) -> jax.Array:
  """Draws a direction in the shape and the dtype of an array; for complex ones, of both parts."""
  if not jnp.issubdtype(like.dtype, jnp.complexfloating):
    return _real(key, like.shape, like.dtype)
  return jax.lax.complex(*_real(key, (2, *like.shape), jnp.finfo(like.dtype).dtype))


def _real(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
  # The wide arithmetic rounds alike, to 1e-16, however a program is fused or divided.
  drawn = jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0).astype(dtype)
  size = _SMALLEST + (_LARGEST - _SMALLEST) * jnp.abs(drawn)
  return jnp.where(drawn < 0, -size, size)
