"""Symmetric matrices that can be shifted, factored and solved with.

What a solver needs of a matrix depends on what is known to be zero in it: `Blocks` holds square
blocks on the diagonal (one block: a dense matrix), `Diagonal` the diagonal alone. Both answer the
same questions about one flat vector of `n` coordinates, so that no solver asks which it has.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg

from kinkopt._numerics import all_finite, machine_eps


class Factor(NamedTuple):
  """A factored matrix, and whether it was positive definite beyond rounding."""

  arrays: Any
  is_definite: jax.Array  # bool[]


class Matrix(abc.ABC):
  """A symmetric real matrix over `n` coordinates."""

  @property
  @abc.abstractmethod
  def arrays(self) -> tuple[jax.Array, ...]:
    """What is not known to be zero."""

  @abc.abstractmethod
  def with_arrays(self, arrays: tuple[jax.Array, ...]) -> "Matrix":
    """Gives the matrix of the same pattern with other numbers."""

  @abc.abstractmethod
  def dense(self) -> jax.Array:
    """Writes all `(n, n)` entries out."""

  @abc.abstractmethod
  def diagonal(self) -> jax.Array:
    """Gives the `n` entries on the diagonal."""

  @abc.abstractmethod
  def identity(self) -> "Matrix":
    """Gives the identity, with the same pattern."""

  @abc.abstractmethod
  def mv(self, vector: jax.Array) -> jax.Array:
    """Multiplies a vector of `n` coordinates."""

  @abc.abstractmethod
  def scaled(self, scales: jax.Array) -> "Matrix":
    """Divides row i by `scales[i]`, and column j by `scales[j]`."""

  @abc.abstractmethod
  def row_largest(self) -> jax.Array:
    """Gives the largest magnitude in each of the `n` rows."""

  @abc.abstractmethod
  def bound(self) -> jax.Array:
    """Bounds the magnitude of every eigenvalue from above, by the largest sum of a row."""

  @abc.abstractmethod
  def factor(self, shift: jax.Array) -> Factor:
    """Factors the matrix plus `shift` times the identity."""

  @abc.abstractmethod
  def solve(self, arrays: Any, vector: jax.Array) -> jax.Array:
    """Solves with the `arrays` of a factor."""

  def map(self, fun: Callable[[jax.Array], jax.Array]) -> "Matrix":
    """Applies a function to each entry that is not known to be zero."""
    return self.with_arrays(tuple(map(fun, self.arrays)))

  def largest(self) -> jax.Array:
    """Gives the largest magnitude of an entry that is not NaN."""
    return jnp.max(jnp.stack([jnp.max(jnp.abs(array)) for array in self.arrays]))

  def is_finite(self) -> jax.Array:
    """Says whether no entry is NaN or infinite."""
    # Not by `largest`: on a CPU XLA's maximum may lose a NaN.
    return all_finite(self.arrays)

  def where(self, condition: jax.Array, other: "Matrix") -> "Matrix":
    """Takes another matrix of the same pattern if a scalar condition does not hold."""
    pairs = zip(self.arrays, other.arrays)
    return self.with_arrays(tuple(jnp.where(condition, a, b) for a, b in pairs))


def multiply(block: jax.Array, vector: jax.Array) -> jax.Array:
  """Multiplies a vector by a matrix in full precision, on an accelerator too."""
  return jnp.matmul(block, vector, precision="highest")


def after(earlier: jax.Array, x: jax.Array) -> jax.Array:
  """Gives `x` as it is, but not before `earlier` is done.

  On a CPU XLA runs calls of LAPACK that do not depend on each other at the same time; with ten
  thousand lanes of `vmap` each, jaxlib 0.10.2 then waits for ever (0.12 does not).
  """
  first = earlier.ravel()[0]
  never = (first != first) & (first > 0)  # which no compiler sees through
  return jnp.where(never, 0, x)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blocks(Matrix):
  """Square blocks on the diagonal, each over one or more stretches of coordinates."""

  blocks: tuple[jax.Array, ...]
  spans: tuple[tuple[tuple[int, int], ...], ...] = dataclasses.field(metadata={"static": True})

  @classmethod
  def full(cls, matrix: jax.Array) -> "Blocks":
    """Makes one block of a whole matrix that is symmetric but for rounding."""
    return cls((matrix,), (((0, len(matrix)),),))

  @property
  def arrays(self) -> tuple[jax.Array, ...]:
    return self.blocks

  def with_arrays(self, arrays: tuple[jax.Array, ...]) -> "Blocks":
    return Blocks(arrays, self.spans)

  def _cut(self, vector: jax.Array) -> list[jax.Array]:
    """Gives the coordinates of each block."""
    return [
      vector[slice(*spans[0])]
      if len(spans) == 1
      else jnp.concatenate([vector[slice(*span)] for span in spans])
      for spans in self.spans
    ]

  def _paste(self, pieces: list[jax.Array]) -> jax.Array:
    if len(self.spans) == 1 and len(self.spans[0]) == 1:
      return pieces[0]
    found = []
    for spans, piece in zip(self.spans, pieces):
      start = 0
      for low, high in spans:
        found.append((low, piece[start : start + high - low]))
        start += high - low
    return jnp.concatenate([piece for _, piece in sorted(found, key=lambda pair: pair[0])])

  def dense(self) -> jax.Array:
    if len(self.blocks) == 1 and len(self.spans[0]) == 1:
      return self.blocks[0]
    size = sum(len(block) for block in self.blocks)
    matrix = jnp.zeros((size, size), self.blocks[0].dtype)
    for block, spans in zip(self.blocks, self.spans):
      row = 0
      for low, high in spans:
        column = 0
        for left, right in spans:
          piece = block[row : row + high - low, column : column + right - left]
          matrix = matrix.at[low:high, left:right].set(piece)
          column += right - left
        row += high - low
    return matrix

  def diagonal(self) -> jax.Array:
    return self._paste([jnp.diagonal(block) for block in self.blocks])

  def identity(self) -> "Blocks":
    return self.with_arrays(tuple(jnp.eye(len(b), dtype=b.dtype) for b in self.blocks))

  def mv(self, vector: jax.Array) -> jax.Array:
    return self._paste([multiply(b, piece) for b, piece in zip(self.blocks, self._cut(vector))])

  def scaled(self, scales: jax.Array) -> "Blocks":
    pairs = zip(self.blocks, self._cut(scales))
    return self.with_arrays(tuple(b / s[:, None] / s[None, :] for b, s in pairs))

  def row_largest(self) -> jax.Array:
    return self._paste([jnp.max(jnp.abs(block), axis=1) for block in self.blocks])

  def bound(self) -> jax.Array:
    sums = [jnp.max(jnp.sum(jnp.abs(block), axis=1)) for block in self.blocks]
    return jnp.max(jnp.stack(sums))

  def factor(self, shift: jax.Array) -> Factor:
    """Factors by Cholesky's method.

    A factor is rejected when a pivot has lost all its digits, `l_ii**2 <= n * machine_eps * a_ii`:
    such a matrix is singular to rounding. The test does not change when coordinates are rescaled,
    so `diag(1, 1e-20)` is definite (Higham, "Accuracy and Stability", 2002, Theorem 10.7).
    """
    factors, definite = [], []
    for block in self.blocks:
      n = len(block)
      shifted = block + shift * jnp.eye(n, dtype=block.dtype)
      if factors:
        shifted = after(factors[-1], shifted)
      lower = jnp.linalg.cholesky(shifted, symmetrize_input=False)
      pivots, floor = jnp.diagonal(lower) ** 2, n * machine_eps(block.dtype)
      factors.append(lower)
      definite.append(jnp.all(pivots > floor * jnp.diagonal(shifted)))
    return Factor(tuple(factors), jnp.all(jnp.stack(definite)))

  def solve(self, arrays: Any, vector: jax.Array) -> jax.Array:
    found, last = [], arrays[-1]
    for lower, piece in zip(arrays, self._cut(vector)):
      piece = after(last, piece) if len(arrays) > 1 else piece
      last = jax.scipy.linalg.cho_solve((lower, True), piece)
      found.append(last)
    return self._paste(found)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Diagonal(Matrix):
  """A matrix that is zero beside its diagonal."""

  entries: jax.Array

  @property
  def arrays(self) -> tuple[jax.Array, ...]:
    return (self.entries,)

  def with_arrays(self, arrays: tuple[jax.Array, ...]) -> "Diagonal":
    return Diagonal(*arrays)

  def dense(self) -> jax.Array:
    return jnp.diag(self.entries)

  def diagonal(self) -> jax.Array:
    return self.entries

  def identity(self) -> "Diagonal":
    return Diagonal(jnp.ones_like(self.entries))

  def mv(self, vector: jax.Array) -> jax.Array:
    return self.entries * vector

  def scaled(self, scales: jax.Array) -> "Diagonal":
    return Diagonal(self.entries / scales / scales)

  def row_largest(self) -> jax.Array:
    return jnp.abs(self.entries)

  def bound(self) -> jax.Array:
    return jnp.max(jnp.abs(self.entries))

  def factor(self, shift: jax.Array) -> Factor:
    shifted = self.entries + shift
    return Factor(shifted, jnp.all(shifted > 0))

  def solve(self, arrays: Any, vector: jax.Array) -> jax.Array:
    return vector / arrays
