"""The derivative of a minimiser, by the implicit function theorem.

At a minimum the gradient stays 0 when what the loss depends on moves: `H dx = -d(gradient)`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from kinkopt._numerics import machine_eps
from kinkopt.newton._conjugate_gradients import truncated
from kinkopt.newton._curvature import columns
from kinkopt.newton._matrix import Blocks
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._point import Parts

# Up to here the matrix of one problem takes 32 MB in float64.
LARGEST_DENSE = 2000
MAX_PRODUCTS = 10_000


def solve_tangent(hvp: Callable[[Parts], Parts], right: Parts) -> Parts:
  """Solves `H x = right` with the Hessian at a minimum; differentiable both ways.

  Args:
    hvp: the product with H, linear and symmetric.
    right: real arrays of one dtype.

  Returns:
    The solution; NaN where H is not positive definite beyond rounding, because there is no isolated
    minimum, and hence no derivative of it.
  """
  size = sum(part.size for part in right)
  if size == 0:
    return right
  solve = _by_matrix if size <= LARGEST_DENSE else _by_products
  return jax.lax.custom_linear_solve(hvp, right, solve, symmetric=True)


def _by_matrix(hvp: Callable[[Parts], Parts], right: Parts) -> Parts:
  vector, unravel = ravel_pytree(right)
  flat = lambda v: ravel_pytree(hvp(unravel(v)))[0]  # noqa: E731
  matrix = Blocks.full(columns(flat, vector.size, vector.dtype, None))
  factor = matrix.factor(jnp.zeros([], vector.dtype))
  found = matrix.solve(factor.arrays, vector)
  return unravel(jnp.where(factor.is_definite, found, jnp.nan))


def _by_products(hvp: Callable[[Parts], Parts], right: Parts) -> Parts:
  dtype = right[0].dtype
  rtol = machine_eps(dtype) ** 0.75
  model = truncated(hvp, right, jnp.asarray(jnp.inf, dtype), rtol, MAX_PRODUCTS)
  is_solved = model.code == Outcome.NEWTON.code
  return [jnp.where(is_solved, part, jnp.nan) for part in model.step]
