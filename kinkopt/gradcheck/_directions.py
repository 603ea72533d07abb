"""Random directions, one leaf at a time, keyed by the leaf's name.

A coordinate of a direction is a random sign times a random size between 1/2 and 1.43, whose mean
square is 1. So the derivative along a direction has the gradient's norm as its root mean square,
whatever the gradient; one wrong coordinate contributes at least half of its error; and, unlike with
signs alone, two equal errors cancel with probability 0. Because a leaf's seed is its own, adding a
leaf changes the directions of no other.

The numbers are a hash of the coordinate's number, the same in NumPy and in JAX: a check draws them
outside of its programs, which then hold no random bits to compile.
"""

import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._coordinates import leaf_names
from kinkopt._typing import PyTree

_SMALLEST = 0.5
# The size is uniform on [a, b], whose mean square is (a^2 + ab + b^2) / 3 = 1.
_LARGEST = (math.sqrt(12 - 3 * _SMALLEST**2) - _SMALLEST) / 2
_CHUNK = 2**14
_BITS = 24  # of a hash that make a size; another one makes the sign

Seed = Any  # uint32[2], of NumPy or of JAX


def seed_of(key: jax.Array | None) -> Seed:
  """Gives the seed of a random key; None: of `jax.random.key(0)`."""
  if key is None:
    return np.zeros(2, np.uint32)
  words = jax.random.key_data(key)
  if not isinstance(words, jax.core.Tracer):
    words = np.asarray(words)
  words = words.reshape(-1)
  seed = words[:2]
  for i in range(2, words.size):  # of keys with more words than two
    seed = fold(seed, words[i : i + 1])
  return seed


def fold(seed: Seed, number: int | Any) -> Seed:
  """Gives another seed for each number; of Python, or uint32[1]."""
  if isinstance(number, int):
    number = np.array([number & 0xFFFFFFFF], np.uint32)
  first = _mixed(seed[:1] ^ _mixed(number + np.uint32(0x9E3779B9)))
  second = _mixed(seed[1:] + first)
  return seed.__array_namespace__().concatenate([first, second])


def leaf_seeds(seed: Seed, tree: PyTree) -> list[Seed]:
  """Gives each leaf a seed of its own, by its name alone."""
  return [fold(seed, zlib.crc32(name.encode())) for name in leaf_names(tree)]


def direction(
  seed: Seed, shape: tuple[int, ...], dtype: Any, low: int = 0, high: int | None = None
) -> Any:
  """Draws a direction; for complex ones, of both parts.

  Args:
    seed: of NumPy for an array of NumPy, of JAX for one of JAX.
    shape: its shape.
    dtype: its dtype, floating or complex.
    low: the first coordinate to draw, row-major; then the result is flat.
    high: the first after it that is not drawn; by default all are drawn, in the shape.
  """
  size = math.prod(shape)
  if jnp.issubdtype(dtype, jnp.complexfloating):
    parts = [direction(fold(seed, i), shape, jnp.finfo(dtype).dtype, low, high) for i in (1, 2)]
    return (parts[0] + 1j * parts[1]).astype(dtype)
  xp, stop = seed.__array_namespace__(), size if high is None else high
  if xp is np and stop - low > _CHUNK:  # which stay in the cache of a CPU
    starts = range(low, stop, _CHUNK)
    chunks = [direction(seed, shape, dtype, i, min(i + _CHUNK, stop)) for i in starts]
    drawn = np.concatenate(chunks)
    return drawn.reshape(shape) if high is None else drawn
  number = xp.arange(low, stop, dtype=np.uint32)
  drawn = _mixed(_mixed(number ^ seed[:1]) + seed[1:])
  wide = jnp.dtype(dtype) if jnp.dtype(dtype).itemsize == 8 else np.dtype(np.float32)
  share = (drawn >> np.uint32(32 - _BITS)).astype(wide) * wide.type(2.0**-_BITS)
  magnitude = wide.type(_SMALLEST) + wide.type(_LARGEST - _SMALLEST) * share
  drawn = xp.where(drawn & np.uint32(1) == np.uint32(0), magnitude, -magnitude).astype(dtype)
  return drawn.reshape(shape) if high is None else drawn


def _mixed(x: Any) -> Any:
  """Mixes 32 bits: `lowbias32` of Wellons (2018), "Prospecting for hash functions"."""
  x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
  x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
  return x ^ (x >> np.uint32(16))
