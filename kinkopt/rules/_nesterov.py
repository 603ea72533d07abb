"""Nesterov momentum in the rewritten form: a plain transform of the gradient at hand.

The parameters that the user sees are the look-ahead points of `nesterov_lookahead`; the gradient is
taken where they are, and the update moves them from one look-ahead point to the next.
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
from kinkopt.rules._momentum import accumulate
from kinkopt.rules._sgd import descend


class ScaleByNesterovState(NamedTuple):
  """The velocity, as in `momentum`."""

  velocity: optax.Updates


def scale_by_nesterov(
  momentum: ArrayLike, accumulator_dtype: DTypeLike | None = None
) -> optax.GradientTransformationExtraArgs:
  """Adds up what comes in, with friction, and looks one step ahead. See `nesterov`.

  Args:
    momentum: the share of the velocity kept at each step, in [0, 1).
    accumulator_dtype: dtype of the velocity; None for the parameters'.

  Returns:
    A transformation; its state holds `velocity`, shaped like the parameters.

  Raises:
    ValueError: if `momentum` is outside [0, 1), or the gradient's tree is not the parameters'.
    TypeError: if a leaf is not floating point.

  Differs from Optax:
    `optax.trace(momentum, nesterov=True)` is the same; its state takes on the dtype of a wider
    gradient.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> tx = kinkopt.rules.scale_by_nesterov(0.5)
    >>> updates, state = tx.update(jnp.ones(1), tx.init(jnp.zeros(1)))
    >>> print(updates)
    [1.5]
  """
  return _roll_ahead("scale_by_nesterov", momentum, accumulator_dtype)


def _roll_ahead(
  caller: str, momentum: ArrayLike, accumulator_dtype: DTypeLike | None
) -> optax.GradientTransformationExtraArgs:
  check_decay(caller, "momentum", momentum)

  def init(params: optax.Params) -> ScaleByNesterovState:
    check_params(caller, params)
    return ScaleByNesterovState(velocity=first_moment_like(params, accumulator_dtype))

  def update(
    updates: optax.Updates,
    state: ScaleByNesterovState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, ScaleByNesterovState]:
    del params, extra_args
    check_first_moment(caller, updates, state.velocity)
    velocity = accumulate(updates, state.velocity, momentum)
    # The notes' -mu * v_prev + (1 + mu) * v, without its cancellation: v - mu * v_prev came in.
    updates = elementwise(
      lambda u, v, momentum: u + momentum * v,
      updates,
      updates,
      velocity,
      momentum=keep_and_add(momentum)[0],
    )
    return updates, ScaleByNesterovState(velocity=velocity)

  return optax.GradientTransformationExtraArgs(init, update)


def nesterov(
  learning_rate: optax.ScalarOrSchedule,
  momentum: ArrayLike = 0.9,
  accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Takes Nesterov's step in the rewritten form, from the gradient where the parameters are.

  The class notes write::

      v_prev = v
      v = mu * v - learning_rate * dx
      x += -mu * v_prev + (1 + mu) * v

  Args:
    learning_rate: a number >= 0 or a schedule `count -> number`; unit: parameter change per unit of
      gradient. It is inside the velocity, as in `momentum`.
    momentum: `mu`, the share of the velocity kept at each step, in [0, 1).
    accumulator_dtype: dtype of the velocity; None for the parameters'.

  Returns:
    `optax.chain(sgd(learning_rate), scale_by_nesterov(momentum))`; its state holds `velocity`, in
    the unit of the parameters.

  Raises:
    ValueError: if `learning_rate` is negative or `momentum` outside [0, 1); at `update`, if the
      gradient's tree or shapes are not the parameters'.
    TypeError: if a hyperparameter is not a number, or a leaf is not floating point.

  Numerics:
    The update is formed as `(1 + mu) * v - mu * v_prev = (-learning_rate * dx) + mu * v`, which has
    no cancellation. Its iterates are the look-ahead points of `nesterov_lookahead`, for every
    schedule of the rate and a constant `mu`.

  Differs from Optax:
    `optax.sgd(learning_rate, momentum, nesterov=True)` has the rate outside the velocity: the same
    for a constant rate only.
    `optax.chain(optax.scale_by_learning_rate(learning_rate), optax.trace(momentum, nesterov=True))`
    is this rule.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> tx = kinkopt.rules.nesterov(0.1, momentum=0.5)
    >>> updates, _ = tx.update(jnp.ones(1), tx.init(jnp.zeros(1)))
    >>> print(updates)
    [-0.15]

  References:
    CS231n notes, "Parameter updates"; Bengio, Boulanger-Lewandowski, Pascanu (2012), section 3.5.
  """
  return optax.chain(
    descend("nesterov", learning_rate), _roll_ahead("nesterov", momentum, accumulator_dtype)
  )
