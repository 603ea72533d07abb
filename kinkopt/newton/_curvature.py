"""The curvature: which matrix of second derivatives, and how it comes about.

A curvature is asked at a `Point` and answers with a `Linearization`, which multiplies vectors
(`mv`, all that an iterative solver needs) and can be written out as a `Matrix` (which a direct one
factors). What is done with either is the business of solvers.
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt._checks import Interval
from kinkopt.newton._checks import check_option
from kinkopt.newton._columns import columns
from kinkopt.newton._matrix import Blocks, Matrix
from kinkopt.newton._point import Parts, Point


@dataclasses.dataclass(frozen=True)
class Linearization:
  """The curvature at one point: a product, and the matrix, made when it is asked for."""

  mv: Callable[[Parts], Parts]
  matrix: Callable[[], Matrix]


class Curvature(abc.ABC):
  """Which matrix stands for the second derivatives of a loss."""

  @abc.abstractmethod
  def at(self, point: Point) -> Linearization:
    """Looks at the curvature of a loss at a point with at least one coordinate."""


def check_batch_size(curvature: Curvature) -> None:
  """Checks the `batch_size` of a curvature."""
  advice = "It is how many columns are made at once; None chooses."
  check_option(curvature, "batch_size", Interval(1, math.inf), advice)


@dataclasses.dataclass(frozen=True)
class Hessian(Curvature):
  """Every second derivative of the loss.

  Args:
    hessian_fn: `(params, **kwargs) -> Hessian`, where you know a formula: what
      `jax.hessian(value_fn)` gives, a tree of trees, or one `(n, n)` array over the coordinates,
      leaf after leaf, row-major within a leaf, a complex number as its real and imaginary part.
    hvp_fn: `(params, vector, **kwargs) -> Hessian times vector`, both trees like the parameters.
    batch_size: how many columns are made at once, where no formula gives the matrix. None takes all
      up to 64 coordinates, and above one on a CPU and 64 elsewhere.

  Numerics:
    By forward over reverse differentiation. Memory is that of the matrix and of `batch_size`
    gradients, time that of `n` products with a vector.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> curvature = kinkopt.newton.Hessian(hessian_fn=lambda x: jnp.diag(12 * x**2))
    >>> tx = kinkopt.newton.scale_by_newton(curvature=curvature)
    >>> x = jnp.array([1.0, 2.0])
    >>> updates, _ = tx.update(4 * x**3, tx.init(x), x, value_fn=lambda x: jnp.sum(x**4))
    >>> print(updates.round(4))
    [0.3333 0.6667]
  """

  hessian_fn: Callable[..., Any] | None = None
  hvp_fn: Callable[..., Any] | None = None
  batch_size: int | None = None

  def __post_init__(self) -> None:
    check_batch_size(self)

  def at(self, point: Point) -> Linearization:
    if self.hessian_fn is not None:
      dense = _assembled(point.on_parts(self.hessian_fn)(point.parts), point)
      # Of what a user wrote, both triangles count; halved first, because the sum could overflow.
      matrix = Blocks.full(dense / 2 + dense.T / 2)
      return Linearization(
        lambda parts: point.unravel(matrix.mv(point.ravel(parts))), lambda: matrix
      )
    if self.hvp_fn is not None:
      hvp, named = self.hvp_fn, point.named_arguments(self.hvp_fn)

      def mv(parts: Parts) -> Parts:
        return point.parts_of("product", hvp(point.params, point.join(parts), **named))

    else:
      _, mv = jax.linearize(jax.grad(point.value_at), point.parts)

    def matrix_() -> Matrix:
      return Blocks.full(columns(mv, point.parts, self.batch_size))

    return Linearization(mv, matrix_)


def _assembled(found: Any, point: Point) -> jax.Array:
  """Writes a Hessian, one array or a tree of trees, as one matrix."""
  n = point.size
  if jax.tree_util.all_leaves([found]) and jnp.shape(found) == (n, n):
    return jnp.asarray(found, point.dtype)
  outer = jax.tree.structure(point.params)
  leaves = jax.tree.leaves(point.params)
  try:
    rows = [outer.flatten_up_to(row) for row in outer.flatten_up_to(found)]
    blocks = [
      [jnp.reshape(block, (a.size, b.size)).astype(point.dtype) for block, b in zip(row, leaves)]
      for row, a in zip(rows, leaves)
    ]
  except (ValueError, TypeError) as error:
    raise ValueError(
      f"`hessian_fn` must return what `jax.hessian(value_fn)(params)` gives, a tree of trees, or "
      f"one array of shape ({n}, {n}) over all real coordinates; this did not fit: {error}"
    ) from error
  return jnp.block(blocks)
