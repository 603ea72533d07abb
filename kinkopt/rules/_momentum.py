"""Momentum: the steps of the past roll on, slowed by friction.

The velocity of the class notes holds the learning rate: what rolls on are steps, not gradients. So
the rule is the vanilla step followed by an accumulator, in that order.
"""

from typing import Any, NamedTuple

import optax
from jax.typing import ArrayLike, DTypeLike

from kinkopt.rules._common import (
  check_decay,
  check_first_moment,
  check_params,
  elementwise,
  first_moment_like,
  keep_and_add,
)
from kinkopt.rules._sgd import descend


class ScaleByMomentumState(NamedTuple):
  """The velocity: what the parameters would move by if the gradient vanished."""

  velocity: optax.Updates


def accumulate(
  updates: optax.Updates, velocity: optax.Updates, momentum: ArrayLike
) -> optax.Updates:
  """Forms `momentum * velocity + updates` in the velocity's dtypes."""
  return elementwise(
    lambda u, v, momentum: momentum * v + u,
    velocity,
    updates,
    velocity,
    momentum=keep_and_add(momentum)[0],
  )


def scale_by_momentum(
  momentum: ArrayLike, accumulator_dtype: DTypeLike | None = None
) -> optax.GradientTransformationExtraArgs:
  """Adds up what comes in, with friction. See `momentum`.

  What comes in decides what the velocity is made of: after `sgd(learning_rate)`, of steps, as in
  the class notes; before it, of gradients, as in `optax.sgd`.

  Args:
    momentum: the share of the velocity kept at each step, in [0, 1).
    accumulator_dtype: dtype of the velocity; None for the parameters'.

  Returns:
    A transformation; its state holds `velocity`, shaped like the parameters.

  Raises:
    ValueError: if `momentum` is outside [0, 1), or the gradient's tree is not the parameters'.
    TypeError: if a leaf is not floating point.

  Differs from Optax:
    `optax.trace(momentum)` is the same sum; its state takes on the dtype of a wider gradient.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> tx = kinkopt.rules.scale_by_momentum(0.5)
    >>> updates, state = tx.update(jnp.ones(1), tx.init(jnp.zeros(1)))
    >>> updates, state = tx.update(jnp.ones(1), state)
    >>> print(updates)
    [1.5]
  """
  return _roll("scale_by_momentum", momentum, accumulator_dtype)


def _roll(
  caller: str, momentum: ArrayLike, accumulator_dtype: DTypeLike | None
) -> optax.GradientTransformationExtraArgs:
  check_decay(caller, "momentum", momentum)

  def init(params: optax.Params) -> ScaleByMomentumState:
    check_params(caller, params)
    return ScaleByMomentumState(velocity=first_moment_like(params, accumulator_dtype))

  def update(
    updates: optax.Updates,
    state: ScaleByMomentumState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, ScaleByMomentumState]:
    del params, extra_args
    check_first_moment(caller, updates, state.velocity)
    velocity = accumulate(updates, state.velocity, momentum)
    updates = elementwise(lambda v: v, updates, velocity)
    return updates, ScaleByMomentumState(velocity=velocity)

  return optax.GradientTransformationExtraArgs(init, update)


def momentum(
  learning_rate: optax.ScalarOrSchedule,
  momentum: ArrayLike = 0.9,
  accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Rolls downhill: a velocity gathers the steps, friction slows it.

  The class notes write::

      v = mu * v - learning_rate * dx
      x += v

  The learning rate is INSIDE the velocity. Under a decaying rate, old steps keep the rate they were
  taken with; and a rate of 0 does not stop the parameters, it lets them coast to rest, over about
  `1 / (1 - momentum)` steps.

  Args:
    learning_rate: a number >= 0 or a schedule `count -> number`; unit: parameter change per unit of
      gradient.
    momentum: `mu`, the share of the velocity kept at each step, in [0, 1).
    accumulator_dtype: dtype of the velocity; None for the parameters'.

  Returns:
    `optax.chain(sgd(learning_rate), scale_by_momentum(momentum))`; its state holds `velocity`, in
    the unit of the parameters.

  Raises:
    ValueError: if `learning_rate` is negative or `momentum` outside [0, 1); at `update`, if the
      gradient's tree or shapes are not the parameters'.
    TypeError: if a hyperparameter is not a number, or a leaf is not floating point.

  Numerics:
    Sums are formed in float32 or wider and rounded once to the velocity's dtype. In bfloat16 (8
    significant bits) a step below 1/512 of the velocity kept is lost: pass
    `accumulator_dtype=jnp.float32`.

  Differs from Optax:
    `optax.sgd(learning_rate, momentum)` multiplies the rate outside the velocity: the same for a
    constant rate; under one that falls by 4 % a step it goes 26 % less far down a steady slope
    (`momentum=0.9`).
    `optax.chain(optax.scale_by_learning_rate(learning_rate), optax.trace(momentum))` is this rule.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> tx = kinkopt.rules.momentum(0.1, momentum=0.5)
    >>> updates, state = tx.update(jnp.ones(1), tx.init(jnp.zeros(1)))
    >>> updates, state = tx.update(jnp.ones(1), state)
    >>> print(updates)
    [-0.15]

  References:
    CS231n notes, "Parameter updates"; Polyak (1964).
  """
  return optax.chain(
    descend("momentum", learning_rate), _roll("momentum", momentum, accumulator_dtype)
  )
