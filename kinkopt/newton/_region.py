"""The quadratic model within a region: steps of a wished-for length, by Cholesky factors alone.

A step `p` solves `(H + shift I) p = g` with a shift that makes the matrix definite. Which shift,
says an equation for its length, `1/|p| = 1/radius` in a trust region and `1/|p| = weight/shift` for
cubic regularisation: nearly linear in the shift, so Newton's method solves it in two or three
factorisations. If even the least shift gives too short a step (the hard case), the rest of the way
is gone along the direction of the most negative curvature.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kinkopt._numerics import machine_eps
from kinkopt.newton._matrix import Factor, Matrix
from kinkopt.newton._outcome import Outcome

# Conn, Gould and Toint, "Trust-Region Methods" (2000), Algorithm 7.3.6 and section 7.3.11.
LENGTH_RTOL = 0.1
HARD = 0.2
BISECTION = 0.01
MAX_FACTORS = 40
GROWTH = 10.0


class Model(NamedTuple):
  """A step, and what the quadratic model says of it."""

  step: jax.Array  # float[n], to be subtracted
  shift: jax.Array  # float[]
  decrease: jax.Array  # float[], formed without cancellation
  is_solved: jax.Array  # bool[]
  least: jax.Array  # float[], a shift that is just above rounding
  code: jax.Array  # int32[], of an `Outcome`


class _Search(NamedTuple):
  shift: jax.Array
  low: jax.Array  # at or below, the matrix is not definite or the step is too long
  high: jax.Array  # at or above, the step is too short
  found: Model
  is_done: jax.Array
  count: jax.Array


def norm(x: jax.Array) -> jax.Array:
  """Gives the Euclidean length; by a sum, which stays where the vector is."""
  return jnp.sqrt(jnp.sum(x * x))


def shifted_model(factor: Factor, step: jax.Array, gradient: jax.Array, shift: jax.Array) -> Model:
  """Describes the step that one shift gives."""
  decrease = (jnp.sum(gradient * step) + shift * jnp.sum(step * step)) / 2
  is_solved = factor.is_definite & jnp.isfinite(decrease) & (decrease >= 0)
  code = jnp.where(shift == 0, Outcome.NEWTON.code, Outcome.SHIFTED.code).astype(jnp.int32)
  return Model(step, shift, decrease, is_solved, jnp.zeros_like(shift), code)


def definite_model(
  matrix: Matrix, gradient: jax.Array, shift: jax.Array, least: jax.Array, longest: jax.Array
) -> Model:
  """Solves with the first of `shift`, `least` and ever larger ones that is definite.

  A step beyond `longest` counts as none, too.
  """

  def attempt(last: tuple[Model, jax.Array]) -> tuple[Model, jax.Array]:
    model, count = last
    grown = jnp.maximum(GROWTH * model.shift, least)
    tried = jnp.where(count == 0, shift, grown)
    factor = matrix.factor(tried)
    model = shifted_model(factor, matrix.solve(factor.arrays, gradient), gradient, tried)
    code = jnp.where((count == 0) & (shift > 0), Outcome.DAMPED.code, model.code)
    model = model._replace(code=code.astype(jnp.int32))
    return model._replace(is_solved=model.is_solved & (norm(model.step) <= longest)), count + 1

  zero = jnp.zeros_like(shift)
  nothing = Model(jnp.zeros_like(gradient), zero, zero, jnp.array(False), zero, jnp.int32(0))
  found, _ = jax.lax.while_loop(
    lambda last: ~last[0].is_solved & (last[1] < MAX_FACTORS), attempt, (nothing, jnp.int32(0))
  )
  return found._replace(step=jnp.where(found.is_solved, found.step, 0), least=least)


def _solve_both(matrix: Matrix, arrays: Any, a: jax.Array, b: jax.Array) -> list[jax.Array]:
  """Solves with two vectors at once."""
  # Not one by one, which may be at the same time: see `after`.
  return list(jax.vmap(lambda vector: matrix.solve(arrays, vector))(jnp.stack([a, b])))


def _some_direction(like: jax.Array) -> jax.Array:
  """Gives a start for inverse iterations that no symmetry of a problem makes orthogonal to all."""
  start = 1 + 0.5 * jnp.cos(jnp.arange(like.size, dtype=like.dtype))
  return start / norm(start)


def _extended(
  model: Model, wished: jax.Array, lowest: jax.Array, curvature: jax.Array
) -> tuple[Model, jax.Array]:
  """Lengthens a step along the lowest curvature; says whether that loses little."""
  taken = norm(model.step)
  along, missing = jnp.sum(model.step * lowest), wished**2 - taken**2
  root = along + jnp.where(along < 0, -1, 1) * jnp.sqrt(along**2 + jnp.maximum(missing, 0))
  rest = missing / root
  gain = model.decrease * 2 + model.shift * (wished**2 - taken**2)
  loss = rest**2 * curvature
  extended = model._replace(
    step=model.step + rest * lowest,
    decrease=(gain - loss) / 2,
    is_solved=jnp.isfinite(gain) & jnp.isfinite(rest),
    code=jnp.int32(Outcome.BOUNDARY.code),
  )
  return extended, loss <= HARD * gain


def step_of_length(
  matrix: Matrix, gradient: jax.Array, inverse_radius: jax.Array, weight: jax.Array
) -> Model:
  """Finds the shift with `1/|p| = inverse_radius + weight/shift`, or a shorter Newton step.

  Args:
    matrix: finite, `n` coordinates.
    gradient: float[n], finite.
    inverse_radius: 1/radius of a trust region; 0 for none.
    weight: of the cubic term `weight/3 |p|^3`; 0 for none.

  Returns:
    A `Model`. `is_solved` is False if no shift gave a finite step, which then is zero.
  """
  size, length = matrix.bound(), norm(gradient)
  dtype = gradient.dtype
  negligible = 4 * gradient.size * machine_eps(dtype) * size

  def attempt(last: _Search) -> _Search:
    shift = last.shift
    factor = matrix.factor(shift)
    step, first = _solve_both(matrix, factor.arrays, gradient, some_direction)
    model, taken = shifted_model(factor, step, gradient, shift), norm(step)
    # Two inverse iterations find the direction of the lowest curvature.
    first = first / norm(first)
    solved_step, second = _solve_both(matrix, factor.arrays, step, first)
    lowest = second / norm(second)
    curvature = jnp.sum(first * second) / norm(second) ** 2
    reached = taken * (inverse_radius + weight / jnp.where(weight > 0, shift, 1))
    is_short = model.is_solved & (reached < 1 - LENGTH_RTOL)
    is_free = (shift <= negligible) & (weight == 0)
    fits = model.is_solved & (reached <= 1 + LENGTH_RTOL) & (~is_short | is_free)
    # The hard case, tried wherever the step is too short: no further factorisation.
    wished = 1 / jnp.where(reached > 0, reached / taken, inverse_radius + weight / shift)
    extended, loses_little = _extended(model, wished, lowest, curvature)
    is_hard = is_short & ~is_free & loses_little
    found = jax.tree.map(lambda a, b: jnp.where(is_hard, a, b), extended, model)
    low = jnp.where(is_short, jnp.maximum(last.low, jnp.nan_to_num(shift - curvature)), shift)
    high = jnp.where(is_short, shift, last.high)
    # Newton's method for the length, where there is one; bisection in the logarithm else.
    slope = jnp.sum(step * solved_step) / taken**3
    slope = slope + weight / jnp.where(shift > 0, shift, 1) ** 2
    newton = shift - (1 - reached) / taken / slope
    middle = jnp.maximum(jnp.sqrt(low * high), low + BISECTION * (high - low))
    first = jnp.where((last.count == 0) & (low < negligible), negligible, middle)
    use_newton = model.is_solved & (newton > low) & (newton < high)
    following = jnp.where(use_newton, newton, first)
    is_done = fits | is_hard | ~(high > low)
    return _Search(following, low, high, found, is_done, last.count + 1)

  zero, some_direction = jnp.zeros([], dtype), _some_direction(gradient)
  low = jnp.maximum(-jnp.min(matrix.diagonal()), 0)
  high = size + length * inverse_radius + jnp.sqrt(weight * length)
  high = high * (1 + LENGTH_RTOL) + negligible
  start = jnp.where(weight > 0, jnp.sqrt(jnp.maximum(low, negligible) * high), low)
  nothing = Model(jnp.zeros_like(gradient), zero, zero, jnp.array(False), zero, jnp.int32(0))
  found = jax.lax.while_loop(
    lambda last: ~last.is_done & (last.count < MAX_FACTORS),
    attempt,
    _Search(start, low, high, nothing, jnp.array(False), jnp.zeros([], jnp.int32)),
  ).found
  code = jnp.where(found.shift <= negligible, found.code, jnp.int32(Outcome.BOUNDARY.code))
  return found._replace(step=jnp.where(found.is_solved, found.step, 0), code=code)
