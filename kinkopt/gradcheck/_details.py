"""What to say of a leaf that failed: the kind of its error, and where it is.

If there is another gradient, and differences agree with it, the two are compared. If not, the
differences have to tell alone.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from kinkopt.gradcheck._describe import (
  MOST_NAMED,
  TOLERANCE,
  describe,
  describe_factor,
  name_coordinates,
)
from kinkopt.gradcheck._error_map import ErrorMap, error_map
from kinkopt.gradcheck._inspection import Inspection
from kinkopt.gradcheck._judge import WRONG, Evidence, Judgement, wrong_coordinates
from kinkopt.gradcheck._looks import Stretch
from kinkopt.gradcheck._step_curve import StepCurve, step_curve
from kinkopt.gradcheck._verdict import Verdict

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
