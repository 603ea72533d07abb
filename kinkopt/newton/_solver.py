"""The solver: from a Hessian and a gradient to a direction that never climbs.

Far from a minimum the Hessian may be indefinite, singular, zero, or not even finite, and
`inv(H) @ g` then points to a maximum, or nowhere. Here a symmetric matrix and a vector come in, and
what goes out is finite and descends, with a code that says what had to be done. Optimisers, trees
and losses are unknown here.
"""

import enum
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kinkopt._numerics import machine_eps

# Ten, as Nocedal and Wright allow for costly factorisations. Measured on 11 small problems from 20
# starts each, with two line searches: factor 10 from sqrt(machine_eps) solves 201 and 201 of 220,
# factor 4 from there 196 and 198, factor 2 from their 1e-3 171 and 189. (A large first shift makes
# small steps where H is nearly singular.)
GROWTH = 10.0
# From sqrt(machine_eps) * max|H| past any shift that could still help: by Gershgorin's theorem
# n * max|H| makes H definite; the rest is for steps too long for their dtype.
MAX_TRIES = 40


class Outcome(enum.Enum):
  """What the last Newton update was, as a sentence; the state holds its `code`.

  Example:
    >>> import kinkopt
    >>> print(kinkopt.newton.Outcome.SHIFTED.name, kinkopt.newton.Outcome.SHIFTED.code)
    SHIFTED 2
  """

  NOT_STARTED = "No update has been made yet."
  NEWTON = "The damped Hessian is positive definite: the update is the full Newton step."
  SHIFTED = (
    "The damped Hessian is indefinite or singular, or its step too long for the dtype: a larger "
    "multiple of the identity was added, which `shift` in the state tells."
  )
  ZERO_HESSIAN = (
    "The Hessian is zero, as it is where the loss is piecewise linear: there is no curvature to "
    "divide by, and the update is the gradient, divided by `damping` if that is not 0."
  )
  HESSIAN_NOT_FINITE = "The Hessian holds NaN or infinity: the update is the gradient."
  GRADIENT_NOT_FINITE = "The gradient holds NaN or infinity: the update is zero."
  NO_SHIFT_HELPED = (
    "No shift of the Hessian gave a finite descent direction: the update is the gradient."
  )

  @property
  def code(self) -> int:
    """The number that stands for this outcome in the state: its place in the list."""
    return list(Outcome).index(self)


class Step(NamedTuple):
  """A direction to subtract, and how it came about."""

  direction: jax.Array  # float[n]
  outcome: jax.Array  # int32[], the code of an `Outcome`
  shift: jax.Array  # float[], the multiple of the identity in it; 0 where there is no solve


class _Try(NamedTuple):
  shift: jax.Array  # float[]
  factor: jax.Array  # float[n, n], lower triangular
  succeeded: jax.Array  # bool[]
  count: jax.Array  # int32[]


# Jitted here so that a loop that is not, does not compile the search for the shift at every step.
@functools.partial(jax.jit, static_argnames="largest")
def shifted_cholesky(
  hessian: jax.Array, gradient: jax.Array, damping: ArrayLike, largest: float
) -> Step:
  """Solves `(H + shift I) p = g` with the first shift that makes `p` a descent direction.

  Args:
    hessian: real `(n, n)`, n >= 1; the mean of its two triangles is used.
    gradient: real `(n,)`, of the same dtype.
    damping: the first shift; >= 0.
    largest: the largest magnitude that a coordinate of the direction may have.

  Returns:
    A `Step`. Its direction is finite and `<g, p> > 0`; or `p = g`; or `p = 0`, where the gradient
    is zero or not finite, or the whole step is below the smallest number of the dtype.

  Numerics:
    A factor is rejected when a pivot has lost all its digits, `l_ii**2 <= n * machine_eps * a_ii`:
    such a matrix is singular to rounding. The test does not change when coordinates are rescaled,
    so `diag(1, 1e-20)` is solved, not shifted. Derivatives pass through the solve by the implicit
    function theorem; the shift is held fixed.

  References:
    Nocedal and Wright, "Numerical Optimization" (2006), Algorithm 3.3; Higham, "Accuracy and
    Stability of Numerical Algorithms" (2002), Theorem 10.7, for the pivots.
  """
  damping = jnp.asarray(damping, hessian.dtype)
  hessian = hessian / 2 + hessian.T / 2  # halved first: the sum could overflow
  hessian_is_finite = jnp.all(jnp.isfinite(hessian))
  gradient_is_finite = jnp.all(jnp.isfinite(gradient))
  is_zero = jnp.all(hessian == 0)
  is_solvable = hessian_is_finite & gradient_is_finite & ~(is_zero & (damping == 0))
  # A lane that cannot be solved gets the identity, so that it neither prolongs the loop of the
  # other lanes under `vmap` nor brings NaN into their derivatives.
  matrix = jnp.where(is_solvable, hessian, jnp.eye(gradient.size, dtype=hessian.dtype))
  vector = jnp.where(gradient_is_finite, gradient, 0)

  found = _find_shift(*jax.lax.stop_gradient((matrix, vector, damping)), largest)
  direction = jax.lax.custom_linear_solve(
    lambda x: jnp.matmul(matrix, x, precision="highest") + found.shift * x,
    vector,
    lambda _, b: jax.scipy.linalg.cho_solve((found.factor, True), b),
    symmetric=True,
  )
  is_solved = is_solvable & found.succeeded
  outcome = jnp.select(
    [~gradient_is_finite, ~hessian_is_finite, is_zero, ~found.succeeded, found.count > 1],
    [
      Outcome.GRADIENT_NOT_FINITE.code,
      Outcome.HESSIAN_NOT_FINITE.code,
      Outcome.ZERO_HESSIAN.code,
      Outcome.NO_SHIFT_HELPED.code,
      Outcome.SHIFTED.code,
    ],
    Outcome.NEWTON.code,
  )
  return Step(
    direction=jnp.where(is_solved, direction, vector),
    outcome=outcome.astype(jnp.int32),
    shift=jnp.where(is_solved, found.shift, 0),
  )


def _find_shift(matrix: jax.Array, vector: jax.Array, damping: jax.Array, largest: float) -> _Try:
  """Tries `damping`, then ever larger shifts, until the solution descends."""
  n, dtype = vector.size, matrix.dtype
  info = jnp.finfo(dtype)
  first_shift = jnp.maximum(machine_eps(dtype) ** 0.5 * jnp.max(jnp.abs(matrix)), info.tiny)

  def attempt(previous: _Try) -> _Try:
    grown = jnp.maximum(GROWTH * previous.shift, first_shift)
    shift = jnp.where(previous.count == 0, damping, grown)
    shifted = matrix + shift * jnp.eye(n, dtype=dtype)
    factor = jnp.linalg.cholesky(shifted, symmetrize_input=False)
    direction = jax.scipy.linalg.cho_solve((factor, True), vector)
    is_definite = jnp.all(jnp.diag(factor) ** 2 > n * info.eps * jnp.diag(shifted))
    fits = jnp.all(jnp.abs(direction) <= largest)  # False for NaN
    # A factor without rounding would ensure the slope; it is what is promised, so it is looked at.
    # All zero: the gradient is, or the step underflows; either way nothing can climb.
    descends = (_slope(vector, direction) > 0) | jnp.all(direction == 0)
    return _Try(shift, factor, is_definite & fits & descends, previous.count + 1)

  def is_unfinished(last: _Try) -> jax.Array:
    return ~last.succeeded & (last.count < MAX_TRIES)

  start = _Try(damping, jnp.zeros_like(matrix), jnp.array(False), jnp.zeros([], jnp.int32))
  return jax.lax.while_loop(is_unfinished, attempt, start)


def _slope(gradient: jax.Array, direction: jax.Array) -> jax.Array:
  """Gives `<g, p>` up to a positive factor, chosen so that it neither overflows nor underflows."""

  def normalise(x: jax.Array) -> jax.Array:
    largest = jnp.max(jnp.abs(x))
    return x / jnp.where(largest == 0, 1, largest)

  return jnp.sum(normalise(gradient) * normalise(direction))
