"""Nesterov momentum as first written: the gradient is taken where the velocity will lead.

The rule is `momentum` fed with another gradient. So the transform keeps what the look-ahead needs
(the velocity and `mu`) in its state, and `lookahead_params` says where to take the gradient.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from kinkopt._checks import check_same_tree
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


class NesterovLookaheadState(NamedTuple):
  """The velocity, and the momentum that the next look-ahead multiplies it with."""

  velocity: optax.Updates
  momentum: jax.Array  # float[]


def _is_masked(leaf: Any) -> bool:
  return isinstance(leaf, optax.MaskedNode)


def _roll(
  caller: str, momentum: ArrayLike, accumulator_dtype: DTypeLike | None
) -> optax.GradientTransformationExtraArgs:
  check_decay(caller, "momentum", momentum)

  def kept() -> jax.Array:
    # A copy: the state may be donated, and an array that the user passed must outlive that.
    return jnp.array(keep_and_add(momentum)[0], dtype=float)

  def init(params: optax.Params) -> NesterovLookaheadState:
    check_params(caller, params)
    return NesterovLookaheadState(first_moment_like(params, accumulator_dtype), kept())

  def update(
    updates: optax.Updates,
    state: NesterovLookaheadState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, NesterovLookaheadState]:
    del params, extra_args
    check_first_moment(caller, updates, state.velocity)
    # The state's momentum, for that is what the look-ahead point was made with.
    velocity = accumulate(updates, state.velocity, state.momentum)
    return elementwise(lambda v: v, updates, velocity), NesterovLookaheadState(velocity, kept())

  return optax.GradientTransformationExtraArgs(init, update)


def nesterov_lookahead(
  learning_rate: optax.ScalarOrSchedule,
  momentum: ArrayLike = 0.9,
  accumulator_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Takes Nesterov's step from a gradient evaluated at the look-ahead point.

  The class notes write::

      x_ahead = x + mu * v
      # evaluate dx_ahead (the gradient at x_ahead instead of at x)
      v = mu * v - learning_rate * dx_ahead
      x += v

  The gradient handed to `update` must be taken at `lookahead_params(params, opt_state)`; with the
  gradient at `params`, this is plain `momentum`. Where the gradient is not yours to move, use
  `nesterov`: its parameters are these look-ahead points.

  Args:
    learning_rate: a number >= 0 or a schedule `count -> number`; unit: parameter change per unit of
      gradient. It is inside the velocity, as in `momentum`.
    momentum: `mu`, the share of the velocity kept at each step, in [0, 1).
    accumulator_dtype: dtype of the velocity; None for the parameters'.

  Returns:
    A transformation whose state holds `velocity`, in the unit of the parameters, and `momentum`.

  Raises:
    ValueError: if `learning_rate` is negative or `momentum` outside [0, 1); at `update`, if the
      gradient's tree or shapes are not the parameters'.
    TypeError: if a hyperparameter is not a number, or a leaf is not floating point.

  Numerics:
    `momentum` is kept in JAX's default float dtype; otherwise as `momentum`. Where it changes (as a
    schedule in `optax.inject_hyperparams`), each step uses the one that its look-ahead point was
    made with: the change arrives one step later than in `momentum`.

  Differs from Optax:
    Optax has the rewritten form only.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> import kinkopt
    >>> tx = kinkopt.rules.nesterov_lookahead(0.1, momentum=0.5)
    >>> params = jnp.array([1.0])
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...   ahead = kinkopt.rules.lookahead_params(params, state)
    ...   updates, state = tx.update(2 * ahead, state, params)  # the gradient of x**2, ahead
    ...   params = optax.apply_updates(params, updates)
    >>> print(params.round(4))
    [0.56]

  References:
    CS231n notes, "Parameter updates"; Sutskever, Martens, Dahl, Hinton (2013).
  """
  caller = "nesterov_lookahead"
  return optax.chain(descend(caller, learning_rate), _roll(caller, momentum, accumulator_dtype))


def lookahead_params(params: optax.Params, opt_state: optax.OptState) -> optax.Params:
  """Gives the point `params + momentum * velocity`, where `nesterov_lookahead` wants the gradient.

  Args:
    params: the parameters, as given to `init`.
    opt_state: the state of `nesterov_lookahead`, or of any chain or wrapper that holds it;
      under `optax.masked` and `optax.partition`, the leaves of other rules stay where they are.
      From `flax.nnx`, give both arguments without their boxes: `nnx.as_pure(...)`.

  Returns:
    A tree with the structure, shapes and dtypes of `params`.

  Raises:
    ValueError: if `opt_state` holds no `nesterov_lookahead`, or one for other parameters.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> params = jnp.array([1.0])
    >>> state = kinkopt.rules.nesterov_lookahead(0.1).init(params)
    >>> print(kinkopt.rules.lookahead_params(params, state))
    [1.]
  """
  found = optax.tree.get_all_with_path(opt_state, NesterovLookaheadState.__name__)
  if not found:
    raise ValueError(
      "`lookahead_params` found no state of `nesterov_lookahead` in `opt_state`, so there is no "
      "velocity to look ahead along. Pass the state of an optimizer that contains "
      "`kinkopt.rules.nesterov_lookahead(...)`; with `nesterov`, the gradient is taken at `params`."
    )
  for _, state in found:
    masked = (
      jax.tree.map(
        lambda v, p: v if _is_masked(v) else p, state.velocity, params, is_leaf=_is_masked
      )
      if any(map(_is_masked, jax.tree.leaves(state.velocity, is_leaf=_is_masked)))
      else params
    )
    check_same_tree("lookahead_params", "parameter tree", masked, "velocity", state.velocity)
    ahead = elementwise(
      lambda p, v, momentum: p + momentum * v,
      masked,
      masked,
      state.velocity,
      momentum=state.momentum,
    )
    params = jax.tree.map(lambda a, p: p if _is_masked(a) else a, ahead, params, is_leaf=_is_masked)
  return params
