"""Sums over leaves, one number each, as vectors: what every measurement is made of."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import KeyPath, tree_leaves_with_path
from jax.typing import ArrayLike, DTypeLike

from kinkopt._numerics import abs_sq, compute_dtype, real_dtype, safe_divide
from kinkopt._typing import PyTree
from kinkopt.flat import Flat

AxisName = str | tuple[str, ...] | None
Axes = tuple[int, ...]


def state_dtype(tree: PyTree) -> jnp.dtype:
  """Gives the dtype that measurements of these leaves are kept in."""
  return compute_dtype(*(real_dtype(jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)))


def nodes(tree: PyTree) -> list[Any]:
  """Gives the leaves of a tree; what was laid flat, whose leaves are told apart later, is one."""
  return jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, Flat))


def unfolded(tree: PyTree) -> PyTree:
  """Puts the tree that it was, of numbers, in the place of what was laid flat."""

  def tree_of(node: Any) -> Any:
    if not isinstance(node, Flat):
      return node
    structure = node.layout.structure
    return structure.unflatten(range(structure.num_leaves))

  return jax.tree.map(tree_of, tree, is_leaf=lambda node: isinstance(node, Flat))


def leaf_count(tree: PyTree) -> int:
  """Counts the leaves, within what was laid flat too."""
  return len(jax.tree.leaves(unfolded(tree)))


def per_leaf(node: Any, reduce: Callable[[jax.Array, Axes], Any]) -> Any:
  """Reduces a node to numbers: an array to one, what was laid flat to one for each leaf."""
  if isinstance(node, Flat):
    return node.per_leaf(reduce)
  return reduce(jnp.asarray(node), tuple(range(jnp.ndim(node))))


def states_of(kind: type | tuple[type, ...], tree: Any) -> list[tuple[KeyPath, Any]]:
  """Finds the states of some kinds in a tree, with their places."""
  nodes = tree_leaves_with_path(tree, is_leaf=lambda node: isinstance(node, kind))
  return [(path, node) for path, node in nodes if isinstance(node, kind)]


def check_state(caller: str, norms: jax.Array, what: str, count: int) -> None:
  """Checks that a state has one norm for each of `count` leaves of `what`."""
  shape = jnp.shape(norms)
  if shape != (count,):
    raise ValueError(
      f"`{caller}`: the state holds norms of shape {shape}, but the {what} have {count} leaves: it "
      "was made for other parameters, or for a population. Make it anew with `state = "
      "tx.init(params)`; for a population put `jax.vmap` around `tx.update` too."
    )


def stacked(numbers: Sequence[jax.Array], dtype: DTypeLike) -> jax.Array:
  """Puts the numbers of all nodes into a vector, which no derivative passes."""
  rows = [jnp.atleast_1d(number) for number in numbers]
  vector = jnp.concatenate(rows) if rows else jnp.zeros(0, dtype)
  # The measurement watches; a derivative of the root at 0 must not reach whoever unrolls the steps.
  return jax.lax.stop_gradient(vector.astype(dtype))


def sum_of_squares(leaf: ArrayLike, axes: Axes | None = None) -> jax.Array:
  """Sums the squares of one leaf, in float32 or wider."""
  # A sum over the leaf as it is: `tree.vdot` and `norm(x.ravel())` gather a sharded leaf first.
  return jnp.sum(abs_sq(jnp.asarray(leaf, compute_dtype(jnp.result_type(leaf)))), axes)


def zeros_and_not_finite(
  leaf: jax.Array, axes: Axes, dtype: DTypeLike
) -> tuple[jax.Array, jax.Array]:
  """Counts the entries that are 0, and those that are NaN or infinite, in one pass."""
  exact = jnp.int32 if leaf.size < 2**31 else dtype
  marks = (leaf == 0).astype(exact), (~jnp.isfinite(leaf)).astype(exact)
  if jax.device_count() == 1:
    # Two sums would each write an array of numbers first: twice the time on a CPU, measured.
    zero = jnp.zeros([], exact)
    add = lambda left, right: (left[0] + right[0], left[1] + right[1])  # noqa: E731
    zeros, not_finite = jax.lax.reduce(marks, (zero, zero), add, axes)
  else:
    # Of shards, XLA would gather the counts of a joint reduction, once for each leaf.
    zeros, not_finite = (jnp.sum(mark.astype(dtype), axes) for mark in marks)
  return zeros.astype(dtype), not_finite.astype(dtype)


def over_devices(sums: jax.Array, axis_name: AxisName) -> jax.Array:
  """Adds what the devices of a `shard_map` or the lanes of a `vmap` found, all numbers at once."""
  return sums if axis_name is None else jax.lax.psum(sums, axis_name)


def norm_of_norms(scales: jax.Array) -> jax.Array:
  """Gives the norm of all leaves together, from theirs, along the last axis."""
  # There are few of these, so scaling by the largest (no overflow, no underflow) costs nothing.
  largest = jnp.max(scales, axis=-1, keepdims=True, initial=0)
  scaled = safe_divide(scales, largest)
  return largest[..., 0] * jnp.sqrt(jnp.sum(jnp.square(scaled), axis=-1))
