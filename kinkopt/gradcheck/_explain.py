"""What to say of a leaf that failed: the kind of its error, and where it is.

If there is another gradient, and differences agree with it, the two are compared: a factor, a sign,
a transpose, a few coordinates. If not, differences along parts of the leaf find the place: what a
gradient is off by is a sum over coordinates, so half of them show half of the sum.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from kinkopt.gradcheck._inspection import Inspection
from kinkopt.gradcheck._judge import WRONG, Evidence, Judgement, wrong_coordinates
from kinkopt.gradcheck._looks import Stretch
from kinkopt.gradcheck._pictures import ErrorMap, StepCurve, error_map, step_curve
from kinkopt.gradcheck._verdict import Verdict

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


_ROUGH = (
  "is no further off than JAX's own is in the precision that the program runs in, which is too "
  "rough to tell; hand in the function that makes it, which is checked in float64"
)


class Details:
  """Describes errors; what it needs for that is computed when it is first needed."""

  def __init__(
    self,
    inspection: Inspection,
    seen: Sequence[Evidence],
    swept: Sequence[Evidence | None],
    slack: float,
  ):
    self.inspection, self.seen, self.swept, self.slack = inspection, seen, swept, slack
    self.claim, self.layout = inspection.claim, inspection.layout
    # What is shown is the derivative of the user's scalar itself.
    self.weight = inspection.stages.weight
    leaves = jax.tree.leaves(inspection.args)
    self.lengths = {n for leaf in leaves for n in np.shape(leaf)}
    self.maps: dict[int, ErrorMap | None] = {}  # of leaves that can be compared as a whole
    self.curves: dict[int, StepCurve | None] = {}  # of leaves that are wrong

  def of(self, number: int, judgement: Judgement) -> str:
    """Gives the end of a sentence that starts with "the gradient"; empty for a leaf that passed."""
    if judgement.verdict is Verdict.NOT_FINITE:
      return self._not_finite(number)
    if judgement.is_rough:
      return _ROUGH
    if judgement.verdict not in WRONG:
      return ""
    self.curves[number] = self._curve(number)
    ways = (self._by_another, self._by_ratio, self._by_sweep, self._by_search)
    if not self.seen[number].is_beyond(self.slack).any():  # it was seen in the sweep alone
      ways = (self._by_sweep,)
    told = (way(number) for way in ways)
    generic = f"is off by {judgement.relative_error:.1e} along random directions"
    return next(filter(None, told), generic)

  def _curve(self, number: int) -> StepCurve | None:
    """Takes the ladder along the direction, or of the coordinate, that shows the most."""
    seen, swept = self.seen[number], self.swept[number]
    if seen.is_beyond(self.slack).any():
      whole = [self.inspection.whole(number, draw) for draw in range(len(seen.gap))]
      climbed = [stretch in self.inspection.ladders for stretch in whole]
      stretch = whole[int(np.argmax(seen.gap * seen.is_beyond(self.slack) * climbed))]
    elif swept is not None:
      worst = int(np.argmax(wrong_coordinates(swept, self.slack) * np.nan_to_num(swept.gap)))
      stretch = Stretch(number, 0, worst, worst + 1, True)
    else:
      return None
    return step_curve(self.inspection.ladders.get(stretch, []))

  def _by_another(self, number: int) -> str:
    """Compares with JAX's gradient of what is evaluated, if differences agree with that."""
    others = self._other_gradients
    if others is None or self.claim.leaves is None:
      return ""
    other, seen = np.asarray(others[number]), self.seen[number]
    errors = np.nan_to_num(seen.error) + self.slack * np.linalg.norm(other)
    along = self.inspection.along(number, others, len(seen.estimate))
    if not (np.abs(along - seen.estimate) <= errors).all():
      return ""
    claim = np.asarray(self.claim.leaves[number])
    self.maps[number] = error_map(claim, other)
    name = self.layout.names[number]
    return describe(claim / self.weight, other / self.weight, name, self.lengths)

  def _by_sweep(self, number: int) -> str:
    """Compares with the differences of each coordinate by itself."""
    swept = self.swept[number]
    if swept is None or self.claim.leaves is None:
      return ""
    name, shape = self.layout.names[number], self.layout.shapes[number]
    wrong = np.flatnonzero(wrong_coordinates(swept, self.slack)).tolist()
    if wrong:
      self.maps[number] = error_map(swept.claim.reshape(shape), swept.estimate.reshape(shape))
    if 0 < len(wrong) <= MOST_NAMED:
      shown = swept.claim[wrong] / self.weight, swept.estimate[wrong] / self.weight
      return name_coordinates(name, shape, wrong, *shown)
    if not wrong or np.iscomplexobj(self.claim.leaves[number]):
      return ""
    claim, right = (x.reshape(shape) / self.weight for x in (swept.claim, swept.estimate))
    return describe(claim, right, name, self.lengths)

  def _by_ratio(self, number: int) -> str:
    """Tells a factor by the same ratio along every direction."""
    seen = self.seen[number]
    if seen.claim.size < 2:
      return ""
    tolerance = TOLERANCE
    if self.inspection.opaque:
      tolerance = max(tolerance, 4 * float(np.nanmax(seen.error)) / seen.scale)
    return describe_factor(seen.claim, seen.estimate, self.lengths, tolerance)

  def _by_search(self, number: int) -> str:
    """Searches for the coordinates."""
    seen, inspection = self.seen[number], self.inspection
    whole = float(seen.claim[0] - seen.estimate[0])
    found = inspection.find(number, whole, seen.scale, self.slack)
    if not found:
      return ""
    slopes = inspection.climb([Stretch(number, 0, i, i + 1, True) for i in found])
    unit = slopes.length * self.weight
    claims, rights = slopes.claim / unit, slopes.estimate / unit
    name, shape = self.layout.names[number], self.layout.shapes[number]
    return name_coordinates(name, shape, found, claims, rights)

  @functools.cached_property
  def _other_gradients(self) -> list[jax.Array] | None:
    return self.inspection.stages.other_gradient(self.inspection.args)

  @functools.cached_property
  def _why(self) -> str:
    origins = self.inspection.stages.origins(self.inspection.args)
    self.inspection.origins = [maker.place for maker in filter(None, origins.first())][:1]
    return origins.sentence()

  def _not_finite(self, number: int) -> str:
    why = f": {self._why}" if self._why else ""
    if self.claim.leaves is None:
      return f"is not finite{why}"
    gradient, name = np.asarray(self.claim.leaves[number]), self.layout.names[number]
    where = np.argwhere(~np.isfinite(gradient))
    if not len(where):
      return f"decides nothing, since {self._why}" if self._why else "decides nothing"
    place = ", ".join(map(str, where[0]))
    first = f"`{name}[{place}]`" if place else f"`{name}`"
    return f"is not finite at {len(where):,} of {gradient.size:,} coordinates, first {first}{why}"
