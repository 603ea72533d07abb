"""Hessians that are mostly zero, in whatever pattern: grids, graphs, rings, separable sums.

Few products with vectors tell all entries apart once the columns are coloured; the coordinates are
then put into an order in which neighbours are close to each other, so that the matrix is a band,
which is factored in time and memory linear in their number.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._checks import check_floating
from kinkopt.newton._banded import Banded
from kinkopt.newton._columns import coloured_products
from kinkopt.newton._curvature import Curvature, Hessian, Linearization, check_batch_size
from kinkopt.newton._matrix import Factor, Matrix
from kinkopt.newton._pattern import CrowdedError, Layout, detect, layout
from kinkopt.newton._point import Parts, Point


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


@dataclasses.dataclass(frozen=True, eq=False)
class SparseHessian(Curvature):
  """The second derivatives that are not zero for every point. Needs `pip install kinkopt[sparse]`.

  Args:
    pattern: where they are: what `scipy.sparse.csr_array` takes, shaped `[n, n]`, over the real
      coordinates, leaf after leaf, row-major within a leaf. Each entry that is not zero counts, on
      both sides of the diagonal; the diagonal itself counts always. Entries that are left out are
      added to others, so that a pattern with too few slows Newton's method down; it does not make
      it climb. `SparseHessian.of(fun, params, key=key)` finds it.
    batch_size: how many products are made at once; see `Hessian`.

  Raises:
    ImportError: if SciPy is not installed.
    TypeError: if `pattern` is no matrix.
    ValueError: if it is not square, if one coordinate meets more than 300 others; at `update`, if
      it has another number of coordinates than the parameters.

  Numerics:
    One product with a vector for each colour, some 1 to 2 times the most entries in a row. The
    coordinates are put in the order of Cuthill and McKee, in which the entries lie within some
    distance `b` of the diagonal; memory is `n * b` and a factor takes time `n * b**2`. Chains, and
    grids that are long and narrow, have a small `b`; a square grid has `sqrt(n)`. Where one
    parameter meets all others, take `SteihaugTrustRegion`, which makes no matrix.

    Two such objects are equal only if they are the same one: keep it, and what was compiled with it
    serves again.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> def ring(x):
    ...   return jnp.sum((jnp.roll(x, 1) - x**2) ** 2) + jnp.sum((x - 1) ** 2)
    >>> x = jnp.zeros(10_000)
    >>> curvature = kinkopt.newton.SparseHessian.of(ring, x, key=jax.random.key(0))
    >>> found = kinkopt.minimize(ring, x, kinkopt.newton.newton(curvature=curvature))
    >>> print(curvature.bandwidth, found.steps < 10, jnp.abs(found.params - 1).max() < 1e-3)
    2 True True

  References:
    Curtis, Powell and Reid (1974), for colours; Cuthill and McKee (1969), for the order; Griewank
    and Mitev, "Detecting Jacobian sparsity patterns by Bayesian probing" (2002), for halving.
  """

  pattern: Any
  batch_size: int | None = None
  _layout: Layout = dataclasses.field(init=False, repr=False)

  def __post_init__(self) -> None:
    check_batch_size(self)
    pattern = _symmetric(self.pattern)
    object.__setattr__(self, "pattern", pattern)
    object.__setattr__(self, "_layout", _uncrowded("SparseHessian", lambda: layout(pattern)))

  @classmethod
  def of(
    cls,
    fun: Callable[..., Any],
    params: Any,
    *,
    key: jax.Array,
    data: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
  ) -> "SparseHessian":
    """Finds which second derivatives of a loss are not zero at random points near `params`.

    Each number is moved by up to a quarter of itself, zeros by up to 1/4, so that derivatives which
    vanish by accident, at a start of zeros or of equal numbers, are not taken for ones that always
    do. What a `where` or a `relu` switches off at the points is not seen: pass a `pattern` then.
    What is zero but for rounding is.

    Args:
      fun: `(params, **data) -> loss`.
      params: a tree of floating-point arrays, where `fun` has finite second derivatives.
      key: `jax.random.key(...)`, for the point and the vectors.
      data: further arguments of `fun`, by name.
      batch_size: see the class.

    Raises:
      ImportError: if SciPy is not installed.
      TypeError: if a leaf of `params` is not floating point.
      ValueError: if the parameters hold not a single number, if the second derivatives are not
        finite, or if one coordinate meets more than 300 others.
    """
    check_floating("SparseHessian.of", params, "parameters")
    point = Point.of(params, fun, dict(data or {}))
    if point.size == 0:
      raise ValueError("`SparseHessian.of` got parameters without a single number. Pass some.")
    _scipy()
    start, vectors = jax.random.split(key)
    moved = dataclasses.replace(point, parts=_moved(point.parts, start))

    @jax.jit
    def multiply(vector: jax.Array) -> jax.Array:
      return moved.ravel(Hessian().at(moved).mv(moved.unravel(vector)))

    def products(vector: np.ndarray) -> np.ndarray:
      found = np.asarray(multiply(jnp.asarray(vector, moved.dtype)))
      if not np.all(np.isfinite(found)):
        raise ValueError(
          "`SparseHessian.of` finds second derivatives that are not finite near `params`. Pass "
          "`params` from well inside where the loss has some, or a `pattern`."
        )
      return found

    seed = np.asarray(jax.random.key_data(vectors)).tolist()
    rng = np.random.default_rng(seed)
    pattern = _uncrowded("SparseHessian.of", lambda: detect(products, point.size, rng))
    return cls(pattern, batch_size)

  @property
  def bandwidth(self) -> int:
    """How far from the diagonal an entry lies, in the order in which it is factored."""
    return self._layout.width

  @property
  def products(self) -> int:
    """How many products with a vector make one Hessian."""
    return int(self._layout.colours.max(initial=-1)) + 1

  def at(self, point: Point) -> Linearization:
    size = self.pattern.shape[0]
    if size != point.size:
      raise ValueError(
        f"The pattern of this `SparseHessian` has {size} coordinates, but the parameters have "
        f"{point.size}. Make one for them by `SparseHessian.of(fun, params, key=key)`."
      )
    product, plan = Hessian().at(point).mv, self._layout
    colours = jnp.asarray(plan.colours)

    def matrix() -> Matrix:
      found = coloured_products(product, point, colours, self.products, self.batch_size)
      values = found[colours[plan.columns], plan.rows]
      rows = plan.place[plan.rows]
      bands = jnp.zeros((size, self.bandwidth + 1), point.dtype)
      bands = bands.at[rows, rows - plan.place[plan.columns]].set(values)
      return Reordered(Banded(bands), jnp.asarray(plan.order), jnp.asarray(plan.place))

    return Linearization(product, matrix)


def _symmetric(pattern: Any) -> Any:
  """Makes a pattern one of both triangles, with the diagonal."""
  sparse = _scipy()
  try:
    given = sparse.csr_array(pattern).astype(bool)
  except (TypeError, ValueError) as error:
    raise TypeError(
      "`SparseHessian(pattern=...)` must be what `scipy.sparse.csr_array` takes, but is "
      f"{type(pattern).__name__}. Let `SparseHessian.of(fun, params, key=key)` find it."
    ) from error
  if given.ndim != 2 or given.shape[0] != given.shape[1]:
    raise ValueError(
      f"`SparseHessian(pattern=...)` must be square, one row and column for each number among the "
      f"parameters, but is shaped {given.shape}."
    )
  given.eliminate_zeros()
  return (given + given.T + sparse.eye_array(given.shape[0], dtype=bool)).tocsr()


def _uncrowded(caller: str, make: Callable[[], Any]) -> Any:
  try:
    return make()
  except CrowdedError as error:
    raise ValueError(
      f"`{caller}`: this Hessian is not sparse, {error}. Take `Hessian()` where it fits into "
      "memory, or `globalization=SteihaugTrustRegion()`, which makes no matrix."
    ) from error


def _moved(parts: Parts, key: jax.Array) -> Parts:
  """Gives a random point near another, on the same side of zero."""

  def move(part: jax.Array, key: jax.Array) -> jax.Array:
    by = jax.random.uniform(key, part.shape, part.dtype, -0.25, 0.25)
    return jnp.where(part == 0, by, part * (1 + by))

  return [move(part, key) for part, key in zip(parts, jax.random.split(key, len(parts)))]


def _scipy() -> Any:
  try:
    import scipy.sparse
  except ModuleNotFoundError as error:
    raise ImportError(
      "`SparseHessian` keeps its pattern by SciPy, which is not installed. Run "
      "`pip install kinkopt[sparse]`; a Hessian of a known band needs nothing: `BandedHessian`."
    ) from error
  return scipy.sparse
