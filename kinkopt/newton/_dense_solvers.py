"""Direct solvers beside Cholesky's: by eigenvalues, and by elimination."""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from kinkopt._checks import Interval
from kinkopt._numerics import machine_eps
from kinkopt.newton._checks import check_option
from kinkopt.newton._curvature import Linearization
from kinkopt.newton._matrix import Matrix, multiply
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._point import Parts, Point
from kinkopt.newton._solver import Solver, Step, is_descent, safe_problem


class DenseSolver(Solver):
  """Writes the matrix out, and takes the solution if it descends, and the gradient else."""

  @abc.abstractmethod
  def solve(
    self, matrix: Matrix, vector: jax.Array, damping: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Solves with a finite matrix; gives the direction and the code of how it came about."""

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
    found, found_code = self.solve(matrix, vector, damping)
    descends = is_descent(vector, found, largest)
    outcome = jnp.select(
      [code != Outcome.NEWTON.code, ~descends], [code, Outcome.CLIMBS.code], found_code
    ).astype(jnp.int32)
    is_taken = is_solvable & descends
    direction = jnp.where(is_taken, found, vector)
    return Step(point.unravel(direction), outcome, jnp.where(is_taken, damping, 0))


@dataclasses.dataclass(frozen=True)
class Eigenvalues(DenseSolver):
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

  def solve(
    self, matrix: Matrix, vector: jax.Array, damping: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    # Scaled to 1, so that no product over- or underflows.
    size = jnp.maximum(matrix.largest(), damping)
    dense = matrix.dense() / size + damping / size * jnp.eye(vector.size, dtype=vector.dtype)
    values, vectors = jnp.linalg.eigh(dense)
    floor = machine_eps(vector.dtype) ** 0.5 if self.floor is None else self.floor
    magnitudes = jnp.maximum(jnp.abs(values), floor * jnp.max(jnp.abs(values)))
    direction = multiply(vectors, multiply(vectors.T, vector) / magnitudes) / size
    is_flipped = jnp.any(values < magnitudes)
    return direction, jnp.where(is_flipped, Outcome.FLIPPED.code, Outcome.NEWTON.code)


@dataclasses.dataclass(frozen=True)
class LU(DenseSolver):
  """Solves by elimination, whatever the signs of the eigenvalues, and takes what descends.

  Numerics:
    Where the solution climbs, as it does near a maximum, the update is the gradient.

  Example:
    >>> import kinkopt
    >>> tx = kinkopt.newton.scale_by_newton(solver=kinkopt.newton.LU())
  """

  def solve(
    self, matrix: Matrix, vector: jax.Array, damping: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    shifted = matrix.dense() + damping * jnp.eye(vector.size, dtype=vector.dtype)
    return jnp.linalg.solve(shifted, vector), jnp.asarray(Outcome.NEWTON.code)
