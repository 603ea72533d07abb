"""Conjugate gradients: Newton's equation by products alone, for what is too large for a matrix.

Every inner product is a sum of products, leaf by leaf, so sharded parameters stay as they are.
The iteration stops at the edge of a radius and at a direction of negative curvature, where the
quadratic model has no minimum (Steihaug, 1983; Toint, 1981).
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kinkopt._checks import POSITIVE, Interval
from kinkopt._numerics import all_finite
from kinkopt.newton._checks import check_option
from kinkopt.newton._curvature import Linearization
from kinkopt.newton._globalization import Globalization, Problem, next_radius
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._point import Parts, Point
from kinkopt.newton._region import Model
from kinkopt.newton._solver import Solver, Step, rounding_of_sum


def dot(a: Parts, b: Parts) -> jax.Array:
  """Gives the inner product; not by `vdot`, which gathers sharded leaves."""
  return jnp.sum(jnp.stack([jnp.sum(x * y) for x, y in zip(a, b)]))


def add(a: Parts, scale: jax.Array, b: Parts) -> Parts:
  """Gives `a + scale * b`."""
  return [x + scale * y for x, y in zip(a, b)]


def _magnitudes(parts: Parts) -> Parts:
  return [jnp.abs(part) for part in parts]


class _Iterate(NamedTuple):
  step: Parts
  residual: Parts  # gradient - H step
  direction: Parts
  square: jax.Array  # <residual, residual>
  decrease: jax.Array  # of the model
  code: jax.Array  # int32[]; that of `UNFINISHED` while it goes on
  count: jax.Array


def _to_edge(at: _Iterate, radius: jax.Array) -> jax.Array:
  """Gives how far along the direction the edge of the region is."""
  a, b = dot(at.direction, at.direction), dot(at.step, at.direction)
  missing = jnp.maximum(radius**2 - dot(at.step, at.step), 0)
  root = jnp.sqrt(b**2 + a * missing)
  return jnp.where(b > 0, missing / (b + root), (root - b) / a)


def truncated(
  mv: Callable[[Parts], Parts],
  gradient: Parts,
  radius: jax.Array,
  rtol: float | None,
  max_steps: int,
) -> Model:
  """Minimises `<p, H p>/2 - <g, p>` within a radius, by conjugate gradients, as far as it can.

  Args:
    mv: the product with H.
    gradient: finite.
    radius: of the region; infinity for none, where negative curvature ends at the last iterate, or
      at the gradient if it is met at once.
    rtol: the residual to reach, relative to the gradient; None takes `min(0.1, sqrt(|g|))`, by
      which Newton's method converges faster than linearly.
    max_steps: the most products with H.
  """
  # Divided by its largest coordinate, so that no square of it over- or underflows.
  size = jnp.max(jnp.stack([jnp.max(jnp.abs(part), initial=0) for part in gradient]))
  size = jnp.where(size > 0, size, 1)
  root = jnp.sqrt(size)  # XLA may multiply by the reciprocal, and that of `size` be subnormal
  gradient, radius = [part / root / root for part in gradient], radius / root / root
  square = dot(gradient, gradient)
  length = jnp.sqrt(square)
  wished = jnp.minimum(0.1, jnp.sqrt(length) * jnp.sqrt(size)) if rtol is None else rtol
  goal = (wished * length) ** 2
  zero = jnp.zeros_like(square)

  def advance(at: _Iterate) -> _Iterate:
    product = mv(at.direction)
    curvature, slope = dot(at.direction, product), dot(at.residual, at.direction)
    is_negative = ~(curvature > 0)
    alpha = at.square / jnp.where(is_negative, 1, curvature)
    edge = jnp.where(jnp.isinf(radius), jnp.inf, _to_edge(at, radius))
    # Without an edge there is nowhere to stop along negative curvature: at once, the gradient.
    alone = jnp.where(at.count == 0, 1, 0).astype(alpha.dtype)
    is_out = is_negative | (alpha >= edge)
    taken = jnp.where(is_out, jnp.where(jnp.isinf(edge), alone, edge), alpha)
    step = add(at.step, taken, at.direction)
    residual = add(at.residual, -taken, product)
    decrease = at.decrease + taken * (slope - taken * curvature / 2)
    following = dot(residual, residual)
    code = jnp.select(
      [is_negative, is_out, following <= goal],
      [Outcome.NEGATIVE_CURVATURE.code, Outcome.BOUNDARY.code, Outcome.NEWTON.code],
      Outcome.UNFINISHED.code,
    ).astype(jnp.int32)
    beta = following / jnp.where(at.square > 0, at.square, 1)
    direction = add(residual, beta, at.direction)
    found = _Iterate(step, residual, direction, following, decrease, code, at.count + 1)
    # What is not finite is not gone: the last iterate stands.
    is_finite = jnp.isfinite(decrease) & jnp.isfinite(following)
    stay = at._replace(code=jnp.int32(Outcome.PRODUCT_NOT_FINITE.code), count=at.count + 1)
    return jax.tree.map(lambda a, b: jnp.where(is_finite, a, b), found, stay)

  def is_unfinished(at: _Iterate) -> jax.Array:
    return (at.code == Outcome.UNFINISHED.code) & (at.count < max_steps)

  code = jnp.where(square > 0, Outcome.UNFINISHED.code, Outcome.NEWTON.code).astype(jnp.int32)
  start = [jnp.zeros_like(part) for part in gradient]
  begin = _Iterate(start, gradient, gradient, square, zero, code, jnp.int32(0))
  last = jax.lax.while_loop(is_unfinished, advance, begin)
  return _model(last, gradient, size)


def _model(last: _Iterate, gradient: Parts, size: jax.Array) -> Model:
  """Describes the step of a problem that was divided by `size`."""
  step, decrease = [size * part for part in last.step], size * last.decrease * size
  # What underflows in the gradient's unit does not go down with the rest.
  kept = [jnp.where(part == 0, 0, scaled) for part, scaled in zip(step, last.step)]
  slope, magnitude = dot(gradient, kept), dot(*(_magnitudes(x) for x in (gradient, kept)))
  count = sum(part.size for part in gradient)
  is_nothing = jnp.all(jnp.stack([jnp.all(part == 0) for part in step]))
  descends = (slope > rounding_of_sum(count, slope.dtype) * magnitude) | is_nothing
  is_flat = dot(gradient, gradient) == 0
  zero = jnp.zeros_like(slope)
  return Model(step, zero, decrease, (descends & (last.decrease > 0)) | is_flat, zero, last.code)


def _check_iteration(strategy: Any) -> None:
  advice = "It is the residual to reach, as a share of the gradient; None adapts it."
  check_option(strategy, "rtol", Interval(0, 1), advice)
  check_option(strategy, "max_steps", Interval(1, math.inf), "It counts products with the Hessian.")


@dataclasses.dataclass(frozen=True)
class ConjugateGradients(Solver):
  """Solves by products with the Hessian alone (truncated Newton, Newton-CG).

  Args:
    rtol: the residual to reach, relative to the gradient. None takes `min(0.1, sqrt(|g|))`.
    max_steps: the most products with the Hessian.

  Numerics:
    At a direction of negative curvature the last iterate is taken, which descends; the gradient, if
    it is met at once. Sharded parameters are not gathered.

  Example:
    >>> import kinkopt
    >>> solver = kinkopt.newton.ConjugateGradients(max_steps=20)
    >>> tx = kinkopt.newton.scale_by_newton(1e-3, solver=solver)

  References:
    Nocedal and Wright, "Numerical Optimization" (2006), Algorithm 7.1.
  """

  rtol: float | None = None
  max_steps: int = 100

  def __post_init__(self) -> None:
    _check_iteration(self)

  def direction(
    self,
    curvature: Linearization,
    point: Point,
    gradient: Parts,
    damping: jax.Array,
    largest: float,
  ) -> Step:
    is_finite = all_finite(gradient)
    vector = [jnp.where(is_finite, part, 0) for part in gradient]
    model = truncated(
      lambda parts: add(curvature.mv(parts), damping, parts),
      vector,
      jnp.full_like(damping, jnp.inf),
      self.rtol,
      self.max_steps,
    )
    is_short = [jnp.all(jnp.abs(part) <= largest) for part in model.step]
    fits = model.is_solved & jnp.all(jnp.stack(is_short))
    code = jnp.select(
      [~is_finite, fits],
      [Outcome.GRADIENT_NOT_FINITE.code, model.code],
      Outcome.PRODUCT_NOT_FINITE.code,
    )
    step = [jnp.where(fits, p, g) for p, g in zip(model.step, vector)]
    return Step(step, code.astype(jnp.int32), jnp.where(fits, damping, 0))


class RadiusMemory(NamedTuple):
  """What is kept between updates."""

  radius: jax.Array  # float[]


@dataclasses.dataclass(frozen=True)
class SteihaugTrustRegion(Globalization):
  """Minimises the quadratic model within a radius, roughly, by products with the Hessian alone.

  Args:
    initial_radius: of the first trial, > 0, in the unit of the parameters. None takes their length,
      1 at the least.
    rtol: the residual to reach, relative to the gradient. None takes `min(0.1, sqrt(|g|))`.
    max_steps: the most products with the Hessian in a trial.

  Numerics:
    No matrix is made, and sharded parameters are not gathered.

  Example:
    >>> import kinkopt
    >>> tx = kinkopt.newton.newton(globalization=kinkopt.newton.SteihaugTrustRegion())

  References:
    Steihaug (1983); Nocedal and Wright, "Numerical Optimization" (2006), Algorithm 7.2.
  """

  initial_radius: float | jax.Array | None = None
  rtol: float | None = None
  max_steps: int = 100

  def __post_init__(self) -> None:
    advice = "It is a length, in the unit of the parameters; None takes theirs."
    check_option(self, "initial_radius", POSITIVE, advice)
    _check_iteration(self)

  def init(self, parts: Parts) -> RadiusMemory:
    return RadiusMemory(jnp.zeros([], parts[0].dtype if parts else jnp.float32))

  def pose(
    self,
    curvature: Linearization,
    point: Point,
    gradient: Parts,
    memory: RadiusMemory,
    is_first: jax.Array,
  ) -> Problem:
    own = jnp.maximum(jnp.sqrt(dot(point.parts, point.parts)), 1)
    first = own if self.initial_radius is None else jnp.asarray(self.initial_radius, point.dtype)

    def step(memory: RadiusMemory) -> Model:
      return truncated(curvature.mv, gradient, memory.radius, self.rtol, self.max_steps)

    radius = jnp.where(is_first, first, memory.radius)
    return Problem(RadiusMemory(radius), step, jnp.int32(Outcome.NEWTON.code))

  def learn(self, memory: RadiusMemory, ratio: jax.Array, model: Model) -> RadiusMemory:
    return RadiusMemory(next_radius(memory.radius, ratio, jnp.sqrt(dot(model.step, model.step))))
