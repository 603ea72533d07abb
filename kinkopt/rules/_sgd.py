"""The vanilla update: a step against the gradient.

It is the last link of every rule that works without a rate, and the first link of those that keep
the rate inside their velocity; so the minus sign and the schedule live here and nowhere else.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kinkopt.rules._common import check_gradient, check_params, check_rate, elementwise


class SGDState(NamedTuple):
  """How many steps were taken: what a learning-rate schedule is asked with."""

  count: jax.Array  # int32[]; stays at its largest value instead of wrapping round


def sgd(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
  """Steps against the gradient: the vanilla update.

  The class notes write::

      x += -learning_rate * dx

  Args:
    learning_rate: a number >= 0 or a schedule `count -> number`; unit: parameter change per unit of
      gradient.

  Returns:
    A transformation whose updates have the gradient's shapes, dtypes and shardings. Its state holds
    `count` (int32), also when the rate is constant, so that a checkpoint survives the change from a
    number to a schedule.

  Raises:
    ValueError: if `learning_rate` is negative, NaN, infinite or not a scalar; at `update`, if
      `params` are given and the gradient's tree or shapes differ from theirs.
    TypeError: if `learning_rate` is not a number, or a leaf is not floating point.

  Numerics:
    The product is formed in float32 or wider and rounded once, to the gradient's dtype.

  Differs from Optax:
    `optax.sgd(learning_rate)` takes the same steps. There a float32 rate held in an array turns
    bfloat16 gradients into float32 updates; here the gradient's dtype always wins.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> params = jnp.array([1.0, -2.0])
    >>> tx = kinkopt.rules.sgd(0.1)
    >>> updates, _ = tx.update(2 * params, tx.init(params), params)
    >>> print(updates)
    [-0.2  0.4]

  References:
    CS231n notes, "Parameter updates".
  """
  return descend("sgd", learning_rate)


def descend(
  caller: str, learning_rate: optax.ScalarOrSchedule
) -> optax.GradientTransformationExtraArgs:
  """Makes the vanilla update as a link of the rule `caller`. See `sgd`."""
  check_rate(caller, learning_rate)

  def init(params: optax.Params) -> SGDState:
    check_params(caller, params)
    return SGDState(count=jnp.zeros([], jnp.int32))

  def update(
    updates: optax.Updates, state: SGDState, params: optax.Params | None = None, **extra_args: Any
  ) -> tuple[optax.Updates, SGDState]:
    del extra_args
    check_gradient(caller, updates, updates if params is None else params)
    rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
    updates = elementwise(lambda g, rate: -rate * g, updates, updates, rate=rate)
    return updates, SGDState(count=optax.safe_increment(state.count))

  return optax.GradientTransformationExtraArgs(init, update)
