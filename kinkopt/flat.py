"""Parameters laid end to end, one array for each dtype, with the tree that a loss wants as a view.

An update rule costs a few microseconds for each array that it is given, whatever its size. Of a
thousand small ones that is most of the step; laid end to end they are one. The result is a pytree
like any other: rules, Newton, checks and wrappers of Optax need not know.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey

from kinkopt._checks import Interval, check_floating, check_integer, check_same_tree
from kinkopt._typing import PyTree

__all__ = ["Flat", "flatten"]


class _Run(NamedTuple):
  """Leaves of one size that follow each other in a buffer."""

  start: int
  size: int  # of each
  leaves: tuple[int, ...]  # their numbers in the tree

  @property
  def stop(self) -> int:
    return self.start + self.size * len(self.leaves)


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where each leaf of a tree lies: static, and equal for equal trees."""

  structure: Any
  shapes: tuple[tuple[int, ...], ...]
  dtypes: tuple[str, ...]
  multiple_of: int

  @functools.cached_property
  def runs(self) -> dict[str, tuple[_Run, ...]]:
    """Gives, for each dtype, what its buffer holds; small leaves come first."""
    runs: dict[str, tuple[_Run, ...]] = {}
    for dtype in sorted(set(self.dtypes)):
      mine = [i for i, other in enumerate(self.dtypes) if other == dtype]
      sizes: dict[int, list[int]] = {}
      for i in mine:
        sizes.setdefault(math.prod(self.shapes[i]), []).append(i)
      start, found = 0, []
      for size in sorted(sizes):
        found.append(_Run(start, size, tuple(sizes[size])))
        start = found[-1].stop
      runs[dtype] = tuple(found)
    return runs

  def joined(self, leaves: list[jax.Array]) -> dict[str, jax.Array]:
    """Lays leaves end to end, and zeros after them."""
    buffers = {}
    for dtype, runs in self.runs.items():
      parts = [jnp.ravel(leaves[i]) for run in runs for i in run.leaves]
      total = sum(part.size for part in parts)
      wide = jnp.result_type(*parts)
      padding = jnp.zeros(-total % self.multiple_of, wide)
      buffers[dtype] = jnp.concatenate([*(part.astype(wide) for part in parts), padding])
    return buffers

  def cut(self, buffers: Mapping[str, jax.Array]) -> list[jax.Array]:
    """Cuts buffers into leaves; axes before the last are kept."""
    leaves: list[Any] = [None] * len(self.shapes)
    for dtype, runs in self.runs.items():
      buffer = buffers[dtype]
      order = [i for run in runs for i in run.leaves]
      sizes = [run.size for run in runs for _ in run.leaves]
      rest = buffer.shape[-1] - sum(sizes)
      # One `split`, because its transpose is one `concatenate`; that of slices is a sum of pads.
      parts = jax.lax.split(buffer, [*sizes, rest], axis=buffer.ndim - 1)
      for i, part in zip(order, parts):
        leaves[i] = part.reshape(*buffer.shape[:-1], *self.shapes[i])
    return leaves


@jax.tree_util.register_pytree_with_keys_class
class Flat:
  """A tree of arrays, laid end to end; made by `flatten`.

  A pytree whose leaves are `buffers`, from the name of a dtype to a vector. `jax.vmap` and stacking
  put axes in front, and `tree` has them too.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> flat = kinkopt.flat.flatten({"w": jnp.ones((2, 3)), "b": jnp.zeros(2)})
    >>> print(flat)
    Flat(2 leaves; float32[8])
    >>> print(flat.buffers["float32"], flat.tree["w"].shape)
    [0. 0. 1. 1. 1. 1. 1. 1.] (2, 3)
  """

  __slots__ = ("buffers", "layout")

  def __init__(self, buffers: dict[str, Any], layout: Layout) -> None:
    self.buffers, self.layout = buffers, layout

  @property
  def tree(self) -> PyTree:
    """The tree as it was: what a loss is called with."""
    return self.layout.structure.unflatten(self.layout.cut(self.buffers))

  def like(self, tree: PyTree) -> "Flat":
    """Lays another tree of the same shapes out alike, such as a gradient or a mask of floats.

    Raises:
      ValueError: if its structure or a shape is another.
    """
    shapes = [jax.ShapeDtypeStruct(s, d) for s, d in zip(self.layout.shapes, self.layout.dtypes)]
    check_same_tree("Flat.like", "tree", tree, "flat one", self.layout.structure.unflatten(shapes))
    return Flat(self.layout.joined(jax.tree.leaves(tree)), self.layout)

  def per_leaf(self, reduce: Callable[[jax.Array, tuple[int, ...]], Any]) -> Any:
    """Reduces each leaf of the tree to numbers, all leaves of one size at once.

    Args:
      reduce: from an array and the axes to reduce it over to an array of the other axes, or a tree
        of such.

    Returns:
      What `reduce` returns, with one number for each leaf, in the tree's order.
    """
    found, order = [], []
    for dtype, runs in self.layout.runs.items():
      for run in runs:
        rows = self.buffers[dtype][run.start : run.stop].reshape(len(run.leaves), run.size)
        found.append(reduce(rows, (1,)))
        order += run.leaves
    if not found:
      return reduce(jnp.zeros((0, 0)), (1,))
    back = np.argsort(order)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[back], *found)

  def __repr__(self) -> str:
    # Whatever `jax.tree.map` has put in the buffers' places.
    kinds = [
      f"{dtype}{list(x.shape)}" if hasattr(x, "shape") else f"{dtype}: {x!r}"
      for dtype, x in self.buffers.items()
    ]
    return f"Flat({len(self.layout.shapes)} leaves; {', '.join(kinds) or 'empty'})"

  def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], Any]:
    """Gives the buffers to JAX."""
    children = tuple((DictKey(name), buffer) for name, buffer in self.buffers.items())
    return children, (tuple(self.buffers), self.layout)

  @classmethod
  def tree_unflatten(cls, aux: tuple[tuple[str, ...], Layout], children: Any) -> "Flat":
    """Takes whatever JAX puts in the buffers' places."""
    names, layout = aux
    return cls(dict(zip(names, children)), layout)


def flatten(params: PyTree, *, multiple_of: int = 1) -> Flat:
  """Lays parameters end to end, for update rules that then see one array for each dtype.

  Train on the result, and give the loss its tree::

      params = kinkopt.flat.flatten(params)
      loss_fn = lambda params, batch: loss(params.tree, batch)
      value, grads = jax.value_and_grad(loss_fn)(params, batch)
      updates, state = tx.update(grads, state, params)
      params = optax.apply_updates(params, updates)

  Rules and checks need not know. `kinkopt.monitor` still tells the leaves of the tree apart. What
  goes by the leaf does not work any more: masks, labels, `optax.lamb` and other norms of a leaf.

  Args:
    params: a tree of floating or complex arrays.
    multiple_of: zeros are added until the length of each buffer is a multiple of this; say the
      number of devices that it is to be split over.

  Returns:
    A `Flat`; its `tree` is the tree again, and `like(tree)` lays out another of the same shapes.

  Raises:
    TypeError: if a leaf is not floating point, or `multiple_of` is no integer.
    ValueError: if `multiple_of` is not at least 1.

  Numerics:
    No number changes. Element-wise rules take the same steps as on the tree, up to how XLA fuses.
    It pays where there are hundreds of leaves or more, each small (below some 100,000 numbers): see
    the benchmarks. It does not pay for few leaves, since the gradient is copied into its buffer,
    and XLA compiles each view of a leaf on its own, which for a thousand takes longer than the rule
    itself would have.

    Orbax, Equinox and pickle keep it as it is; `flax.serialization`, which knows no class that was
    not registered with it, keeps `jax.tree.leaves` of it.

    On devices, place it with `jax.device_put(flat, NamedSharding(mesh, P("data")))`: rules then
    need no communication, and `tree` gathers what the loss needs.

  Differs from Optax:
    `optax.flatten` lays gradient and state out inside of the transform, and so copies gradient and
    updates in each step; here the parameters themselves stay flat.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import kinkopt
    >>> params = kinkopt.flat.flatten({"w": jnp.ones((2, 3)), "b": jnp.zeros(2)})
    >>> tx = optax.adam(0.1)
    >>> loss_fn = lambda params: jnp.sum((params.tree["w"] - 3.0) ** 2)
    >>> updates, state = tx.update(jax.grad(loss_fn)(params), tx.init(params), params)
    >>> print(optax.apply_updates(params, updates).tree["w"].round(3))
    [[1.1 1.1 1.1]
     [1.1 1.1 1.1]]

  References:
    `benchmarks/flat.md` measures what it gains, and where it gains nothing.
  """
  check_floating("flatten", params, "parameters", "keep counters and masks beside them.")
  advice = "It is what the length of each buffer is rounded up to."
  check_integer("flatten", "multiple_of", multiple_of, Interval(1, math.inf), advice)
  leaves, structure = jax.tree.flatten(params)
  layout = Layout(
    structure,
    tuple(np.shape(leaf) for leaf in leaves),
    tuple(jnp.dtype(jnp.result_type(leaf)).name for leaf in leaves),
    int(multiple_of),
  )
  return Flat(layout.joined([jnp.asarray(leaf) for leaf in leaves]), layout)
