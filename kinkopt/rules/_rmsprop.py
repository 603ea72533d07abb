"""RMSprop: Adagrad with a memory that fades, so that steps need not shrink for ever."""

from typing import Any, NamedTuple

import optax
from jax.typing import ArrayLike, DTypeLike

from kinkopt._numerics import abs_sq, safe_divide, safe_sqrt
from kinkopt.rules._common import (
  check_decay,
  check_eps,
  check_gradient,
  check_params,
  elementwise,
  keep_and_add,
  second_moment_like,
)
from kinkopt.rules._sgd import descend


class ScaleByRMSPropState(NamedTuple):
  """The notes' `cache`: the running average of squared gradients."""

  nu: optax.Updates


def scale_by_rmsprop(
  decay: ArrayLike = 0.9, eps: ArrayLike = 1e-8, accumulator_dtype: DTypeLike | None = None
) -> optax.GradientTransformationExtraArgs:
  """Divides the gradient by the root of the running average of its squares. See `rmsprop`.

  Args:
    decay: the notes' `decay_rate`, the share of the average kept at each step, in [0, 1).
    eps: added OUTSIDE the root, in the unit of the gradient; >= 0.
    accumulator_dtype: dtype of the average; None for the parameters' (their real part's, if
      complex).

  Returns:
    A transformation; its state holds `nu`, shaped like the parameters and real.

  Raises:
    ValueError: if `decay` is outside [0, 1) or `eps` negative, or the gradient's tree is not the
      parameters'.
    TypeError: if a leaf is not floating point.

  Differs from Optax:
    `optax.scale_by_rms(decay, eps, eps_in_sqrt=False)` is the same; its default puts `eps` inside.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> tx = kinkopt.rules.scale_by_rmsprop(decay=0.75)
    >>> updates, _ = tx.update(jnp.array([3.0, 0.0]), tx.init(jnp.zeros(2)))
    >>> print(updates)
    [2. 0.]
  """
  return _slow("scale_by_rmsprop", decay, eps, accumulator_dtype)


def _slow(
  caller: str, decay: ArrayLike, eps: ArrayLike, accumulator_dtype: DTypeLike | None
) -> optax.GradientTransformationExtraArgs:
  check_decay(caller, "decay", decay)
  check_eps(caller, eps)

  def init(params: optax.Params) -> ScaleByRMSPropState:
    check_params(caller, params)
    return ScaleByRMSPropState(nu=second_moment_like(params, accumulator_dtype))

  def update(
    updates: optax.Updates,
    state: ScaleByRMSPropState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, ScaleByRMSPropState]:
    del params, extra_args
    check_gradient(caller, updates, state.nu)
    keep, add = keep_and_add(decay)
    nu = elementwise(
      lambda g, nu, keep, add: keep * nu + add * abs_sq(g),
      state.nu,
      updates,
      state.nu,
      keep=keep,
      add=add,
    )
    updates = elementwise(
      lambda g, nu, eps: safe_divide(g, safe_sqrt(nu) + eps), updates, updates, nu, eps=eps
    )
    return updates, ScaleByRMSPropState(nu=nu)

  return optax.GradientTransformationExtraArgs(init, update)


def rmsprop(
  learning_rate: optax.ScalarOrSchedule,
  decay: ArrayLike = 0.9,
  eps: ArrayLike = 1e-8,
  accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """RMSprop: each coordinate is slowed by the root of a running average of its squares.

  The class notes write::

      cache = decay_rate * cache + (1 - decay_rate) * dx**2
      x += -learning_rate * dx / (sqrt(cache) + eps)

  Args:
    learning_rate: a number >= 0 or a schedule `count -> number`; unit: parameter change per step.
    decay: the notes' `decay_rate`, the share of the average kept at each step, in [0, 1).
    eps: added OUTSIDE the root, in the unit of the gradient; >= 0.
    accumulator_dtype: dtype of `cache`; None for the parameters' (their real part's, if complex).

  Returns:
    `optax.chain(scale_by_rmsprop(...), sgd(learning_rate))`; its state holds `nu`, shaped like the
    parameters and real.

  Raises:
    ValueError: if `learning_rate` or `eps` is negative, or `decay` outside [0, 1); at `update`, if
      the gradient's tree or shapes are not the parameters'.
    TypeError: if a hyperparameter is not a number, or a leaf is not floating point.

  Numerics:
    The average starts at 0 and is not corrected: the first step is `1 / sqrt(1 - decay)` times
    `learning_rate`, 3.2 times with the default. A coordinate whose gradient was always 0 gets the
    update 0; with `eps=0`, 0/0 is defined as 0. In float16 squares of gradients below 5.4e-4
    vanish with the default `decay`, and the step is then `gradient / eps`: pass
    `accumulator_dtype=jnp.float32` there. The derivative of the root at 0 is defined as 0; see
    `adagrad`.

  Differs from Optax:
    `optax.rmsprop(learning_rate, decay, eps, eps_in_sqrt=False)` is this rule; its default puts
    `eps` inside the root, where 1e-8 bounds the root from below by 1e-4.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> tx = kinkopt.rules.rmsprop(0.1, decay=0.75)
    >>> updates, _ = tx.update(jnp.array([3.0, -6.0]), tx.init(jnp.zeros(2)))
    >>> print(updates)
    [-0.2  0.2]

  References:
    CS231n notes, "Per-parameter adaptive learning rates"; Tieleman and Hinton (2012), lecture 6e.
  """
  return optax.chain(
    _slow("rmsprop", decay, eps, accumulator_dtype), descend("rmsprop", learning_rate)
  )
