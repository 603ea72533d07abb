"""The size of the step, seen from inside the chain.

A transform that hands its updates on untouched and writes down two norms per leaf: that of the
parameters and that of the updates. The norms lie in two flat vectors, one entry a leaf, so the
state has one structure from `init` on, whatever wraps it. Quotients are taken when the state is
read: a state that held 1/0 would poison wrappers that multiply it by 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from kinkopt._checks import check_floating, check_same_tree
from kinkopt._numerics import safe_divide
from kinkopt.monitor._sums import (
  AxisName,
  check_state,
  leaf_count,
  nodes,
  norm_of_norms,
  over_devices,
  per_leaf,
  stacked,
  state_dtype,
  sum_of_squares,
)


class UpdateRatioState(NamedTuple):
  """The notes' `param_scale` and `update_scale` of the last step, in the order of the leaves.

  The last axis numbers the leaves; a `jax.vmap` over models or a `lax.scan` over steps puts its
  axes in front, and `ratio` and `overall` follow.
  """

  # Vectors and not a tree of scalars: `optax.tree.map_params` calls `init` with a placeholder, and
  # would take whatever mirrors the parameters' tree for parameters.
  param_scale: jax.Array  # [..., n_leaves], the l2 norms before the step
  update_scale: jax.Array  # [..., n_leaves]

  @property
  def ratio(self) -> jax.Array:
    """The norm of each leaf's update over the norm of the leaf, shaped `[..., n_leaves]`.

    0/0 is 0. Infinity says that the parameters are zero and the update is not; NaN, that one of the
    norms is not finite.
    """
    return _ratio(self.update_scale, self.param_scale)

  @property
  def overall(self) -> jax.Array:
    """The norm of all updates over the norm of all parameters, shaped `[...]`; 0 without leaves."""
    return _ratio(norm_of_norms(self.update_scale), norm_of_norms(self.param_scale))


def _ratio(update_scale: jax.Array, param_scale: jax.Array) -> jax.Array:
  # Without this, finite/infinite would be a harmless-looking 0.
  is_finite = jnp.isfinite(update_scale) & jnp.isfinite(param_scale)
  return jnp.where(is_finite, safe_divide(update_scale, param_scale), jnp.nan)


def _measured(
  params: optax.Params, updates: optax.Updates, dtype: DTypeLike, axis_name: AxisName
) -> tuple[optax.Updates, UpdateRatioState]:
  """Gives the updates, bit for bit, and the norms of both trees."""
  moved, squares = nodes(updates), [per_leaf(node, sum_of_squares) for node in nodes(params)]
  if jax.device_count() == 1:
    # XLA does not know that no sum of squares is negative: the updates have to wait for the norms
    # of the parameters. Otherwise it keeps a copy of parameters that are donated, to be read later.
    # Where there are shards, waiting for all devices would cost more.
    moved = [
      jax.tree.map(lambda leaf, s=square: jnp.where(jnp.sum(s) < 0, -leaf, leaf), node)
      for node, square in zip(moved, squares)
    ]
  sums = stacked([*squares, *(per_leaf(node, sum_of_squares) for node in moved)], dtype)
  state = UpdateRatioState(*jnp.split(jnp.sqrt(over_devices(sums, axis_name)), 2))
  return jax.tree.unflatten(jax.tree.structure(updates), jax.tree.leaves(moved)), state


def _check_update(
  updates: optax.Updates, state: UpdateRatioState, params: optax.Params | None
) -> None:
  if params is None:
    raise ValueError(
      "`update_ratio` needs the weights it compares with, but `update` was called with "
      "`params=None`. Call `tx.update(grads, state, params)`."
    )
  check_same_tree("update_ratio", "update", updates, "parameters", params)
  check_floating("update_ratio", params, "parameters")
  check_floating("update_ratio", updates, "updates")
  check_state("update_ratio", state.param_scale, "parameters", leaf_count(params))


def update_ratio(
  measure: bool = True, *, axis_name: AxisName = None
) -> optax.GradientTransformationExtraArgs:
  r"""Measures how large each update is beside its parameters, and changes nothing.

  The class notes write::

      param_scale = norm(W.ravel())
      update_scale = norm(update.ravel())
      W += update
      print(update_scale / param_scale)  # want ~1e-3

  It measures the updates as they are at its place in the chain, against the parameters before the
  step: as the last link it measures the step that is applied, as the first one the raw gradient.
  Inside `optax.MultiSteps` it measures the accumulated steps; behind it, the zeros in between too.

  Args:
    measure: whether to; False keeps the last state, for the steps between (see `every`).
    axis_name: in a `jax.shard_map` that splits every leaf, the names of the axes that it is split
      over: the norms are then those of the whole leaves. Elsewhere, sharded or not, they are
      without it.

  Returns:
    A transformation that returns the very updates it was given, and needs `params` in `update`. Its
    state is an `UpdateRatioState`: `param_scale` and `update_scale`, two vectors with one l2 norm
    per leaf (in the unit of the parameters; zeros at `init`), in the widest real dtype among the
    leaves, float32 at the least. Read it with `read_update_ratios` on the host, or with
    `find_update_ratio` under `jit`.

  Raises:
    ValueError: at `update`, if `params` is None, if the tree or the shapes of the updates are not
      the parameters', or if the state was made for another number of leaves.
    TypeError: if a leaf of the parameters or the updates is not floating point.

  Numerics:
    Zero parameters are no error: see `UpdateRatioState.ratio`. Squares are summed in float32 or
    wider, in one pass. In float32 a norm below about 1e-19 is therefore measured as 0, and one
    above 1.8e19 as infinity, which makes the ratio NaN; scaling each leaf by its largest entry
    would avoid this, but reads all parameters and updates a second time. In float64 the limits are
    1.5e-154 and 1.3e154. The norms are not differentiated (`lax.stop_gradient`); the updates are.

  Differs from Optax:
    `optax.monitor` gets its measurements at the first `update`, so its state changes structure and
    `lax.scan`, `optax.MultiSteps` and `optax.apply_if_finite` reject it; and its measures do not
    see the parameters.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt, optax
    >>> params = {"b": jnp.zeros(2), "w": jnp.array([3.0, 4.0])}
    >>> tx = optax.chain(kinkopt.rules.sgd(0.001), kinkopt.monitor.update_ratio())
    >>> gradient = {"b": jnp.zeros(2), "w": jnp.array([4.0, 3.0])}
    >>> updates, state = tx.update(gradient, tx.init(params), params)
    >>> print(kinkopt.monitor.find_update_ratio(state).ratio)
    [0.    0.001]

  References:
    CS231n notes, "Ratio of weights:updates".
  """

  def init(params: optax.Params) -> UpdateRatioState:
    check_floating("update_ratio", params, "parameters")
    count, dtype = leaf_count(params), state_dtype(params)
    # Two buffers and not one twice: a donated state may not hold the same buffer in two places.
    return UpdateRatioState(jnp.zeros(count, dtype), jnp.zeros(count, dtype))

  def update(
    updates: optax.Updates,
    state: UpdateRatioState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, UpdateRatioState]:
    del extra_args
    _check_update(updates, state, params)
    if not measure:
      return updates, state
    return _measured(params, updates, state.param_scale.dtype, axis_name)

  return optax.GradientTransformationExtraArgs(init, update)
