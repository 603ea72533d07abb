"""Globalisations of a matrix that is made dimensionless first: damping, trust region, cubic term.

Coordinates are measured in units in which no row of the Hessian has an entry above 1, so that a
parameter in kilometres and one in nanometres take part alike; what is remembered of earlier
Hessians keeps a coordinate short whose curvature has vanished. In these units the step solves
`(H + shift I) p = g`, and the three differ in what chooses the shift.
"""

import abc
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kinkopt._checks import NON_NEGATIVE, POSITIVE
from kinkopt._numerics import machine_eps, normalized
from kinkopt.newton._checks import check_option
from kinkopt.newton._curvature import Linearization
from kinkopt.newton._globalization import GOOD, POOR, Globalization, Problem, next_radius
from kinkopt.newton._matrix import Matrix
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._point import Parts, Point
from kinkopt.newton._region import Model, definite_model, norm, step_of_length

SWEEPS = 6  # of Ruiz's equilibration; each halves the logarithm of what is left to do
UNEVEN = 1.01  # a row whose largest entry is off by less is left as it is
# A coordinate without curvature is not taken for one whose unit is infinitely long.
LONGEST_UNIT = 1e10
# Times the length of the parameters (or 1); MINPACK's default for the first radius.
LONGEST_STEP = 100.0


class Limits(NamedTuple):
  """What a step may be, in the units of the matrix."""

  least: jax.Array  # float[]; a shift that is just above rounding
  longest: jax.Array  # float[]; no Newton step is believed that goes farther


class ScaledMemory(NamedTuple):
  """What is kept between updates."""

  scale: jax.Array  # float[]; the damping, radius or weight, in the units of `units`
  units: jax.Array  # float[n]; curvature is divided by two of them
  rejections: jax.Array  # int32[]; in a row


def units_of(matrix: Matrix) -> jax.Array:
  """Finds units in which the largest entry of each row is about 1 (Ruiz, 2001)."""
  rows = matrix.row_largest()

  def sweep(at: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    units, largest, count = at
    units = units * jnp.sqrt(jnp.where(largest > 0, largest, 1))
    return units, matrix.scaled(units).row_largest(), count + 1

  def is_uneven(at: tuple[jax.Array, ...]) -> jax.Array:
    _, largest, count = at
    is_off = (largest > UNEVEN) | ((largest < 1 / UNEVEN) & (largest > 0))
    return jnp.any(is_off) & (count < SWEEPS)

  begin = (jnp.ones_like(rows), rows, jnp.zeros([], jnp.int32))
  units, _, _ = jax.lax.while_loop(is_uneven, sweep, begin)
  units = jnp.where(rows > 0, units, 0)
  units = jnp.maximum(units, jnp.max(units) / LONGEST_UNIT)
  return jnp.where(jnp.isfinite(units) & (units > 0), units, 1)


class Scaled(Globalization):
  """A globalisation by one number, in the units of the Hessian."""

  @abc.abstractmethod
  def first_scale(self, point: jax.Array) -> ArrayLike:
    """Gives the scale of the first trial, from the point in the units of the matrix."""

  @abc.abstractmethod
  def model(self, matrix: Matrix, gradient: jax.Array, scale: jax.Array, limits: Limits) -> Model:
    """Gives the step for a scale."""

  @abc.abstractmethod
  def next_scale(
    self, scale: jax.Array, ratio: jax.Array, model: Model, rejections: jax.Array
  ) -> jax.Array:
    """Gives the scale for the next trial."""

  def init(self, parts: Parts) -> ScaledMemory:
    size, dtype = sum(part.size for part in parts), parts[0].dtype if parts else jnp.float32
    return ScaledMemory(jnp.zeros([], dtype), jnp.zeros(size, dtype), jnp.zeros([], jnp.int32))

  def pose(
    self,
    curvature: Linearization,
    point: Point,
    gradient: Parts,
    memory: ScaledMemory,
    is_first: jax.Array,
  ) -> Problem:
    matrix, flat = curvature.matrix(), point.ravel(gradient)
    is_finite = matrix.is_finite()
    matrix = matrix.where(is_finite, matrix.map(jnp.zeros_like))
    units = jnp.maximum(memory.units, units_of(matrix))
    matrix, vector = matrix.scaled(units), flat / units
    place = point.ravel(point.parts) * units
    size = matrix.bound()
    # Without curvature the step is the gradient, at first as long as the parameters are.
    reach = jnp.maximum(norm(place), 1)
    slow = norm(vector) / reach
    least = jnp.where(size > 0, machine_eps(point.dtype) ** 0.5 * size, slow)
    limits = Limits(least, LONGEST_STEP * reach)
    first = jnp.asarray(self.first_scale(place), point.dtype)
    code = jnp.select(
      [~is_finite, size == 0],
      [Outcome.HESSIAN_NOT_FINITE.code, Outcome.ZERO_HESSIAN.code],
      Outcome.NEWTON.code,
    )

    def step(memory: ScaledMemory) -> Model:
      model = self.model(matrix, vector, memory.scale, limits)
      step = model.step / memory.units
      # A step along negative curvature alone, where the gradient underflowed in these units.
      climbs = jnp.sum(normalized(flat) * normalized(step)) < 0
      return model._replace(step=point.unravel(jnp.where(climbs, -step, step)))

    scale = jnp.where(is_first, first, memory.scale)
    return Problem(ScaledMemory(scale, units, jnp.zeros([], jnp.int32)), step, code)

  def learn(self, memory: ScaledMemory, ratio: jax.Array, model: Model) -> ScaledMemory:
    # The length in the units of the matrix is what the scale is about.
    flat = jnp.concatenate([part.ravel() for part in model.step]) * memory.units
    scale = self.next_scale(memory.scale, ratio, model._replace(step=flat), memory.rejections)
    rejections = jnp.where(ratio >= POOR, 0, memory.rejections + 1)
    return memory._replace(scale=scale.astype(memory.scale.dtype), rejections=rejections)


def _doubled(times: jax.Array, dtype: jnp.dtype) -> jax.Array:
  return jnp.asarray(2, dtype) ** jnp.minimum(times, 60).astype(dtype)


@dataclasses.dataclass(frozen=True)
class AdaptiveDamping(Scaled):
  """Adds a multiple of the identity that is adapted from trial to trial, as Levenberg did.

  Args:
    initial: the first damping, >= 0, relative to the largest entries of the Hessian (it has no
      unit). 0 tries the Newton step first.

  Numerics:
    One Cholesky factor a trial. Damping is divided by 10 after a step that did as the model said
    (a ratio of 0.75 or more), halved after a fair one, and multiplied by 2.5, 5, 10 ... at a poor
    one (below 0.25) and by 10 while the matrix is not positive definite. Chosen by the numbers of
    Hessians on the 164 cases of `tests/newton/problems.py`.

  Example:
    >>> import kinkopt
    >>> tx = kinkopt.newton.newton(globalization=kinkopt.newton.AdaptiveDamping(initial=0.01))

  References:
    Levenberg (1944); Marquardt (1963); Moré (1978), for units that are remembered.
  """

  initial: float | jax.Array = 0.0

  def __post_init__(self) -> None:
    advice = "It is relative to the largest entries of the Hessian; 0 tries the Newton step first."
    check_option(self, "initial", NON_NEGATIVE, advice)

  def first_scale(self, point: jax.Array) -> ArrayLike:
    return jnp.asarray(self.initial)

  def model(self, matrix: Matrix, gradient: jax.Array, scale: jax.Array, limits: Limits) -> Model:
    return definite_model(matrix, gradient, scale, limits.least, limits.longest)

  def next_scale(
    self, scale: jax.Array, ratio: jax.Array, model: Model, rejections: jax.Array
  ) -> jax.Array:
    used = model.shift
    smaller = jnp.where(used > 64 * machine_eps(scale.dtype), used / 10, 0)
    # Beyond, the Hessian is nothing beside the damping.
    largest = model.least / machine_eps(scale.dtype) ** 1.5
    larger = jnp.maximum(used * 2.5 * _doubled(rejections, scale.dtype), model.least)
    larger = jnp.minimum(larger, largest)
    return jnp.select([ratio >= GOOD, ratio >= POOR], [smaller, used / 2], larger)


@dataclasses.dataclass(frozen=True)
class TrustRegion(Scaled):
  """Minimises the quadratic model within a radius, exactly, by Cholesky factors.

  Args:
    initial_radius: of the first trial, > 0, in units in which the Hessian has no entry above 1.
      None takes the length of the parameters, 1 at the least.

  Numerics:
    Two or three Cholesky factors a trial; lengths are met to a tenth. At a saddle or a maximum,
    where the gradient is zero, it goes on along the most negative curvature.

  Example:
    >>> import kinkopt
    >>> tx = kinkopt.newton.newton(globalization=kinkopt.newton.TrustRegion())

  References:
    Moré and Sorensen (1983); Conn, Gould and Toint, "Trust-Region Methods" (2000), chapter 7.
  """

  initial_radius: float | jax.Array | None = None

  def __post_init__(self) -> None:
    check_option(self, "initial_radius", POSITIVE, "None takes the length of the parameters.")

  def first_scale(self, point: jax.Array) -> ArrayLike:
    return jnp.maximum(norm(point), 1) if self.initial_radius is None else self.initial_radius

  def model(self, matrix: Matrix, gradient: jax.Array, scale: jax.Array, limits: Limits) -> Model:
    return step_of_length(matrix, gradient, 1 / scale, jnp.zeros_like(scale))

  def next_scale(
    self, scale: jax.Array, ratio: jax.Array, model: Model, rejections: jax.Array
  ) -> jax.Array:
    return next_radius(scale, ratio, norm(model.step))


@dataclasses.dataclass(frozen=True)
class CubicRegularization(Scaled):
  """Minimises the quadratic model plus `weight / 3 * |p|**3` (adaptive cubic regularisation, ARC).

  Args:
    initial_weight: of the first trial, > 0, in units in which the Hessian has no entry above 1.
      None takes one over the length of the parameters, 1 at most.

  Numerics:
    Two or three Cholesky factors a trial.

  Example:
    >>> import kinkopt
    >>> tx = kinkopt.newton.newton(globalization=kinkopt.newton.CubicRegularization())

  References:
    Nesterov and Polyak (2006); Cartis, Gould and Toint (2011).
  """

  initial_weight: float | jax.Array | None = None

  def __post_init__(self) -> None:
    check_option(self, "initial_weight", POSITIVE, "None takes one over the parameters' length.")

  def first_scale(self, point: jax.Array) -> ArrayLike:
    own = 1 / jnp.maximum(norm(point), 1)
    return own if self.initial_weight is None else self.initial_weight

  def model(self, matrix: Matrix, gradient: jax.Array, scale: jax.Array, limits: Limits) -> Model:
    return step_of_length(matrix, gradient, jnp.zeros_like(scale), scale)

  def next_scale(
    self, scale: jax.Array, ratio: jax.Array, model: Model, rejections: jax.Array
  ) -> jax.Array:
    growth = 2.5 * _doubled(rejections, scale.dtype)
    smaller = jnp.maximum(scale / 10, jnp.finfo(scale.dtype).tiny ** 0.5)
    return jnp.select([ratio >= GOOD, ratio >= POOR], [smaller, scale / 2], scale * growth)
