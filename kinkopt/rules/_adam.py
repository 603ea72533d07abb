"""Adam: RMSprop with a smoothed gradient on top."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from kinkopt._numerics import abs_sq, safe_divide, safe_sqrt
from kinkopt.rules import _common
from kinkopt.rules._common import check_decay, check_eps, elementwise, keep_and_add
from kinkopt.rules._sgd import descend


class ScaleByAdamState(NamedTuple):
  """The notes' `m` and `v`, under Optax's names."""

  count: jax.Array  # int32[]; stays at its largest value instead of wrapping round
  mu: optax.Updates
  nu: optax.Updates


def scale_by_adam(
  b1: ArrayLike = 0.9,
  b2: ArrayLike = 0.999,
  eps: ArrayLike = 1e-8,
  *,
  bias_correction: bool = False,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Divides the smoothed gradient by the root of the smoothed squares. See `adam`.

  Args:
    b1: share of the first moment kept at each step, in [0, 1).
    b2: share of the second moment kept at each step, in [0, 1).
    eps: added OUTSIDE the root, in the unit of the gradient; >= 0.
    bias_correction: divide each moment by the weight it has gathered, as the paper does.
    mu_dtype: dtype of the first moment; None for the parameters'.
    nu_dtype: dtype of the second moment; None for the parameters' (their real part's, if complex).

  Returns:
    A transformation; its state holds `count` (int32), `mu`, and `nu`, which is real.

  Raises:
    ValueError: if `b1` or `b2` is outside [0, 1) or `eps` negative, or the gradient's tree is not
      the parameters'.
    TypeError: if a leaf is not floating point, or `mu_dtype` is real for complex parameters.

  Differs from Optax:
    `optax.scale_by_adam(b1, b2, eps)` is this with `bias_correction=True`.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> tx = kinkopt.rules.scale_by_adam(bias_correction=True)
    >>> updates, _ = tx.update(jnp.array([3.0, -0.5]), tx.init(jnp.zeros(2)))
    >>> print(updates.round(4))
    [ 1. -1.]
  """
  return _smooth("scale_by_adam", b1, b2, eps, bias_correction, mu_dtype, nu_dtype)


def _smooth(
  caller: str,
  b1: ArrayLike,
  b2: ArrayLike,
  eps: ArrayLike,
  bias_correction: bool,
  mu_dtype: DTypeLike | None,
  nu_dtype: DTypeLike | None,
) -> optax.GradientTransformationExtraArgs:
  check_decay(caller, "b1", b1)
  check_decay(caller, "b2", b2)
  check_eps(caller, eps)

  def init(params: optax.Params) -> ScaleByAdamState:
    _common.check_params(caller, params)
    return ScaleByAdamState(
      count=jnp.zeros([], jnp.int32),
      mu=_common.first_moment_like(params, mu_dtype),
      nu=_common.second_moment_like(params, nu_dtype),
    )

  def update(
    updates: optax.Updates,
    state: ScaleByAdamState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, ScaleByAdamState]:
    del params, extra_args
    _common.check_first_moment(caller, updates, state.mu)
    count = optax.safe_increment(state.count)
    keep1, add1 = keep_and_add(b1)
    keep2, add2 = keep_and_add(b2)
    mu = elementwise(
      lambda g, m, keep, add: keep * m + add * g, state.mu, updates, state.mu, keep=keep1, add=add1
    )
    nu = elementwise(
      lambda g, v, keep, add: keep * v + add * abs_sq(g),
      state.nu,
      updates,
      state.nu,
      keep=keep2,
      add=add2,
    )
    # Dividing v by its weight inside the root equals multiplying the whole by the weights' ratio,
    # with eps scaled along; written like this, eps stands exactly where the paper has it.
    weight1 = _common.bias_correction(b1, count) if bias_correction else 1.0
    weight2 = _common.bias_correction(b2, count) if bias_correction else 1.0
    updates = elementwise(
      lambda _, m, v, w1, w2, eps: safe_divide(m / w1, safe_sqrt(v / w2) + eps),
      updates,
      updates,
      mu,
      nu,
      w1=weight1,
      w2=weight2,
      eps=eps,
    )
    return updates, ScaleByAdamState(count=count, mu=mu, nu=nu)

  return optax.GradientTransformationExtraArgs(init, update)


def adam(
  learning_rate: optax.ScalarOrSchedule,
  b1: ArrayLike = 0.9,
  b2: ArrayLike = 0.999,
  eps: ArrayLike = 1e-8,
  *,
  bias_correction: bool = False,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Adam: a smoothed gradient, each coordinate slowed by the root of its smoothed squares.

  The class notes write::

      m = beta1 * m + (1 - beta1) * dx
      v = beta2 * v + (1 - beta2) * dx**2
      x += -learning_rate * m / (sqrt(v) + eps)

  Args:
    learning_rate: a number >= 0 or a schedule `count -> number`; unit: parameter change per step.
    b1: the notes' `beta1`, the share of `m` kept at each step, in [0, 1).
    b2: the notes' `beta2`, the share of `v` kept at each step, in [0, 1).
    eps: added OUTSIDE the root, in the unit of the gradient; >= 0.
    bias_correction: False is the notes' rule; True divides `m` and `v` by `1 - beta**count` first,
      as the paper does.
    mu_dtype: dtype of `m`; None for the parameters'.
    nu_dtype: dtype of `v`; None for the parameters' (their real part's, if complex).

  Returns:
    `optax.chain(scale_by_adam(...), sgd(learning_rate))`; its state holds `count` (int32), `mu` and
    `nu`, shaped like the parameters.

  Raises:
    ValueError: if `learning_rate` or `eps` is negative, or `b1` or `b2` outside [0, 1); at
      `update`, if the gradient's tree or shapes are not the parameters'.
    TypeError: if a hyperparameter is not a number, a leaf is not floating point, or `mu_dtype` is
      real for complex parameters.

  Numerics:
    Without the correction the first step is `(1 - b1) / sqrt(1 - b2)` times `learning_rate`. With
    the defaults and a steady gradient that is 3.2 times; the 12th step is 6.6 times, and only after
    1,750 are steps within 10 % of `learning_rate`. The correction's weights are formed as
    `-expm1(count * log(b))`, good to 4e-7 in float32 where `1 - b**count` is off by 2e-5. `eps` is
    added in float32, so it does not underflow in float16; a coordinate whose gradient was always 0
    gets the update 0. In bfloat16 the default `b2` freezes `nu` (0.001 of a change is below its
    rounding): from 0 it rises to a quarter of a steady square, and it never falls. In float16 it is
    0 for gradients below 5.4e-3. Pass `nu_dtype=jnp.float32` for both. The derivative of the root
    at 0 is defined as 0; see `adagrad`. `optax.inject_hyperparams` rounds `b2` to the parameters'
    dtype; in bfloat16, where 0.999 is 1, it is taken as 0.996.

  Differs from Optax:
    `optax.adam(learning_rate, b1, b2, eps)` is this rule with `bias_correction=True`; it cannot
    switch the correction off.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> tx = kinkopt.rules.adam(0.1, bias_correction=True)
    >>> updates, _ = tx.update(jnp.array([3.0, -0.5]), tx.init(jnp.zeros(2)))
    >>> print(updates.round(3))
    [-0.1  0.1]

  References:
    CS231n notes, "Per-parameter adaptive learning rates"; Kingma and Ba (2015).
  """
  return optax.chain(
    _smooth("adam", b1, b2, eps, bias_correction, mu_dtype, nu_dtype),
    descend("adam", learning_rate),
  )
