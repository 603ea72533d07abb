"""Sums over leaves, one number each, as vectors: what every measurement is made of."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from kinkopt._numerics import abs_sq, compute_dtype, safe_divide

AxisName = str | tuple[str, ...] | None


def stacked(numbers: Sequence[jax.Array], dtype: DTypeLike) -> jax.Array:
  """Puts one number for each leaf into a vector, which no derivative passes."""
  vector = jnp.stack(numbers) if numbers else jnp.zeros(0, dtype)
  # The measurement watches; a derivative of the root at 0 must not reach whoever unrolls the steps.
  return jax.lax.stop_gradient(vector.astype(dtype))


def sum_of_squares(leaf: ArrayLike) -> jax.Array:
  """Sums the squares of one leaf, in float32 or wider."""
  # A sum over the leaf as it is: `tree.vdot` and `norm(x.ravel())` gather a sharded leaf first.
  return jnp.sum(abs_sq(jnp.asarray(leaf, compute_dtype(jnp.result_type(leaf)))))


def count(is_so: jax.Array, dtype: DTypeLike) -> jax.Array:
  """Counts the entries that are True; in float32, above 16 million, it is rounded."""
  return jnp.sum(is_so, dtype=dtype)


def over_devices(sums: jax.Array, axis_name: AxisName) -> jax.Array:
  """Adds what the devices of a `shard_map` or the lanes of a `vmap` found, all numbers at once."""
  return sums if axis_name is None else jax.lax.psum(sums, axis_name)


def norm_of_norms(scales: jax.Array) -> jax.Array:
  """Gives the norm of all leaves together, from theirs, along the last axis."""
  # There are few of these, so scaling by the largest (no overflow, no underflow) costs nothing.
  largest = jnp.max(scales, axis=-1, keepdims=True, initial=0)
  scaled = safe_divide(scales, largest)
  return largest[..., 0] * jnp.sqrt(jnp.sum(jnp.square(scaled), axis=-1))
