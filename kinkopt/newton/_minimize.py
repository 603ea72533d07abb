"""Minimises a function by any Optax transform, in one compiled loop."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kinkopt._checks import NON_NEGATIVE, Interval, check_floating, check_integer, check_number
from kinkopt._coordinates import split_real
from kinkopt._numerics import all_finite, machine_eps
from kinkopt.newton._implicit import minimiser
from kinkopt.newton._lanes import loop as lanes_loop
from kinkopt.newton._newton import NOISE, NewtonState, newton
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._point import scalar, with_names
from kinkopt.newton._solution import Solution, Stop

# A line search that finds nothing may find something from the next start of its own; three times
# the same nothing is the end. Losses that do not differ ten times in a row are noise.
PATIENCE_WITHOUT_STEP = 3
PATIENCE_WITHOUT_CHANGE = 10
PATIENCE_UPHILL = 10

NEWTON = newton()  # one object, so that one compiled loop serves all calls without an optimizer


class _Carry(NamedTuple):
  params: optax.Params
  state: optax.OptState
  value: jax.Array
  grads: optax.Updates
  size: jax.Array  # of the gradient's largest coordinate
  best: jax.Array  # the least `size` so far
  still: jax.Array  # updates in a row that moved nothing
  quiet: jax.Array  # updates in a row after which the loss was the same but for rounding
  uphill: jax.Array  # updates, from the first on, that climbed
  is_spent: jax.Array  # whether another step like the last could not be told from rounding
  steps: jax.Array
  stopped: jax.Array


def minimize(
  fun: Callable[..., Any],
  params: optax.Params,
  optimizer: optax.GradientTransformation = NEWTON,
  *,
  data: Mapping[str, Any] | None = None,
  tol: float | jax.Array | None = None,
  max_steps: int = 1000,
  has_aux: bool = False,
  callback: Callable[[int, float, float], None] | None = None,
  batch_size: int | None = None,
) -> Solution:
  """Minimises a function of a pytree, by Newton's method or any chain of Optax.

  Each link of the chain is handed what it may ask for: `value`, `grad`, `value_fn` and the data.

  Args:
    fun: `(params, **data) -> loss`, one real number; with `has_aux`, `(loss, aux)`.
    params: where to start; a tree of floating or complex arrays.
    optimizer: `newton()` by default. Keep the object if you call often: the loop is compiled once
      for each function and optimizer.
    data: further arguments of `fun`, by name. What is closed over instead is compiled in anew for
      each new closure.
    tol: what no coordinate of the gradient may exceed in the end, in the unit of the gradient. None
      takes `sqrt(machine_eps)` of the parameters' widest dtype.
    max_steps: the most updates.
    has_aux: whether `fun` returns something else besides the loss.
    callback: called with the number of the step, the loss and the size of the gradient, after each
      step, from wherever the device stands; `kinkopt.newton.ProgressBar` is one.
    batch_size: how many problems run at once under `jax.vmap`. None takes 16 on a CPU, and 1024
      elsewhere; where a problem is done, the next takes its place.

  Returns:
    A `Solution`; its `reason` says why it ended.

  Raises:
    TypeError: if a leaf of `params` is not floating point, `fun` does not return one real number,
      or an option is no number.
    ValueError: if `tol` or `max_steps` is negative, or `batch_size` is not at least 1.

  Numerics:
    Steps from which loss or gradient come back NaN or infinite are not taken, and end it. Under
    `vmap` each problem stops by itself, and none changes a bit of another.

    `Solution.params` and `value` have derivatives with respect to whatever `fun` depends on, `data`
    or closed over, forward and reverse, at the cost of one solve with the Hessian, whatever the
    number of steps (the implicit function theorem). They are right as far as the gradient is zero
    there, and NaN where the Hessian is not positive definite. The start has no part in them.

  Differs from Optax:
    Optax leaves the loop to you.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> def rosenbrock(x, a=1.0):
    ...   return (a - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> found = kinkopt.minimize(rosenbrock, jnp.array([-1.2, 1.0]))
    >>> print(found.params.round(3), found.reason.name)
    [1. 1.] CONVERGED
    >>> where = lambda a: kinkopt.minimize(rosenbrock, jnp.zeros(2), data={"a": a}).params
    >>> print(jax.jacobian(where)(2.0).round(2))  # the minimum is at (a, a**2)
    [1. 4.]
  """
  advice = "close over counters and masks, or hand them on as `data`."
  check_floating("minimize", params, "parameters", advice)
  advice = "It is what no coordinate of the gradient may exceed in the end."
  if tol is not None:
    check_number("minimize", "tol", tol, NON_NEGATIVE, advice)
  check_integer("minimize", "max_steps", max_steps, NON_NEGATIVE, "It counts updates.")
  if batch_size is not None:
    advice = "It is how many problems run at once under `jax.vmap`."
    check_integer("minimize", "batch_size", batch_size, Interval(1, math.inf), advice)
  if not isinstance(optimizer, optax.GradientTransformation):
    raise TypeError(
      f"`minimize(optimizer=...)` must be an Optax transform, but is {optimizer!r}. Pass, say, "
      "`kinkopt.newton.newton()` or `optax.lbfgs()`."
    )
  params = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), params)
  return _minimize(
    params, dict(data or {}), tol, jnp.int32(max_steps), fun=fun, optimizer=optimizer,
    has_aux=has_aux, callback=callback, batch_size=batch_size,
  )  # fmt: skip


@functools.partial(
  jax.jit, static_argnames=("fun", "optimizer", "has_aux", "callback", "batch_size")
)
def _minimize(
  params: optax.Params,
  data: dict[str, Any],
  tol: ArrayLike | None,
  max_steps: jax.Array,
  *,
  fun: Callable[..., Any],
  optimizer: optax.GradientTransformation,
  has_aux: bool,
  callback: Callable[[int, float, float], None] | None,
  batch_size: int | None,
) -> Solution:
  parts, join = split_real(params)
  if tol is None:
    tol = machine_eps(parts[0].dtype if parts else jnp.float32) ** 0.5

  def value_and_aux(params: optax.Params, **named: Any) -> tuple[jax.Array, Any]:
    found = fun(params, **{**data, **named})
    value, aux = found if has_aux else (found, None)
    return scalar("fun", value), aux

  def value_fn(params: optax.Params, **named: Any) -> jax.Array:
    return value_and_aux(params, **named)[0]

  with_names(value_fn, data)

  rounds = _Rounds(
    value_fn, optax.with_extra_args_support(optimizer), data, tol, max_steps, callback
  )

  def gradient(parts: list[jax.Array]) -> list[jax.Array]:
    return jax.grad(lambda parts: value_fn(join(parts)))(parts)

  loop = lanes_loop(rounds.begin, rounds.advance, rounds.is_done, params, batch_size)
  end = minimiser(loop, gradient, params)
  value, aux = value_and_aux(end.params)
  return Solution(end.params, value, end.size, end.steps, end.stopped, end.state, aux)


class _Rounds(NamedTuple):
  """One update after another, until there is a reason to stop."""

  value_fn: Callable[[optax.Params], jax.Array]
  optimizer: optax.GradientTransformationExtraArgs
  data: dict[str, Any]
  tol: ArrayLike
  max_steps: jax.Array
  callback: Callable[[int, float, float], None] | None

  def begin(self, params: optax.Params) -> _Carry:
    value, grads, size, is_finite = self._look(params)
    zero = jnp.zeros([], jnp.int32)
    stopped = self._reason(~is_finite, size, [(self.max_steps <= zero, Stop.MAX_STEPS)])
    state = self.optimizer.init(params)
    no = jnp.array(False)
    return _Carry(params, state, value, grads, size, size, zero, zero, zero, no, zero, stopped)

  def is_done(self, carry: _Carry) -> jax.Array:
    return carry.stopped != Stop.NOT_YET.code

  def advance(self, at: _Carry) -> _Carry:
    updates, state = self.optimizer.update(
      at.grads, at.state, at.params, value=at.value, grad=at.grads, value_fn=self.value_fn,
      **self.data,
    )  # fmt: skip
    params = optax.apply_updates(at.params, updates)
    value, grads, size, is_finite = self._look(params)
    steps = jnp.asarray(optax.safe_increment(at.steps))
    is_moved = _any(jax.tree.map(lambda a, b: jnp.any(a != b), params, at.params))
    noise = NOISE * machine_eps(value.dtype) * jnp.maximum(jnp.abs(value), jnp.abs(at.value))
    is_quiet = (jnp.abs(value - at.value) <= noise) & (size > at.best / 2)
    climbs = (_dot(at.grads, updates) > 0) & (value > at.value + noise)
    still = jnp.where(is_moved, 0, at.still + 1)
    quiet = jnp.where(is_quiet, at.quiet + 1, 0)
    uphill = at.uphill + climbs
    magnitudes = lambda tree: jax.tree.map(jnp.abs, tree)  # noqa: E731
    is_spent = jnp.where(
      is_moved, _dot(magnitudes(grads), magnitudes(updates)) <= noise, at.is_spent
    )
    is_stuck = still >= PATIENCE_WITHOUT_STEP
    stopped = self._reason(
      ~is_finite,
      size,
      [
        (_is_at_floor(state) | (is_stuck & is_spent), Stop.PRECISION_FLOOR),
        (quiet >= PATIENCE_WITHOUT_CHANGE, Stop.PRECISION_FLOOR),
        (is_stuck, Stop.NO_DESCENT),
        ((uphill == steps) & (steps >= PATIENCE_UPHILL), Stop.UPHILL),
        (steps >= self.max_steps, Stop.MAX_STEPS),
      ],
    )
    if self.callback is not None:
      # Lanes that are done are stepped with the others, for nothing.
      jax.debug.callback(
        functools.partial(_tell, self.callback), ~self.is_done(at), steps, value, size
      )
    old = (at.params, at.value, at.grads, at.size)
    taken = jax.tree.map(lambda a, b: jnp.where(is_finite, a, b), (params, value, grads, size), old)
    params, value, grads, size = taken
    best = jnp.minimum(at.best, size)
    return _Carry(
      params, state, value, grads, size, best, still, quiet, uphill, is_spent, steps, stopped
    )

  def _look(self, params: optax.Params) -> tuple[jax.Array, optax.Updates, jax.Array, jax.Array]:
    """Gives the loss, the direction of steepest ascent, its size, and whether all is finite."""
    value, grads = jax.value_and_grad(self.value_fn)(params)
    grads = optax.tree.conj(grads)
    parts = split_real(grads)[0]
    sizes = [jnp.max(jnp.abs(part), initial=0) for part in parts]
    is_finite = all_finite([value, *parts])
    size = jnp.max(jnp.stack(sizes)) if sizes else jnp.zeros([], value.dtype)
    return value, grads, size, is_finite

  def _reason(
    self, is_broken: jax.Array, size: jax.Array, others: list[tuple[jax.Array, Stop]]
  ) -> jax.Array:
    first = [(is_broken, Stop.NOT_FINITE), (size <= self.tol, Stop.CONVERGED)]
    conditions, stops = zip(*first, *others)
    code = jnp.select(list(conditions), [stop.code for stop in stops], Stop.NOT_YET.code)
    return code.astype(jnp.int32)


def _tell(callback: Callable[..., None], is_step: bool, *row: Any) -> None:
  if is_step:
    callback(*row)


def _any(tree: Any) -> jax.Array:
  return jnp.any(jnp.stack(jax.tree.leaves(tree) or [jnp.array(False)]))


def _dot(a: Any, b: Any) -> jax.Array:
  pairs = zip(split_real(a)[0], split_real(b)[0])
  return jnp.sum(jnp.stack([jnp.zeros([])] + [jnp.sum(x * y) for x, y in pairs]))


def _is_at_floor(state: optax.OptState) -> jax.Array:
  """Says whether a Newton transform has seen that rounding hides what is left."""
  is_newton = lambda node: isinstance(node, NewtonState)  # noqa: E731
  nodes = [node for node in jax.tree.leaves(state, is_leaf=is_newton) if is_newton(node)]
  return _any([node.outcome == Outcome.PRECISION_FLOOR.code for node in nodes])
