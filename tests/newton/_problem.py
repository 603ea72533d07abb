"""What a test problem of minimisation is: residuals, where to start, and what is known of minima.

All of them are sums of squares, as their sources state them; a method for general losses sees only
`loss`. The residuals are JAX functions that keep the dtype of the point and can be differentiated
twice; constants are NumPy's in 64 bits, and meet the point through `like`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
  """The least-squares problem `minimise sum(residual(x) ** 2)`.

  `starts` are float64, named by `start_names`. `minima` are values of the loss, the global one
  first; the further ones are local minima, and some are only approached at infinity, so that
  `minimisers`, the known points where one of `minima` is attained, need not have one for each.
  """

  name: str
  residual: Callable[[jax.Array], jax.Array]
  starts: tuple[np.ndarray, ...]
  start_names: tuple[str, ...]
  minima: tuple[float, ...]
  minimisers: tuple[np.ndarray, ...] = ()
  is_unconstrained_set: bool = False

  @property
  def dimension(self) -> int:
    return len(self.starts[0])

  def loss(self, x: jax.Array) -> jax.Array:
    return jnp.sum(self.residual(x) ** 2)


def like(x: jax.Array, values) -> jax.Array:
  """Constants in the dtype of the point, as strict promotion asks."""
  return jnp.asarray(np.asarray(values), x.dtype)


def count(last: int, first: int = 1) -> np.ndarray:
  """The numbers first, ..., last, as the papers count."""
  return np.arange(first, last + 1, dtype=np.float64)
