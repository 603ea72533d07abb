"""What an error in a gradient looks like: the known mistakes, by name.

Two arrays are compared, what is claimed and what is right. The first pattern that explains all of
the difference names it; an error that fits none is told by where it stands.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

# Of the norm of what is right: as far as both were computed, they agree to much better.
TOLERANCE = 1e-6
# Of the difference, what an explanation may leave over.
_UNEXPLAINED = 0.1
MOST_NAMED = 4


def describe(claim: np.ndarray, right: np.ndarray, name: str, batch_sizes: set[int]) -> str:
  """Says how a gradient differs from the right one.

  Args:
    claim: the gradient of one leaf, finite.
    right: what it should be, of the same shape, finite.
    name: of the leaf, as its coordinates are to be called.
    batch_sizes: lengths that a factor may come from.

  Returns:
    The end of a sentence that starts with "the gradient".
  """
  explains = _explanation(claim, right)
  if not np.any(claim):
    return "is 0 everywhere"
  factor = np.vdot(right, claim) / max(np.vdot(right, right).real, np.finfo(float).tiny)
  if np.any(right) and explains(factor * right):
    return _factor(complex(factor), batch_sizes)
  for words, candidate in _rearranged(right):
    if candidate.shape == claim.shape and explains(candidate):
      return words
  return _place(claim, right, name)


def describe_factor(
  claims: np.ndarray, rights: np.ndarray, batch_sizes: set[int], tolerance: float = TOLERANCE
) -> str:
  """Says by which factor derivatives along a few directions differ; empty if by no one factor.

  Args:
    claims: what a gradient claims, `[n]`, real.
    rights: what is right, likewise.
    batch_sizes: lengths that a factor may come from.
    tolerance: how far `rights` may be off, in units of its norm.
  """
  if not np.any(claims):
    return "is 0 everywhere"
  factor = float(claims @ rights) / max(float(rights @ rights), np.finfo(float).tiny)
  if not _explanation(claims, rights, tolerance)(factor * rights):
    return ""
  return _factor(complex(factor), batch_sizes, tolerance)


def name_coordinates(
  name: str, shape: tuple[int, ...], numbers: Sequence[int], claims: Any, rights: Any
) -> str:
  """Lists wrong coordinates of a leaf.

  Args:
    name: of the leaf.
    shape: of the leaf.
    numbers: of the coordinates, row-major.
    claims: the gradient there.
    rights: what it should be there.
  """
  size = int(np.prod(shape, dtype=np.int64))
  places = [_coordinate(name, np.unravel_index(number, shape)) for number in numbers]
  seen = "; ".join(
    f"`{place}` {_number(a)} for {_number(b)}" for place, a, b in zip(places, claims, rights)
  )
  return f"is wrong at {len(numbers)} of {size:,} coordinates: {seen}"


def _explanation(
  claim: np.ndarray, right: np.ndarray, tolerance: float = TOLERANCE
) -> Callable[[np.ndarray], bool]:
  """Gives the test of whether a candidate is all of the difference, be it ever so small."""
  rounding = tolerance * max(float(np.linalg.norm(right)), np.finfo(float).tiny)
  bound = min(rounding, _UNEXPLAINED * float(np.linalg.norm(claim - right)))
  return lambda candidate: bool(np.linalg.norm(claim - candidate) <= bound)


def _factor(factor: complex, batch_sizes: set[int], tolerance: float = TOLERANCE) -> str:
  if abs(factor.imag) > tolerance * abs(factor):
    return f"is the right one times {factor:.6g}"
  real = factor.real
  if abs(real + 1) <= tolerance:
    return "has the wrong sign"
  for size in sorted(batch_sizes):
    for value, words in ((size, f"{size}"), (1 / size, f"1/{size}")):
      if size > 2 and abs(real / value - 1) <= tolerance:
        return f"is the right one times {words}, an axis's length: a mean for a sum, or the reverse"
  digits = 7 if tolerance <= TOLERANCE else 3
  return f"is the right one times {real:.{digits}g}"


def _rearranged(right: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
  if np.iscomplexobj(right):
    yield "is the complex conjugate of the right one", right.conj()
  if right.ndim == 2:
    yield "is the transpose of the right one", right.T
  for axis in range(right.ndim):
    yield f"is the right one backwards along axis {axis}", np.flip(right, axis)
    for shift in (1, -1):
      yield f"is the right one shifted by {shift} along axis {axis}", np.roll(right, shift, axis)


def _place(claim: np.ndarray, right: np.ndarray, name: str) -> str:
  """Names the coordinates that are wrong, or the row, or how many they are."""
  gap = np.abs(claim - right)
  is_wrong = gap > TOLERANCE * np.maximum(gap.max(), np.abs(right))
  where = np.argwhere(is_wrong)
  if len(where) <= MOST_NAMED:
    numbers = np.flatnonzero(is_wrong).tolist()
    return name_coordinates(
      name, claim.shape, numbers, claim.ravel()[numbers], right.ravel()[numbers]
    )
  for axis in range(claim.ndim):
    if claim.ndim > 1 and len(set(where[:, axis])) == 1:
      index = ", ".join(str(where[0, axis]) if i == axis else ":" for i in range(claim.ndim))
      return f"is wrong in `{name}[{index}]` alone, at {len(where):,} coordinates"
  worst = np.unravel_index(np.argmax(gap), gap.shape)
  return (
    f"is wrong at {len(where):,} of {claim.size:,} coordinates; the worst is "
    f"`{_coordinate(name, worst)}`: {_number(claim[worst])} for {_number(right[worst])}"
  )


def _coordinate(name: str, index: Iterable[Any]) -> str:
  place = ", ".join(map(str, index))
  return f"{name}[{place}]" if place else name


def _number(value: Any) -> str:
  return f"{value + 0:.6g}"  # + 0 makes a 0 of a -0
