"""A linear map as a matrix: its products with the unit vectors.

For a few dozen coordinates all products are made at once, and the first thing that most losses do
with their parameters, `X @ w`, would multiply by the identity: half of the work for a generalised
linear model. Here a unit vector stays a symbol until something else than a product of matrices
needs its numbers. For many coordinates each unit vector is made where it is used, so that beside
the result no memory grows with their number.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from kinkopt import _jax
from kinkopt.newton._point import Parts, Point

# Up to here one matrix product serves all columns at once; above, a CPU is as fast column by
# column, in a small part of the memory.
ONE_BATCH = 64


def mapped(fun: Callable[[jax.Array], Any], size: int, batch_size: int | None) -> Any:
  """Stacks `fun(0) ... fun(size - 1)`, made `batch_size` at a time."""
  if batch_size is None:
    wide = size if jax.default_backend() != "cpu" or size <= ONE_BATCH else 1
    batch_size = min(wide, ONE_BATCH)
  return jax.lax.map(fun, jnp.arange(size), batch_size=None if batch_size == 1 else batch_size)


def coloured_products(
  mv: Callable[[Parts], Parts], point: Point, colours: jax.Array, count: int, batch_size: int | None
) -> jax.Array:
  """Multiplies, for each of `count` colours, the sum of its unit vectors: `(count, n)`."""

  def column(colour: jax.Array) -> jax.Array:
    return point.ravel(mv(point.unravel((colours == colour).astype(point.dtype))))

  return mapped(column, count, batch_size)


def unit_products(mv: Callable[[Parts], Parts], like: Parts, batch_size: int | None) -> Parts:
  """Multiplies every unit vector.

  Args:
    mv: a linear map of parts.
    like: parts as it takes them, of `n` coordinates and one dtype; no more of them counts.
    batch_size: how many products are made at once; None chooses.

  Returns:
    For each result of `mv`, `(n, ...)`: its values for the first unit vector, the second ...
  """
  start, unravel = ravel_pytree(list(like))
  size = start.size
  if size <= (ONE_BATCH if batch_size is None else batch_size):
    return _at_once(mv, like)
  unit = lambda index: unravel(jax.nn.one_hot(index, size, dtype=start.dtype))  # noqa: E731
  return mapped(lambda index: mv(unit(index)), size, batch_size)


def columns(mv: Callable[[Parts], Parts], like: Parts, batch_size: int | None) -> jax.Array:
  """Writes a linear map of parts out as one array, one column in each row."""
  rows = unit_products(mv, like, batch_size)
  return jnp.concatenate([row.reshape(len(row), -1) for row in rows], axis=1)


class _Units(NamedTuple):
  """The unit vectors of all coordinates, as far as one part is concerned."""

  start: int  # of the part's first coordinate
  shape: tuple[int, ...]
  dtype: Any


class _Rows(NamedTuple):
  """One value for each unit vector."""

  array: jax.Array  # (size, ...)


def _at_once(mv: Callable[[Parts], Parts], like: Parts) -> Parts:
  program, _ = _jax.trace(mv, list(like))
  code, constants = _jax.closed(program)
  units, start = [], 0
  for part in like:
    units.append(_Units(start, part.shape, part.dtype))
    start += part.size
  return [_written(value, start) for value in _run(code, constants, units, start)]


def _run(code: Any, constants: Sequence[Any], operands: Sequence[Any], size: int) -> list[Any]:
  known = dict(zip([*code.constvars, *code.invars], [*constants, *operands], strict=True))

  def read(atom: Any) -> Any:
    return atom.val if isinstance(atom, _jax.Literal) else known[atom]

  for eqn in code.eqns:
    found = _apply(eqn, [read(atom) for atom in eqn.invars], size)
    known.update(zip(eqn.outvars, found))
  return [read(atom) for atom in code.outvars]


def _apply(eqn: Any, operands: list[Any], size: int) -> list[Any]:
  moving = [isinstance(operand, _Units | _Rows) for operand in operands]
  if not any(moving):
    return _jax.bind(eqn, operands)
  if any(isinstance(operand, _Units) for operand in operands):
    if _jax.name(eqn) in ("jit", "pjit"):
      return _run(*_jax.closed(eqn.params["jaxpr"]), operands, size)
    if _jax.name(eqn) == "dot_general" and not all(moving):
      return [_Rows(_dot(eqn, operands, moving.index(True), size))]
  arrays = [_written(x, size) if moves else x for x, moves in zip(operands, moving)]
  axes = [0 if moves else None for moves in moving]
  found = jax.vmap(lambda *arrays: _jax.bind(eqn, arrays), axes, axis_size=size)(*arrays)
  return [_Rows(array) for array in found]


def _written(value: Any, size: int) -> jax.Array:
  """Writes out what is a symbol still, or the same for all unit vectors."""
  if isinstance(value, _Rows):
    return value.array
  if isinstance(value, _Units):
    unit = jnp.eye(size, math.prod(value.shape), -value.start, dtype=value.dtype)
    return unit.reshape(size, *value.shape)
  return jnp.broadcast_to(value, (size, *jnp.shape(value)))


def _dot(eqn: Any, operands: list[Any], side: int, size: int) -> jax.Array:
  """Multiplies the unit vectors by an array: its entries, each in its place."""
  units, other = operands[side], jnp.asarray(operands[1 - side])
  contracted, batched = eqn.params["dimension_numbers"]
  rank, out = len(units.shape), eqn.outvars[0].aval

  def free(ndim: int, which: int) -> list[int]:
    return [d for d in range(ndim) if d not in contracted[which] and d not in batched[which]]

  own_free, other_free = free(rank, side), free(other.ndim, 1 - side)
  # The result has the dimensions of the unit vectors, then those of the product: the ones that go
  # in step, the left operand's own, the right one's.
  first = rank + len(batched[side])
  own_out = first + (0 if side == 0 else len(other_free))
  other_out = first + (len(own_free) if side == 0 else 0)
  target = dict(zip(contracted[1 - side], contracted[side]))
  target |= {dim: rank + k for k, dim in enumerate(batched[1 - side])}
  target |= {dim: other_out + k for k, dim in enumerate(other_free)}
  order = sorted(target, key=target.__getitem__)
  shape = (*units.shape, *out.shape)
  entries = jax.lax.broadcast_in_dim(
    other.transpose(order).astype(out.dtype), shape, [target[dim] for dim in order]
  )
  pairs = [(dim, rank + k) for k, dim in enumerate(batched[side])]
  pairs += [(dim, own_out + k) for k, dim in enumerate(own_free)]
  for a, b in pairs:
    index = lambda axis: jax.lax.broadcasted_iota(jnp.int32, shape, axis)  # noqa: E731
    entries = jnp.where(index(a) == index(b), entries, 0)
  own = math.prod(units.shape)
  after = size - units.start - own
  padding = [(units.start, after)] + [(0, 0)] * out.ndim
  return jnp.pad(entries.reshape(own, *out.shape), padding)
