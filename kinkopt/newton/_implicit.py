"""The derivative of a minimiser, by the implicit function theorem.

At a minimum the gradient stays 0 when what the loss depends on moves: `H dx = -d(gradient)`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from kinkopt import _jax
from kinkopt._coordinates import split_real
from kinkopt._numerics import machine_eps
from kinkopt._typing import PyTree
from kinkopt.newton._columns import columns
from kinkopt.newton._conjugate_gradients import truncated
from kinkopt.newton._lanes import Loop
from kinkopt.newton._matrix import Blocks
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._point import Parts

# Up to here the matrix of one problem takes 32 MB in float64.
LARGEST_DENSE = 2000
MAX_PRODUCTS = 10_000


def minimiser(loop: Loop, gradient: Callable[[Parts], Parts], start: PyTree) -> PyTree:
  """Runs a loop to its last carry, whose `params` have the derivatives of a minimum.

  Args:
    loop: its carry has `params`.
    gradient: of the loss over the parts of the parameters; may close over traced values.
    start: where the loop begins.
  """
  program, _ = _jax.trace(gradient, split_real(start)[0])
  code, depends_on = _jax.closed(program)

  # Not `jax.lax.custom_root`: beside the root it can give no integers.
  @jax.custom_jvp
  def last(depends_on: list[Any], constants: list[list[Any]], leaves: list[Any]) -> list[Any]:
    return loop.run(constants, leaves)

  @last.defjvp
  def _(primals: Any, tangents: Any) -> Any:
    found = last(*primals)
    carry = loop.carry.unflatten(found)
    parts, join = split_real(carry.params)
    at = lambda depends_on: _jax.evaluate(code, depends_on, parts)  # noqa: E731
    _, change = jax.jvp(at, primals[:1], tangents[:1])
    _, hvp = jax.linearize(lambda parts: _jax.evaluate(code, primals[0], parts), parts)
    moved = join([-part for part in solve_tangent(hvp, change)])
    still = loop.carry.unflatten(map(_no_tangent, found))
    return found, jax.tree.leaves(still._replace(params=moved))

  return loop.carry.unflatten(last(list(depends_on), loop.constants, jax.tree.leaves(start)))


def _no_tangent(value: jax.Array) -> Any:
  if jnp.issubdtype(value.dtype, jnp.inexact):
    return jnp.zeros_like(value)
  return np.zeros(value.shape, jax.dtypes.float0)


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
  matrix = Blocks.full(columns(hvp, right, None))
  factor = matrix.factor(jnp.zeros([], vector.dtype))
  found = matrix.solve(factor.arrays, vector)
  return unravel(jnp.where(factor.is_definite, found, jnp.nan))


def _by_products(hvp: Callable[[Parts], Parts], right: Parts) -> Parts:
  dtype = right[0].dtype
  rtol = machine_eps(dtype) ** 0.75
  model = truncated(hvp, right, jnp.asarray(jnp.inf, dtype), rtol, MAX_PRODUCTS)
  is_solved = model.code == Outcome.NEWTON.code
  return [jnp.where(is_solved, part, jnp.nan) for part in model.step]
