"""A memory of the last steps, on the device, in arrays that never change their shape.

A ring: the newest row takes the place of the oldest. Nothing goes to the host before it is asked
for, and then all of it at once.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import DictKey, GetAttrKey, tree_leaves_with_path

from kinkopt._checks import Interval, check_integer
from kinkopt.monitor._leaf_stats import LeafStatsState
from kinkopt.monitor._update_ratio import UpdateRatioState


class RecordState(NamedTuple):
  """The rows of the last steps."""

  inner_state: optax.OptState
  rows: Any  # what `read` gives, each array with a leading axis of `length`
  position: jax.Array  # int32[]; where the next row goes
  count: jax.Array  # int32[]; the steps so far, measured or not; it saturates
  steps: jax.Array  # int32[length]; the number of the step of each row, 0 where there is none yet


def everything(opt_state: optax.OptState) -> dict[str, Any]:
  """Finds all that is measured inside an optimizer state; what `record` keeps if not told.

  Args:
    opt_state: any optimizer state.

  Returns:
    `"update_ratio"`: the state of `update_ratio`, `"leaf_stats"`: that of `leaf_stats`, where there
    is one; where there are several, the next are `"update_ratio_2"`, ... `"learning_rate"`: where
    a state holds its hyperparameters, as that of `optax.inject_hyperparams` does. It works under
    `jit`.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt, optax
    >>> tx = optax.chain(
    ...   optax.inject_hyperparams(optax.sgd)(0.5), kinkopt.monitor.update_ratio()
    ... )
    >>> sorted(kinkopt.monitor.everything(tx.init(jnp.ones(3))))
    ['learning_rate', 'update_ratio']
  """
  kinds = {UpdateRatioState: "update_ratio", LeafStatsState: "leaf_stats"}

  def is_measurement(node: Any) -> bool:
    return isinstance(node, tuple(kinds))

  found: dict[str, Any] = {}

  def add(name: str, thing: Any) -> None:
    number = 1
    while (key := name if number == 1 else f"{name}_{number}") in found:
      number += 1
    found[key] = thing

  for path, node in tree_leaves_with_path(opt_state, is_leaf=is_measurement):
    if is_measurement(node):
      add(kinds[type(node)], node)
    elif path[-2:] == (GetAttrKey("hyperparams"), DictKey("learning_rate")):
      add("learning_rate", node)
  return found


def record(
  inner: optax.GradientTransformation,
  length: int,
  *,
  read: Callable[[optax.OptState], Any] = everything,
  measure: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Remembers what was measured in the last steps, on the device.

  Args:
    inner: a transformation, such as a chain with `update_ratio` as its last link.
    length: how many steps are kept; >= 1.
    read: from the state of `inner` to a tree of arrays, one row. It must find as much in the state
      that `init` makes as in later ones.
    measure: whether to; False writes no row, for the steps between (see `every`).

  Returns:
    A transformation that steps as `inner` does. Its state is a `RecordState`, of one structure from
    `init` on, so that it goes through `lax.scan`, donation, `optax.MultiSteps`,
    `optax.apply_if_finite`; read it with `history`. Each step writes one row in place.

  Raises:
    TypeError: if `length` is no integer.
    ValueError: if it is out of range; at `init`, if `read` finds nothing.

  Differs from Optax:
    `optax.tree.get` reads the last state; Optax keeps no history.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import kinkopt, optax
    >>> tx = optax.chain(optax.sgd(0.5), kinkopt.monitor.update_ratio())
    >>> tx = kinkopt.monitor.record(tx, length=3)
    >>> params = jnp.ones(2)
    >>> state = tx.init(params)
    >>> for rate in [1, 2, 3, 4]:
    ...   _, state = jax.jit(tx.update)(params * rate, state, params)
    >>> found = kinkopt.monitor.history(state, params)
    >>> print(found.steps, found.ratio[:, 0])
    [2 3 4] [1.  1.5 2. ]
  """
  check_integer("record", "length", length, Interval(1, math.inf), "It is how many steps are kept.")
  inner = optax.with_extra_args_support(inner)

  def init(params: optax.Params) -> RecordState:
    inner_state = inner.init(params)
    row = read(inner_state)
    if not jax.tree.leaves(row):
      raise ValueError(
        "`record` found nothing to remember in the state of `inner`. Put "
        "`kinkopt.monitor.update_ratio()` into the chain, or pass `read=`."
      )
    rows = jax.tree.map(lambda x: jnp.zeros((length, *jnp.shape(x)), jnp.asarray(x).dtype), row)
    steps = jnp.zeros(length, jnp.int32)
    return RecordState(inner_state, rows, jnp.zeros([], jnp.int32), jnp.zeros([], jnp.int32), steps)

  def update(
    updates: optax.Updates,
    state: RecordState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, RecordState]:
    updates, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
    count = optax.safe_increment(state.count)
    if not measure:
      return updates, state._replace(inner_state=inner_state, count=count)
    at = state.position
    rows = jax.tree.map(
      lambda kept, x: kept.at[at].set(jnp.asarray(x).astype(kept.dtype)),
      state.rows,
      read(inner_state),
    )
    following = jnp.where(at + 1 < length, at + 1, 0).astype(jnp.int32)
    return updates, RecordState(inner_state, rows, following, count, state.steps.at[at].set(count))

  return optax.GradientTransformationExtraArgs(init, update)
