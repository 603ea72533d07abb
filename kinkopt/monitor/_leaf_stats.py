"""What goes through a chain at one place: how large, how much of it zero, how much not finite."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from kinkopt._checks import check_floating
from kinkopt.monitor._sums import (
  Axes,
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
  zeros_and_not_finite,
)


class LeafStatsState(NamedTuple):
  """What `leaf_stats` saw of the last step; the last axis numbers the leaves."""

  scale: jax.Array  # [..., n_leaves], the l2 norms
  zeros: jax.Array  # [..., n_leaves], the fraction of entries that are 0
  not_finite: jax.Array  # [..., n_leaves], the fraction that is NaN or infinite

  @property
  def overall(self) -> jax.Array:
    """The l2 norm of everything, shaped `[...]`."""
    return norm_of_norms(self.scale)


def _measured(updates: optax.Updates, dtype: DTypeLike, axis_name: AxisName) -> LeafStatsState:
  count = functools.partial(zeros_and_not_finite, dtype=dtype)
  counts = [per_leaf(node, count) for node in nodes(updates)]
  parts = [
    *(per_leaf(node, sum_of_squares) for node in nodes(updates)),
    *(zeros for zeros, _ in counts),
    *(not_finite for _, not_finite in counts),
    *(per_leaf(node, functools.partial(_size, dtype=dtype)) for node in nodes(updates)),
  ]
  squares, zeros, not_finite, sizes = jnp.split(over_devices(stacked(parts, dtype), axis_name), 4)
  sizes = jnp.maximum(sizes, 1)
  return LeafStatsState(jnp.sqrt(squares), zeros / sizes, not_finite / sizes)


def _size(leaf: jax.Array, axes: Axes, dtype: DTypeLike) -> jax.Array:
  others = [length for axis, length in enumerate(leaf.shape) if axis not in axes]
  return jnp.full(others, math.prod(leaf.shape[axis] for axis in axes), dtype)


def leaf_stats(
  measure: bool = True, *, axis_name: AxisName = None
) -> optax.GradientTransformationExtraArgs:
  """Measures what passes by, leaf by leaf, and changes nothing.

  As the first link it sees the gradients: dead units have gradients of zeros, and the first NaN has
  a leaf and a step.

  Args:
    measure: whether to; False keeps the last state, for the steps between (see `every`).
    axis_name: as for `update_ratio`.

  Returns:
    A transformation that returns the very updates it was given. Its state is a `LeafStatsState`:
    three vectors with one number for each leaf, in the widest real dtype among the leaves, float32
    at the least. A leaf without entries has 0 of everything.

  Raises:
    TypeError: if a leaf is not floating point.
    ValueError: at `update`, if the state was made for another number of leaves.

  Numerics:
    One more pass over each leaf than the norm alone. Norms: see `update_ratio`. A negative zero is
    one.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt, optax
    >>> tx = optax.chain(kinkopt.monitor.leaf_stats(), optax.sgd(0.1))
    >>> grads = {"a": jnp.array([3.0, 0.0, 4.0, 0.0]), "b": jnp.array([jnp.nan, 1.0])}
    >>> _, state = tx.update(grads, tx.init(grads))
    >>> print(state[0].scale, state[0].zeros, state[0].not_finite)
    [ 5. nan] [0.5 0. ] [0.  0.5]
  """

  def init(params: optax.Params) -> LeafStatsState:
    check_floating("leaf_stats", params, "parameters")
    count, dtype = leaf_count(params), state_dtype(params)
    return LeafStatsState(*(jnp.zeros(count, dtype) for _ in range(3)))

  def update(
    updates: optax.Updates,
    state: LeafStatsState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, LeafStatsState]:
    del params, extra_args
    check_floating("leaf_stats", updates, "updates")
    check_state("leaf_stats", state.scale, "updates", leaf_count(updates))
    if not measure:
      return updates, state
    return updates, _measured(updates, state.scale.dtype, axis_name)

  return optax.GradientTransformationExtraArgs(init, update)
