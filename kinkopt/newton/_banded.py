"""Hessians whose entries lie close to the diagonal: chains, time series, boundary values.

A band of half-width `b` needs `2 b + 1` products with vectors, whatever the number of coordinates,
because columns `2 b + 1` apart share no row (Curtis, Powell and Reid, 1974). It is factored block
by block, in time and memory linear in the number of coordinates.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg

from kinkopt._checks import Interval
from kinkopt._numerics import machine_eps
from kinkopt.newton._checks import check_option
from kinkopt.newton._columns import coloured_products
from kinkopt.newton._curvature import Curvature, Hessian, Linearization, check_batch_size
from kinkopt.newton._matrix import Factor, Matrix
from kinkopt.newton._point import Point

# Blocks are at least so large, so that a step of the scan does more than to be called.
LEAST_BLOCK = 16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Banded(Matrix):
  """A symmetric matrix by its lower bands: `bands[i, k]` is the entry in row i, column i - k."""

  bands: jax.Array  # float[n, b + 1]; where i < k, not looked at

  @property
  def arrays(self) -> tuple[jax.Array, ...]:
    return (self.bands,)

  def with_arrays(self, arrays: tuple[jax.Array, ...]) -> "Banded":
    return Banded(*arrays)

  @property
  def _width(self) -> int:
    return self.bands.shape[1] - 1

  def _sides(self, vector: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Gives, for each band, the vector as the rows below and above the diagonal meet it."""
    n = len(vector)
    return [
      (jnp.pad(vector, (k, 0))[:n], jnp.pad(vector, (0, k))[k:]) for k in range(self._width + 1)
    ]

  def _halves(self, magnitudes: bool) -> list[tuple[jax.Array, jax.Array]]:
    """Gives, for each band, its entries by row: those left of the diagonal, those right of it."""
    n = len(self.bands)
    found = []
    for k in range(self._width + 1):
      band = jnp.where(jnp.arange(n) >= k, self.bands[:, k], 0)
      band = jnp.abs(band) if magnitudes else band
      found.append((band, jnp.pad(band, (0, k))[k:]))
    return found

  def dense(self) -> jax.Array:
    lower = jnp.zeros((len(self.bands),) * 2, self.bands.dtype)
    for k in range(min(self._width, len(self.bands) - 1) + 1):
      lower = lower + jnp.diag(self.bands[k:, k] / (2 if k == 0 else 1), -k)
    return lower + lower.T

  def diagonal(self) -> jax.Array:
    return self.bands[:, 0]

  def identity(self) -> "Banded":
    return Banded(jnp.zeros_like(self.bands).at[:, 0].set(1))

  def mv(self, vector: jax.Array) -> jax.Array:
    sides, halves = self._sides(vector), self._halves(magnitudes=False)
    product = halves[0][0] * vector
    for (left, right), (below, above) in zip(halves[1:], sides[1:], strict=True):
      product = product + left * below + right * above
    return product

  def scaled(self, scales: jax.Array) -> "Banded":
    n = len(scales)
    columns = [jnp.pad(scales, (k, 0), constant_values=1)[:n] for k in range(self._width + 1)]
    return Banded(self.bands / scales[:, None] / jnp.stack(columns, axis=1))

  def row_largest(self) -> jax.Array:
    halves = [half for pair in self._halves(magnitudes=True) for half in pair]
    return jnp.max(jnp.stack(halves), axis=0)

  def bound(self) -> jax.Array:
    (middle, _), *others = self._halves(magnitudes=True)
    return jnp.max(sum((left + right for left, right in others), middle))

  def factor(self, shift: jax.Array) -> Factor:
    """Factors by Cholesky's method, block after block; see `Blocks.factor` on what is definite."""
    bands = self.bands.at[:, 0].add(shift)
    diagonal, below = _blocks(bands)
    size = diagonal.shape[-1]

    def eliminate(previous: jax.Array, block: tuple[jax.Array, jax.Array]) -> Any:
      middle, left = block
      coupling = jax.scipy.linalg.solve_triangular(previous, left.T, lower=True).T
      rest = middle - jnp.matmul(coupling, coupling.T, precision="highest")
      lower = jnp.linalg.cholesky(rest, symmetrize_input=False)
      return lower, (lower, coupling)

    one = jnp.eye(size, dtype=bands.dtype)
    _, (lowers, couplings) = jax.lax.scan(eliminate, one, (diagonal, below))
    pivots = jnp.diagonal(lowers, axis1=1, axis2=2) ** 2
    floor = size * machine_eps(bands.dtype) * jnp.diagonal(diagonal, axis1=1, axis2=2)
    return Factor((lowers, couplings), jnp.all(pivots > floor))

  def solve(self, arrays: Any, vector: jax.Array) -> jax.Array:
    lowers, couplings = arrays
    count, size = lowers.shape[:2]
    pieces = jnp.pad(vector, (0, count * size - len(vector))).reshape(count, size)

    def forward(previous: jax.Array, row: tuple[jax.Array, ...]) -> Any:
      lower, coupling, piece = row
      found = jax.scipy.linalg.solve_triangular(lower, piece - coupling @ previous, lower=True)
      return found, found

    def backward(following: jax.Array, row: tuple[jax.Array, ...]) -> Any:
      lower, coupling, piece = row
      found = jax.scipy.linalg.solve_triangular(lower, piece - following, lower=True, trans=1)
      return coupling.T @ found, found

    zero = jnp.zeros(size, vector.dtype)
    _, half = jax.lax.scan(forward, zero, (lowers, couplings, pieces))
    _, found = jax.lax.scan(backward, zero, (lowers, couplings, half), reverse=True)
    return found.reshape(-1)[: len(vector)]


def _blocks(bands: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Cuts a band into square blocks on the diagonal, and those to the left of them."""
  n, width = bands.shape[0], bands.shape[1] - 1
  size = max(width, LEAST_BLOCK)
  count = -(-n // size)
  # The rows that are missing to a whole block are those of the identity.
  rest = jnp.zeros((count * size - n, width + 1), bands.dtype).at[:, 0].set(1)
  rows = jnp.concatenate([bands, rest]).reshape(count, size, width + 1)
  i, j = jnp.indices((size, size))

  def pick(distance: jax.Array) -> jax.Array:
    taken = rows[:, i, jnp.clip(distance, 0, width)]
    return jnp.where((distance >= 0) & (distance <= width), taken, 0)

  lower = pick(i - j)
  left = pick(i - j + size).at[0].set(0)
  return lower + jnp.where(i > j, lower, 0).swapaxes(1, 2), left


@dataclasses.dataclass(frozen=True)
class BandedHessian(Curvature):
  """The second derivatives between coordinates that are close to each other.

  Args:
    bandwidth: how far from the diagonal an entry may lie, >= 0; the coordinates count leaf after
      leaf. 1 is a tridiagonal Hessian. Entries outside are added to others, so that a bandwidth
      which is too small slows Newton's method down; it does not make it climb.
    batch_size: how many products are made at once; see `Hessian`.

  Numerics:
    `2 * bandwidth + 1` products with vectors, memory `n * (bandwidth + 1)` and a factor in time
    `n * bandwidth**2`: a chain of 100,000 variables is no matter.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import kinkopt
    >>> def chain(x):
    ...   return jnp.sum((x[1:] - x[:-1] ** 2) ** 2) + jnp.sum((x - 1) ** 2)
    >>> tx = kinkopt.newton.newton(curvature=kinkopt.newton.BandedHessian(1))
    >>> found = kinkopt.minimize(chain, jnp.zeros(10_000), tx)
    >>> print(found.steps < 10, jnp.abs(found.params - 1).max() < 1e-3)
    True True

  References:
    Curtis, Powell and Reid (1974).
  """

  bandwidth: int
  batch_size: int | None = None

  def __post_init__(self) -> None:
    advice = "It is how far from the diagonal an entry of the Hessian may lie."
    check_option(self, "bandwidth", Interval(0, math.inf), advice)
    check_batch_size(self)

  def at(self, point: Point) -> Linearization:
    product, n = Hessian().at(point).mv, point.size
    width = min(self.bandwidth, n - 1)
    colours = jnp.arange(n) % (2 * width + 1)

    def matrix() -> Matrix:
      products = coloured_products(product, point, colours, 2 * width + 1, self.batch_size)
      rows, distance = jnp.arange(n)[:, None], jnp.arange(width + 1)
      bands = products[(rows - distance) % (2 * width + 1), rows]
      return Banded(jnp.where(rows >= distance, bands, 0))

    return Linearization(product, matrix)
