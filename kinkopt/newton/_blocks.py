"""Parts of the Hessian: the blocks of leaves or groups of leaves, or the diagonal alone.

What lies outside of the blocks is taken for zero. That costs no fewer products with vectors than
the whole Hessian, but the memory and the factorisation of each block alone, and a block that is
not finite or not definite is shifted like the whole.
"""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt.newton._columns import columns, mapped
from kinkopt.newton._curvature import Curvature, Hessian, Linearization, check_batch_size
from kinkopt.newton._matrix import Blocks, Diagonal, Matrix
from kinkopt.newton._point import Parts, Point


@dataclasses.dataclass(frozen=True)
class BlockDiagonal(Curvature):
  """The second derivatives within each leaf, or within each group of leaves.

  Args:
    label_fn: `params -> labels`, a tree like the parameters with one hashable label for each leaf
      (or a prefix of it, as `optax.partition` takes): leaves of one label form one block. None
      gives each leaf its own.
    batch_size: how many columns are made at once; see `Hessian`.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> loss = lambda p: 2 * jnp.sum(p["w"] ** 2) + 2 * p["b"] ** 2 + p["b"] * p["w"][0]
    >>> tx = kinkopt.newton.scale_by_newton(curvature=kinkopt.newton.BlockDiagonal())
    >>> params = {"b": jnp.array(1.0), "w": jnp.array([1.0, 2.0])}
    >>> updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params, value_fn=loss)
    >>> print(updates["b"], updates["w"])
    1.25 [1.25 2.  ]
  """

  label_fn: Callable[[Any], Any] | None = None
  batch_size: int | None = None

  def __post_init__(self) -> None:
    check_batch_size(self)

  def at(self, point: Point) -> Linearization:
    groups, ends, start = self._groups(point), [], 0
    for part in point.parts:
      ends.append((start, start + part.size))
      start += part.size

    def product(group: tuple[int, ...]) -> Callable[[Parts], Parts]:
      """Gives the product with the Hessian of the leaves of a group, the others held fixed."""

      def value(inner: Parts) -> jax.Array:
        parts = list(point.parts)
        for index, part in zip(group, inner):
          parts[index] = part
        return point.value_at(parts)

      return jax.linearize(jax.grad(value), [point.parts[index] for index in group])[1]

    def matrix() -> Matrix:
      chosen = [[point.parts[index] for index in group] for group in groups]
      blocks = [columns(product(g), c, self.batch_size) for g, c in zip(groups, chosen)]
      spans = tuple(tuple(ends[index] for index in group) for group in groups)
      return Blocks(tuple(blocks), spans)

    def mv(parts: Parts) -> Parts:
      found = [jnp.zeros_like(part) for part in parts]
      for group in groups:
        for index, piece in zip(group, product(group)([parts[index] for index in group])):
          found[index] = piece
      return found

    return Linearization(mv, matrix)

  def _groups(self, point: Point) -> list[tuple[int, ...]]:
    """Gives the numbers of the leaves of each label; leaves without coordinates are left out."""
    if self.label_fn is None:
      labels: list[Hashable] = list(range(len(point.parts)))
    else:
      labels = jax.tree.leaves(jax.tree.broadcast(self.label_fn(point.params), point.params))
    groups: dict[Hashable, list[int]] = {}
    for index, (label, part) in enumerate(zip(labels, point.parts)):
      if part.size:
        groups.setdefault(label, []).append(index)
    return [tuple(group) for group in groups.values()]


@dataclasses.dataclass(frozen=True)
class DiagonalHessian(Curvature):
  """The second derivative of the loss along each coordinate alone.

  Args:
    batch_size: how many coordinates are looked at together; see `Hessian`.

  Numerics:
    Exact, and hence as slow as the whole Hessian: one product with a vector for each coordinate.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> loss = lambda x: jnp.sum(x**4) + x[0] * x[1]
    >>> tx = kinkopt.newton.scale_by_newton(curvature=kinkopt.newton.DiagonalHessian())
    >>> x = jnp.array([1.0, 2.0])
    >>> updates, _ = tx.update(jax.grad(loss)(x), tx.init(x), x, value_fn=loss)
    >>> print(updates.round(4))
    [0.5    0.6875]
  """

  batch_size: int | None = None

  def __post_init__(self) -> None:
    check_batch_size(self)

  def at(self, point: Point) -> Linearization:
    product = Hessian().at(point).mv

    def entry(index: jax.Array) -> jax.Array:
      unit = jax.nn.one_hot(index, point.size, dtype=point.dtype)
      return point.ravel(product(point.unravel(unit)))[index]

    entries = Diagonal(mapped(entry, point.size, self.batch_size))
    return Linearization(
      lambda parts: point.unravel(entries.mv(point.ravel(parts))), lambda: entries
    )
