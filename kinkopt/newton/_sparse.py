"""Hessians that are mostly zero, in whatever pattern: grids, graphs, separable sums.

Few products with vectors tell all entries apart once the pattern is coloured, which asdex does; the
coordinates are then put into an order in which neighbours are close to each other, so that the
matrix is a band, which is factored in time and memory linear in their number.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._checks import check_floating
from kinkopt.newton._banded import Banded
from kinkopt.newton._columns import mapped
from kinkopt.newton._curvature import Curvature, Hessian, Linearization, check_batch_size
from kinkopt.newton._matrix import Factor, Matrix
from kinkopt.newton._point import Point


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reordered(Matrix):
  """A matrix whose coordinates are kept in another order: `order[k]` is the k-th there."""

  matrix: Matrix
  order: jax.Array  # int32[n]
  place: jax.Array  # int32[n], its inverse

  @property
  def arrays(self) -> tuple[jax.Array, ...]:
    return self.matrix.arrays

  def with_arrays(self, arrays: tuple[jax.Array, ...]) -> "Reordered":
    return dataclasses.replace(self, matrix=self.matrix.with_arrays(arrays))

  def dense(self) -> jax.Array:
    return self.matrix.dense()[self.place][:, self.place]

  def diagonal(self) -> jax.Array:
    return self.matrix.diagonal()[self.place]

  def identity(self) -> "Reordered":
    return dataclasses.replace(self, matrix=self.matrix.identity())

  def mv(self, vector: jax.Array) -> jax.Array:
    return self.matrix.mv(vector[self.order])[self.place]

  def scaled(self, scales: jax.Array) -> "Reordered":
    return dataclasses.replace(self, matrix=self.matrix.scaled(scales[self.order]))

  def row_largest(self) -> jax.Array:
    return self.matrix.row_largest()[self.place]

  def bound(self) -> jax.Array:
    return self.matrix.bound()

  def factor(self, shift: jax.Array) -> Factor:
    return self.matrix.factor(shift)

  def solve(self, arrays: Any, vector: jax.Array) -> jax.Array:
    return self.matrix.solve(arrays, vector[self.order])[self.place]


class _Layout(NamedTuple):
  """Where the entries of a pattern lie in a band."""

  order: np.ndarray  # int32[n]
  place: np.ndarray  # int32[n]
  width: int
  entries: np.ndarray  # int[m], of the lower triangle in the new order, among those of the pattern
  rows: np.ndarray  # int32[m], in the new order
  distances: np.ndarray  # int32[m], to the left of the diagonal


def _layout(rows: np.ndarray, columns: np.ndarray, n: int) -> _Layout:
  from scipy.sparse import coo_array
  from scipy.sparse.csgraph import reverse_cuthill_mckee

  graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(n, n)).tocsr()
  order = np.asarray(reverse_cuthill_mckee(graph, symmetric_mode=True), np.int32)
  place = np.empty_like(order)
  place[order] = np.arange(n, dtype=np.int32)
  below, above = place[rows], place[columns]
  entries = np.flatnonzero(below >= above)
  distances = (below - above)[entries]
  return _Layout(order, place, int(max(distances, default=0)), entries, below[entries], distances)


@dataclasses.dataclass(frozen=True, eq=False)
class SparseHessian(Curvature):
  """The second derivatives that are not zero for every point. Needs `pip install kinkopt[sparse]`.

  Args:
    pattern: an `asdex.ColoredPattern` of the Hessian over the coordinates, leaf after leaf. Left to
      `SparseHessian.of(fun, params)`, which finds it.
    batch_size: how many products are made at once; see `Hessian`.

  Raises:
    TypeError: if `pattern` is no coloured pattern of a symmetric matrix.
    ValueError: at `update`, if the pattern has another number of coordinates than the parameters.

  Numerics:
    One product with a vector for each colour. The coordinates are put in the order of Cuthill and
    McKee, in which the entries lie within some distance `b` of the diagonal; memory is `n * b` and
    a factor takes time `n * b**2`. Chains, and grids that are long and narrow, have a small `b`; a
    square grid has `sqrt(n)`. Where one parameter meets all others `b` is `n`: take
    `SteihaugTrustRegion` there, which makes no matrix.

    Two such objects are equal only if they are the same one: keep it, and what was compiled with it
    serves again. asdex warns (`DenseColoringWarning`) where the pattern has no zeros to speak of.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> def ring(x):
    ...   return jnp.sum((jnp.roll(x, 1) - x**2) ** 2) + jnp.sum((x - 1) ** 2)
    >>> x = jnp.zeros(10_000)
    >>> curvature = kinkopt.newton.SparseHessian.of(ring, x)
    >>> found = kinkopt.minimize(ring, x, kinkopt.newton.newton(curvature=curvature))
    >>> print(curvature.bandwidth, found.steps < 10, jnp.abs(found.params - 1).max() < 1e-3)
    2 True True

  References:
    Coleman and Moré (1984), for colours; Cuthill and McKee (1969), for the order.
  """

  pattern: Any
  batch_size: int | None = None
  _layout: _Layout = dataclasses.field(init=False, repr=False)

  def __post_init__(self) -> None:
    check_batch_size(self)
    asdex = _asdex()
    is_coloured = isinstance(self.pattern, asdex.ColoredPattern)
    if not is_coloured or self.pattern.sparsity.m != self.pattern.sparsity.n:
      raise TypeError(
        "`SparseHessian(pattern=...)` must be an `asdex.ColoredPattern` of a square matrix, but is "
        f"{type(self.pattern).__name__}. Let `SparseHessian.of(fun, params)` find it, or colour "
        "your own by `asdex.hessian_coloring_from_sparsity`."
      )
    sparsity = self.pattern.sparsity
    layout = _layout(np.asarray(sparsity.rows), np.asarray(sparsity.cols), sparsity.n)
    object.__setattr__(self, "_layout", layout)

  @classmethod
  def of(
    cls,
    fun: Callable[..., Any],
    params: Any,
    *,
    data: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
  ) -> "SparseHessian":
    """Finds which second derivatives of a loss can be other than zero.

    Args:
      fun: `(params, **data) -> loss`.
      params: any point; only shapes and dtypes count.
      data: further arguments of `fun`, by name.
      batch_size: see the class.

    Raises:
      ImportError: if asdex is not installed.
      TypeError: if a leaf of `params` is not floating point.
      ValueError: if the parameters hold not a single number.
    """
    check_floating("SparseHessian.of", params, "parameters")
    point = Point.of(params, fun, dict(data or {}))
    if point.size == 0:
      raise ValueError("`SparseHessian.of` got parameters without a single number. Pass some.")
    return cls(_asdex().hessian_coloring(point.value_at, point.parts), batch_size)

  @property
  def bandwidth(self) -> int:
    """How far from the diagonal an entry lies, in the order in which it is factored."""
    return self._layout.width

  def at(self, point: Point) -> Linearization:
    size = self.pattern.sparsity.n
    if size != point.size:
      raise ValueError(
        f"The pattern of this `SparseHessian` has {size} coordinates, but the parameters have "
        f"{point.size}. Make one for them by `SparseHessian.of(fun, params)`."
      )
    product, layout = Hessian().at(point).mv, self._layout
    colours = jnp.asarray(self.pattern.colors)

    def column(colour: jax.Array) -> jax.Array:
      return point.ravel(product(point.unravel((colours == colour).astype(point.dtype))))

    def matrix() -> Matrix:
      products = mapped(column, self.pattern.num_colors, self.batch_size)
      values = _asdex().decompress_data(products, self.pattern)[layout.entries]
      bands = jnp.zeros((size, layout.width + 1), point.dtype)
      bands = bands.at[layout.rows, layout.distances].set(values)
      return Reordered(Banded(bands), jnp.asarray(layout.order), jnp.asarray(layout.place))

    return Linearization(product, matrix)


def _asdex() -> Any:
  try:
    import asdex
  except ModuleNotFoundError as error:
    raise ImportError(
      "`SparseHessian` finds and colours patterns by asdex, which is not installed. Run "
      "`pip install kinkopt[sparse]`; a Hessian of a known band needs nothing: `BandedHessian`."
    ) from error
  return asdex
