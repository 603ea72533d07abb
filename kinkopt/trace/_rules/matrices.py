"""Winners in linear algebra: the rows that an LU factorization pivots on."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kinkopt.trace._registry import Call, Winner, winner


@winner("lu")
class _Pivots(Winner):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    return call.bind(point)[2]

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    factors, pivots, order = call.bind(point)
    # Both by the same elimination, so that it is the primitive's own result at the point.
    shift = _eliminated(_permuted(moved[0], order)) - _eliminated(_permuted(point[0], order))
    return [factors + shift, pivots, order]


def _permuted(a: Any, order: Any) -> Any:
  return jnp.take_along_axis(a, order[..., None], axis=-2)


def _eliminated(a: Any) -> jax.Array:
  """Factorizes without pivoting: the strict lower part is L, the rest U."""
  rows, columns = a.shape[-2:]

  def eliminate(k: Any, a: Any) -> Any:
    pivot = lax.dynamic_index_in_dim(a, k, -2)
    column = lax.dynamic_index_in_dim(a, k, -1)
    at = lax.dynamic_index_in_dim(pivot, k, -1)
    below = jnp.arange(rows)[:, None] > k
    right = jnp.arange(columns)[None] > k
    factor = jnp.where(below, column / at, 0)
    a = a - jnp.where(right, factor * pivot, 0)
    here = jnp.arange(columns)[None] == k
    return jnp.where(below & here, factor, a)

  return lax.fori_loop(0, min(rows, columns), eliminate, a)
