"""Adagrad: each coordinate is slowed by the root of its own past squares."""

from typing import Any, NamedTuple

import optax
from jax.typing import ArrayLike, DTypeLike

from kinkopt._checks import NON_NEGATIVE, check_number
from kinkopt._numerics import abs_sq, safe_divide, safe_sqrt
from kinkopt.rules._common import (
  check_eps,
  check_gradient,
  check_params,
  elementwise,
  second_moment_like,
)
from kinkopt.rules._sgd import descend


class ScaleByAdagradState(NamedTuple):
  """The notes' `cache`: the sum of squared gradients so far."""

  sum_of_squares: optax.Updates


def scale_by_adagrad(
  eps: ArrayLike = 1e-8,
  initial_accumulator_value: ArrayLike = 0.0,
  accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Divides the gradient by the root of the sum of its squares. See `adagrad`.

  Args:
    eps: added OUTSIDE the root, in the unit of the gradient; >= 0.
    initial_accumulator_value: the sum before the first step; unit: gradient squared; >= 0.
    accumulator_dtype: dtype of the sum; None for the parameters' (their real part's, if complex).

  Returns:
    A transformation; its state holds `sum_of_squares`, shaped like the parameters and real.

  Raises:
    ValueError: if a hyperparameter is negative, or the gradient's tree is not the parameters'.
    TypeError: if a leaf is not floating point.

  Differs from Optax:
    `optax.scale_by_rss` starts at 0.1 and adds `eps` inside the root.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> tx = kinkopt.rules.scale_by_adagrad()
    >>> updates, _ = tx.update(jnp.array([3.0, 0.0]), tx.init(jnp.zeros(2)))
    >>> print(updates)
    [1. 0.]
  """
  return _slow("scale_by_adagrad", eps, initial_accumulator_value, accumulator_dtype)


def _slow(
  caller: str,
  eps: ArrayLike,
  initial_accumulator_value: ArrayLike,
  accumulator_dtype: DTypeLike | None,
) -> optax.GradientTransformationExtraArgs:
  check_eps(caller, eps)
  advice = "It is the sum of squares before the first step; the class notes start at 0."
  name = "initial_accumulator_value"
  check_number(caller, name, initial_accumulator_value, NON_NEGATIVE, advice)

  def init(params: optax.Params) -> ScaleByAdagradState:
    check_params(caller, params)
    return ScaleByAdagradState(
      sum_of_squares=second_moment_like(params, accumulator_dtype, initial_accumulator_value)
    )

  def update(
    updates: optax.Updates,
    state: ScaleByAdagradState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, ScaleByAdagradState]:
    del params, extra_args
    check_gradient(caller, updates, state.sum_of_squares)
    sum_of_squares = elementwise(
      lambda g, s: s + abs_sq(g), state.sum_of_squares, updates, state.sum_of_squares
    )
    updates = elementwise(
      lambda g, s, eps: safe_divide(g, safe_sqrt(s) + eps),
      updates,
      updates,
      sum_of_squares,
      eps=eps,
    )
    return updates, ScaleByAdagradState(sum_of_squares=sum_of_squares)

  return optax.GradientTransformationExtraArgs(init, update)


def adagrad(
  learning_rate: optax.ScalarOrSchedule,
  eps: ArrayLike = 1e-8,
  initial_accumulator_value: ArrayLike = 0.0,
  accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Adagrad: each coordinate is slowed by the root of its own past squares.

  The class notes write::

      cache += dx**2
      x += -learning_rate * dx / (sqrt(cache) + eps)

  Args:
    learning_rate: a number >= 0 or a schedule `count -> number`; unit: parameter change per step.
    eps: added OUTSIDE the root, in the unit of the gradient; >= 0; the notes advise 1e-4 to 1e-8.
    initial_accumulator_value: `cache` before the first step; unit: gradient squared; >= 0.
    accumulator_dtype: dtype of `cache`; None for the parameters' (their real part's, if complex).

  Returns:
    `optax.chain(scale_by_adagrad(...), sgd(learning_rate))`; its state holds `sum_of_squares`,
    shaped like the parameters and real.

  Raises:
    ValueError: if `learning_rate`, `eps` or `initial_accumulator_value` is negative; at
      `update`, if the gradient's tree or shapes are not the parameters'.
    TypeError: if a hyperparameter is not a number, or a leaf is not floating point.

  Numerics:
    A coordinate whose gradient was always 0 gets the update 0; with `eps=0`, 0/0 is defined as 0.
    In float16 the sum overflows past 65504 and loses gradients below 1.7e-4, and in bfloat16 a
    square below 1/512 of the sum is lost: pass `accumulator_dtype=jnp.float32` there.
    The derivative of the root at 0 is defined as 0, so unrolled steps can be differentiated; in
    float16, where the rule's own derivative at 0, `learning_rate / eps`, must stay below 65504,
    with a larger `eps` only.

  Differs from Optax:
    `optax.adagrad` starts at 0.1 and adds `eps=1e-7` inside the root; with its defaults the first
    step is 5 % shorter where the gradient is 1, 31 % where it is 0.3 and 70 % where it is 0.1. No
    choice of its arguments puts `eps` outside.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> params = jnp.array([1.0, -2.0])
    >>> tx = kinkopt.rules.adagrad(0.1)
    >>> updates, _ = tx.update(2 * params, tx.init(params), params)
    >>> print(updates)
    [-0.1  0.1]

  References:
    CS231n notes, "Per-parameter adaptive learning rates"; Duchi, Hazan, Singer (2011).
  """
  return optax.chain(
    _slow("adagrad", eps, initial_accumulator_value, accumulator_dtype),
    descend("adagrad", learning_rate),
  )
