"""Direct solvers beside Cholesky's: by eigenvalues, and by elimination."""

import dataclasses

import jax
import jax.numpy as jnp

from kinkopt._checks import Interval
from kinkopt._numerics import machine_eps
from kinkopt.newton._checks import check_option
from kinkopt.newton._curvature import Linearization
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._point import Parts, Point
from kinkopt.newton._solver import Solver, Step, is_descent, safe_problem


@dataclasses.dataclass(frozen=True)
class Eigenvalues(Solver):
  """Divides by the magnitudes of the eigenvalues, so that a saddle repels.

  Args:
    floor: the least magnitude, relative to the largest; None takes `sqrt(machine_eps)`.

  Numerics:
    An eigendecomposition costs as much as about 25 Cholesky factors: for a few hundred coordinates
    at most.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> tx = kinkopt.newton.scale_by_newton(solver=kinkopt.newton.Eigenvalues())
    >>> saddle = lambda x: 2 * x[0] ** 2 - x[1] ** 2
    >>> x = jnp.array([1.0, 1.0])
    >>> updates, _ = tx.update(jax.grad(saddle)(x), tx.init(x), x, value_fn=saddle)
    >>> print(updates)
    [ 1. -1.]

  References:
    Nocedal and Wright, "Numerical Optimization" (2006), section 3.4; Dauphin et al. (2014).
  """

  floor: float | None = None

  def __post_init__(self) -> None:
    check_option(self, "floor", Interval(0, 1), "It is a share of the largest magnitude.")

  def direction(
    self,
    curvature: Linearization,
    point: Point,
    gradient: Parts,
    damping: jax.Array,
    largest: float,
  ) -> Step:
    matrix, vector, is_solvable, code = safe_problem(
      curvature.matrix(), point.ravel(gradient), damping
    )
    # Scaled to 1, so that no product over- or underflows.
    size = jnp.maximum(matrix.largest(), damping)
    dense = matrix.dense() / size + damping / size * jnp.eye(vector.size, dtype=vector.dtype)
    values, vectors = jnp.linalg.eigh(dense)
    floor = machine_eps(vector.dtype) ** 0.5 if self.floor is None else self.floor
    magnitudes = jnp.maximum(jnp.abs(values), floor * jnp.max(jnp.abs(values)))
    direction = _product(vectors, _product(vectors.T, vector) / magnitudes) / size
    is_flipped = jnp.any(values < magnitudes)
    found = jnp.where(is_flipped, Outcome.FLIPPED.code, Outcome.NEWTON.code)
    return _safe(direction, vector, found, code, is_solvable, damping, largest, point)


@dataclasses.dataclass(frozen=True)
class LU(Solver):
  """Solves by elimination, whatever the signs of the eigenvalues, and takes what descends.

  Numerics:
    Where the solution climbs, as it does near a maximum, the update is the gradient.

  Example:
    >>> import kinkopt
    >>> tx = kinkopt.newton.scale_by_newton(solver=kinkopt.newton.LU())
  """

  def direction(
    self,
    curvature: Linearization,
    point: Point,
    gradient: Parts,
    damping: jax.Array,
    largest: float,
  ) -> Step:
    matrix, vector, is_solvable, code = safe_problem(
      curvature.matrix(), point.ravel(gradient), damping
    )
    shifted = matrix.dense() + damping * jnp.eye(vector.size, dtype=vector.dtype)
    direction = jnp.linalg.solve(shifted, vector)
    found = jnp.asarray(Outcome.NEWTON.code)
    return _safe(direction, vector, found, code, is_solvable, damping, largest, point)


def _product(matrix: jax.Array, vector: jax.Array) -> jax.Array:
  return jnp.matmul(matrix, vector, precision="highest")


def _safe(
  direction: jax.Array,
  gradient: jax.Array,
  found: jax.Array,
  code: jax.Array,
  is_solvable: jax.Array,
  damping: jax.Array,
  largest: float,
  point: Point,
) -> Step:
  """Takes a direction if it descends, and the gradient else."""
  descends = is_descent(gradient, direction, largest)
  outcome = jnp.select(
    [code != Outcome.NEWTON.code, ~descends], [code, Outcome.CLIMBS.code], found
  ).astype(jnp.int32)
  taken = jnp.where(is_solvable & descends, direction, gradient)
  shift = jnp.where(is_solvable & descends, damping, 0)
  return Step(point.unravel(taken), outcome, shift)
