"""What the loop of `minimize` repeats: an update, and whether there is a reason to stop."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kinkopt._coordinates import split_real
from kinkopt._numerics import all_finite, machine_eps
from kinkopt.newton._newton import NOISE, NewtonState
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._solution import Stop

# A line search that finds nothing may find something from the next start of its own; three times
# the same nothing is the end. Losses that do not differ ten times in a row are noise.
PATIENCE_WITHOUT_STEP = 3
PATIENCE_WITHOUT_CHANGE = 10
PATIENCE_UPHILL = 10


class Carry(NamedTuple):
  """How far a minimisation has come."""

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


class Rounds(NamedTuple):
  """What begins a minimisation, takes it one step further, and ends it."""

  value_fn: Callable[[optax.Params], jax.Array]
  optimizer: optax.GradientTransformationExtraArgs
  data: dict[str, Any]
  tol: ArrayLike
  max_steps: jax.Array
  callback: Callable[[int, float, float], None] | None

  def begin(self, params: optax.Params) -> Carry:
    value, grads, size, is_finite = self._look(params)
    zero = jnp.zeros([], jnp.int32)
    stopped = self._reason(~is_finite, size, [(self.max_steps <= zero, Stop.MAX_STEPS)])
    state = self.optimizer.init(params)
    no = jnp.array(False)
    return Carry(params, state, value, grads, size, size, zero, zero, zero, no, zero, stopped)

  def is_done(self, carry: Carry) -> jax.Array:
    return carry.stopped != Stop.NOT_YET.code

  def advance(self, at: Carry) -> Carry:
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
    return Carry(
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
