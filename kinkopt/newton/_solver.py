"""The solver: from a curvature and a gradient to a direction that never climbs.

Far from a minimum the Hessian may be indefinite, singular, zero, or not even finite, and
`inv(H) @ g` then points to a maximum, or nowhere. A solver takes a linearization and a gradient,
and what goes out is finite and descends, with a code that says what had to be done. Optimisers,
trees and losses are unknown here.
"""

import abc
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kinkopt._numerics import machine_eps, normalized
from kinkopt.newton._curvature import Linearization
from kinkopt.newton._matrix import Matrix
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._point import Parts, Point

# Ten, as Nocedal and Wright allow for costly factorisations. Measured on 11 small problems from 20
# starts each, with two line searches: factor 10 from sqrt(machine_eps) solves 201 and 201 of 220,
# factor 4 from there 196 and 198, factor 2 from their 1e-3 171 and 189. (A large first shift makes
# small steps where H is nearly singular.)
GROWTH = 10.0
# From sqrt(machine_eps) * max|H| past any shift that could still help: by Gershgorin's theorem
# n * max|H| makes H definite; the rest is for steps too long for their dtype.
MAX_TRIES = 40


class Step(NamedTuple):
  """A direction to subtract, and how it came about."""

  direction: Parts  # or one flat vector
  outcome: jax.Array  # int32[], the code of an `Outcome`
  shift: jax.Array  # float[], the multiple of the identity in it; 0 where there is no solve


class Solver(abc.ABC):
  """How `(H + damping I) p = g` is solved, and what is done where that would climb."""

  @abc.abstractmethod
  def direction(
    self,
    curvature: Linearization,
    point: Point,
    gradient: Parts,
    damping: jax.Array,
    largest: float,
  ) -> Step:
    """Gives a direction `p`: finite, no coordinate above `largest`, `<g, p> > 0` or `p` zero."""


@dataclasses.dataclass(frozen=True)
class Cholesky(Solver):
  """Solves by Cholesky's method with the first shift that makes the matrix positive definite.

  Numerics:
    The shift is the damping, then grows by a factor of 10 from `sqrt(machine_eps) * max|H|`. A
    factor costs `n**3 / 6` multiplications. A matrix that is singular to rounding counts as not
    definite, whatever the units of its coordinates: `diag(1, 1e-20)` is solved, not shifted.

  Example:
    >>> import kinkopt
    >>> tx = kinkopt.newton.scale_by_newton(solver=kinkopt.newton.Cholesky())

  References:
    Nocedal and Wright, "Numerical Optimization" (2006), Algorithm 3.3.
  """

  def direction(
    self,
    curvature: Linearization,
    point: Point,
    gradient: Parts,
    damping: jax.Array,
    largest: float,
  ) -> Step:
    step = shifted_cholesky(curvature.matrix(), point.ravel(gradient), damping, largest)
    return step._replace(direction=point.unravel(step.direction))


class _Try(NamedTuple):
  shift: jax.Array  # float[]
  factor: tuple[jax.Array, ...]
  succeeded: jax.Array  # bool[]
  count: jax.Array  # int32[]


def safe_problem(
  matrix: Matrix, gradient: jax.Array, damping: jax.Array
) -> tuple[Matrix, jax.Array, jax.Array, jax.Array]:
  """Exchanges what cannot be solved, and says what was wrong.

  A lane that cannot be solved gets the identity, so that it neither prolongs the loops of the other
  lanes under `vmap` nor brings NaN into their derivatives.

  Returns:
    `(matrix, gradient, is_solvable, code)`, with the code of `NEWTON` if nothing was wrong.
  """
  matrix_is_finite, gradient_is_finite = matrix.is_finite(), jnp.all(jnp.isfinite(gradient))
  is_zero = matrix.largest() == 0
  is_solvable = matrix_is_finite & gradient_is_finite & ~(is_zero & (damping == 0))
  code = jnp.select(
    [~gradient_is_finite, ~matrix_is_finite, is_zero],
    [
      Outcome.GRADIENT_NOT_FINITE.code,
      Outcome.HESSIAN_NOT_FINITE.code,
      Outcome.ZERO_HESSIAN.code,
    ],
    Outcome.NEWTON.code,
  )
  matrix = matrix.where(is_solvable, matrix.identity())
  gradient = jnp.where(gradient_is_finite, gradient, 0)
  return matrix, gradient, is_solvable, code.astype(jnp.int32)


# Jitted here so that a loop that is not, does not compile the search for the shift at every step.
@functools.partial(jax.jit, static_argnames="largest")
def shifted_cholesky(
  matrix: Matrix, gradient: jax.Array, damping: ArrayLike, largest: float
) -> Step:
  """Solves `(H + shift I) p = g` with the first shift that makes `p` a descent direction.

  Args:
    matrix: over n >= 1 coordinates.
    gradient: real `(n,)`, of the same dtype.
    damping: the first shift; >= 0.
    largest: the largest magnitude that a coordinate of the direction may have.

  Returns:
    A `Step`. Its direction is finite and `<g, p> > 0`; or `p = g`; or `p = 0`, where the gradient
    is zero or not finite, or the whole step is below the smallest number of the dtype.

  Numerics:
    Derivatives pass through the solve by the implicit function theorem; the shift is held fixed.
  """
  damping = jnp.asarray(damping, gradient.dtype)
  matrix, vector, is_solvable, code = safe_problem(matrix, gradient, damping)
  found = _find_shift(*jax.lax.stop_gradient((matrix, vector, damping)), largest)
  direction = jax.lax.custom_linear_solve(
    lambda x: matrix.mv(x) + found.shift * x,
    vector,
    lambda _, b: matrix.solve(found.factor, b),
    symmetric=True,
  )
  is_solved = is_solvable & found.succeeded
  outcome = jnp.select(
    [code != Outcome.NEWTON.code, ~found.succeeded, found.count > 1],
    [code, Outcome.NO_SHIFT_HELPED.code, Outcome.SHIFTED.code],
    Outcome.NEWTON.code,
  )
  return Step(
    direction=jnp.where(is_solved, direction, vector),
    outcome=outcome.astype(jnp.int32),
    shift=jnp.where(is_solved, found.shift, 0),
  )


def _find_shift(matrix: Matrix, vector: jax.Array, damping: jax.Array, largest: float) -> _Try:
  """Tries `damping`, then ever larger shifts, until the solution descends."""
  dtype = vector.dtype
  first_shift = jnp.maximum(machine_eps(dtype) ** 0.5 * matrix.largest(), jnp.finfo(dtype).tiny)

  def attempt(previous: _Try) -> _Try:
    grown = jnp.maximum(GROWTH * previous.shift, first_shift)
    shift = jnp.where(previous.count == 0, damping, grown)
    factor, is_definite = matrix.factor(shift)
    direction = matrix.solve(factor, vector)
    succeeded = is_definite & is_descent(vector, direction, largest)
    return _Try(shift, factor, succeeded, previous.count + 1)

  def is_unfinished(last: _Try) -> jax.Array:
    return ~last.succeeded & (last.count < MAX_TRIES)

  nothing = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(matrix.factor, damping).arrays
  )
  start = _Try(damping, nothing, jnp.array(False), jnp.zeros([], jnp.int32))
  return jax.lax.while_loop(is_unfinished, attempt, start)


def is_descent(gradient: jax.Array, direction: jax.Array, largest: float) -> jax.Array:
  """Says whether a direction is finite, not too long, and does not climb.

  A factor without rounding would ensure the slope; it is what is promised, so it is looked at. All
  zero: the gradient is, or the step underflows; either way nothing can climb.
  """
  fits = jnp.all(jnp.abs(direction) <= largest)  # False for NaN
  terms = normalized(gradient) * normalized(direction)
  is_positive = jnp.sum(terms) > rounding_of_sum(terms.size, terms.dtype) * jnp.sum(jnp.abs(terms))
  return fits & (is_positive | jnp.all(direction == 0))


def rounding_of_sum(size: int, dtype: jnp.dtype) -> float:
  """Gives what a sum may be wrong by, as a share of that of the magnitudes.

  A sum that is positive by less may be negative. In practice errors grow with the root of their
  number (Higham, "Accuracy and Stability", 2002, section 4.2).
  """
  return 4 * size**0.5 * machine_eps(dtype)
