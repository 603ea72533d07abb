"""Newton's method that globalises itself: no step is taken that does not lower the loss.

An update makes the quadratic model once, then tries steps of it until the loss falls by a fair
share of what the model said; what the trials taught about the model is kept for the next update.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kinkopt._checks import check_floating
from kinkopt._coordinates import split_real
from kinkopt._numerics import all_finite, machine_eps
from kinkopt.newton._checks import check_strategy, check_update
from kinkopt.newton._curvature import Curvature, Hessian
from kinkopt.newton._eager import compiled
from kinkopt.newton._globalization import Globalization, Problem
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._point import Parts, Point
from kinkopt.newton._region import Model
from kinkopt.newton._scaled import AdaptiveDamping

# After 20 rejections in a row the damping has grown by 2**190: nothing is left of the step.
MAX_TRIALS = 20
ACCEPTED = 1e-4  # of the decrease that the model says: Nocedal and Wright (2006), section 4.1
# Losses closer than this multiple of their rounding error cannot be told apart.
NOISE = 16.0


class NewtonState(NamedTuple):
  """How the last update came about, and how far the next may go."""

  count: jax.Array  # int32[]; stays at its largest value instead of wrapping round
  outcome: jax.Array  # int32[]; the code of an `Outcome`
  accepted: jax.Array  # bool[]; whether the last update was a step
  trials: jax.Array  # int32[]; how often the last update evaluated the loss
  memory: Any  # of the globalisation


class _Trial(NamedTuple):
  memory: Any
  model: Model
  is_accepted: jax.Array
  is_noise: jax.Array  # whether rounding hides what the step does
  count: jax.Array


def newton(
  *,
  curvature: Curvature = Hessian(),  # noqa: B008
  globalization: Globalization = AdaptiveDamping(),  # noqa: B008
) -> optax.GradientTransformationExtraArgs:
  """Newton's method, damped as far as the loss demands.

  The class notes write::

      x <- x - [Hf(x)]^-1 grad f(x)

  That is the first thing tried; where it would climb or does not lower the loss, the Hessian is
  damped and tried again. Call it with the loss, and last in a chain::

      tx.update(grads, state, params, value_fn=loss, batch=batch)

  where `batch` stands for any argument of `loss` after the parameters.

  Args:
    curvature: which matrix `H` is: `Hessian()`, or `GaussNewton`, `BandedHessian`,
      `SparseHessian`, `BlockDiagonal`, `DiagonalHessian`.
    globalization: what makes a step shorter: `AdaptiveDamping()`, or `TrustRegion`,
      `CubicRegularization`, or `SteihaugTrustRegion`, which makes no matrix.

  Returns:
    A transformation whose updates are ready for `optax.apply_updates`. Its state holds `count`,
    `outcome` (int32; see `kinkopt.newton.outcome`), `accepted`, `trials` and the globalisation's
    `memory`.

  Raises:
    TypeError: if `curvature` or `globalization` is none; at `update`, if a leaf is not floating
      point, if only one of a parameter and its gradient is complex, or if `value_fn` does not
      return one real number.
    ValueError: at `update`, if `params` or `value_fn` is missing, if the trees or shapes of
      gradient and parameters differ, or under `optax.masked` (see `kinkopt.newton.restricted`).

  Numerics:
    One Hessian an update, and one value of the loss a trial. The update is finite, and it lowers
    the loss or is zero: zero where loss or gradient are not finite, and where no trial of 20
    helped. Where the decrease is below the rounding of the loss, the slopes at both ends of the
    step decide instead of the values, so that a large constant in the loss does no harm.

    The incoming updates must be the gradient of `value_fn` at `params`: regularise within
    `value_fn`, not in a chain before. `value=`, the loss at `params`, saves an evaluation. In
    `optax.MultiSteps` loss and Hessian are those of the last call alone; on minibatches, those of
    the batch at hand.

    Outside of `jit` an update is traced at each call, and compiles itself when its program changes.
    That is for trying things out: in a `jit` of your own a call costs a hundredth of that.

  Differs from Optax:
    Optax has no Newton's method. `scale_by_newton` is the link for chains with a line search.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import kinkopt
    >>> loss = lambda x: jnp.sum(jnp.cos(x))  # a maximum at 0, a minimum at pi
    >>> params = jnp.array([0.3, 0.4])
    >>> tx = kinkopt.newton.newton()
    >>> state = tx.init(params)
    >>> for _ in range(8):
    ...   updates, state = tx.update(jax.grad(loss)(params), state, params, value_fn=loss)
    ...   params = optax.apply_updates(params, updates)
    >>> print(jnp.cos(params).round(4))
    [-1. -1.]

  References:
    CS231n notes, "Second order methods"; Nocedal and Wright, "Numerical Optimization" (2006),
    chapter 4; Conn, Gould and Toint, "Trust-Region Methods" (2000), section 17.4.2 on rounding.
  """
  check_strategy("newton", "curvature", curvature, Curvature)
  check_strategy("newton", "globalization", globalization, Globalization)

  def init(params: optax.Params) -> NewtonState:
    check_floating("newton", params, "parameters")
    like = jax.eval_shape(lambda tree: split_real(tree)[0], params)
    return NewtonState(
      count=jnp.zeros([], jnp.int32),
      outcome=jnp.array(Outcome.NOT_STARTED.code, jnp.int32),
      accepted=jnp.array(False),
      trials=jnp.zeros([], jnp.int32),
      memory=globalization.init(like),
    )

  def update(
    updates: optax.Updates,
    state: NewtonState,
    params: optax.Params | None = None,
    *,
    value_fn: Callable[..., ArrayLike] | None = None,
    value: ArrayLike | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, NewtonState]:
    point = check_update("newton", updates, params, value_fn, extra_args)
    count = optax.safe_increment(state.count)
    if point.size == 0:
      code = jnp.array(Outcome.NEWTON.code, jnp.int32)
      return updates, state._replace(count=count, outcome=code, accepted=jnp.array(True))
    gradient, join = split_real(updates)
    gradient = [part.astype(point.dtype) for part in gradient]
    value = point.value_of(params) if value is None else jnp.asarray(value)
    broken = _broken(value, gradient)
    gradient = [jnp.where(broken == Outcome.NEWTON.code, part, 0) for part in gradient]
    problem = globalization.pose(
      curvature.at(point), point, gradient, state.memory, state.count == 0
    )
    last = _search(globalization, problem, point, gradient, value, broken)
    step = [jnp.where(last.is_accepted, -part, 0) for part in last.model.step]
    state = NewtonState(
      count, _code(last, problem, broken, gradient), last.is_accepted, last.count, last.memory
    )
    return join(step), state

  return optax.GradientTransformationExtraArgs(init, compiled(update))


def _broken(value: jax.Array, gradient: Parts) -> jax.Array:
  """Gives the code of what forbids any step, or that of `NEWTON`."""
  return jnp.select(
    [~jnp.isfinite(value), ~all_finite(gradient)],
    [Outcome.VALUE_NOT_FINITE.code, Outcome.GRADIENT_NOT_FINITE.code],
    Outcome.NEWTON.code,
  )


def _code(last: _Trial, problem: Problem, broken: jax.Array, gradient: Parts) -> jax.Array:
  """Says in one number what became of the update."""
  is_flat = jnp.all(jnp.stack([jnp.all(part == 0) for part in gradient]))
  code = jnp.select(
    [
      broken != Outcome.NEWTON.code,
      is_flat & (problem.code == Outcome.NEWTON.code),  # which the model tells apart
      ~last.is_accepted & last.is_noise,
      ~last.is_accepted,
      problem.code != Outcome.NEWTON.code,
    ],
    [broken, last.model.code, Outcome.PRECISION_FLOOR.code, Outcome.REJECTED.code, problem.code],
    last.model.code,
  )
  return code.astype(jnp.int32)


def _search(
  globalization: Globalization,
  problem: Problem,
  point: Point,
  gradient: Parts,
  start: jax.Array,
  broken: jax.Array,
) -> _Trial:
  """Tries steps until one lowers the loss."""
  noise = NOISE * machine_eps(start.dtype)

  def by_slopes(model: Model, params: optax.Params) -> jax.Array:
    """Gives the decrease by the trapezoidal rule, which cancels nothing."""
    slopes, _ = split_real(jax.grad(point.value_of)(params))
    pairs = zip(model.step, gradient, slopes)
    sums = [jnp.sum(p * (g + s.astype(point.dtype))) for p, g, s in pairs]
    return jnp.sum(jnp.stack(sums)) / 2

  def attempt(last: _Trial) -> _Trial:
    model = problem.step(last.memory)
    params = optax.apply_updates(point.params, point.join([-part for part in model.step]))
    value = point.value_of(params)
    decrease = (start - value).astype(point.dtype)
    floor = noise * jnp.maximum(jnp.abs(start), jnp.abs(value))
    is_noise = jnp.isfinite(value) & (jnp.abs(decrease) <= floor) & (model.decrease <= floor)
    decrease = jax.lax.cond(is_noise, lambda: by_slopes(model, params), lambda: decrease)
    is_defined = model.is_solved & jnp.isfinite(value)
    ratio = jnp.where(is_defined, decrease / model.decrease, -jnp.inf)
    is_accepted = is_defined & (ratio >= ACCEPTED)
    memory = globalization.learn(last.memory, ratio, model)
    return _Trial(memory, model, is_accepted, is_noise, last.count + 1)

  def is_unfinished(last: _Trial) -> jax.Array:
    has_reason = (broken == Outcome.NEWTON.code) & ~last.is_accepted & ~last.is_noise
    return has_reason & (last.count < MAX_TRIALS)

  no, none, zero = jnp.array(False), jnp.zeros([], jnp.int32), jnp.zeros([], point.dtype)
  still = [jnp.zeros_like(part) for part in gradient]  # sharded as the steps will be
  begin = _Trial(problem.memory, Model(still, zero, zero, no, zero, none), no, no, none)
  return jax.lax.while_loop(is_unfinished, attempt, begin)
