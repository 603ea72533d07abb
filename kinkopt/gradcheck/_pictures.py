"""What a report shows beside its table: where a leaf is off, by which differences, and the lines.

Plain data, made once on the host.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kinkopt import _places
from kinkopt.gradcheck._blame import Finding
from kinkopt.kinks import SiteStatus
from kinkopt.render import Chart, Code, HeatMap, Series, Tone

# Cells along each side; of a vector, in its only row.
_MOST_CELLS = 32
_MOST_IN_A_ROW = 64
# Below, it is the rounding of a gradient that was handed in as float32.
_LEAST = 1e-6


@dataclasses.dataclass(frozen=True)
class ErrorMap:
  """Relative errors of the coordinates of one leaf, the worst of each cell; 0 for those below 1e-6.

  The last axis of the leaf goes to the right, all others down.
  """

  rows: tuple[tuple[float, ...], ...]
  cell: tuple[int, int]  # coordinates in each, down and to the right

  def to_block(self, name: str) -> HeatMap:
    """Gives the picture as a block of a Document."""
    down, right = self.cell
    each = f" Each cell is the worst of {down} x {right}." if down * right > 1 else ""
    return HeatMap(f"Relative error of the coordinates of `{name}`.{each}", self.rows, self.cell)


def error_map(claim: np.ndarray, right: np.ndarray) -> ErrorMap | None:
  """Compares two gradients of one leaf, coordinate by coordinate; None for fewer than two of them.

  Args:
    claim: the gradient under test, in the leaf's shape.
    right: what it should be.
  """
  if claim.size < 2:
    return None
  width = claim.shape[-1]
  gap, size = np.abs(claim - right), np.maximum(np.abs(claim), np.abs(right))
  error = np.where(size > 0, gap / np.where(size > 0, size, 1), 0.0).reshape(-1, width)
  most = (_MOST_CELLS, _MOST_CELLS) if len(error) > 1 else (1, _MOST_IN_A_ROW)
  cell = tuple(math.ceil(n / m) for n, m in zip(error.shape, most))
  padded = np.pad(error, [(0, -n % c) for n, c in zip(error.shape, cell)], constant_values=0)
  blocks = padded.reshape(padded.shape[0] // cell[0], cell[0], -1, cell[1])
  worst = blocks.max((1, 3))
  rows = np.where(worst < _LEAST, 0.0, worst).tolist()
  return ErrorMap(tuple(tuple(float(f"{x:.2g}") for x in row) for row in rows), (cell[0], cell[1]))


class Ladder(NamedTuple):
  """Differences along one direction, and what was made of them."""

  steps: np.ndarray  # [k]
  differences: np.ndarray  # [k]
  claim: float  # the derivative by the gradient
  estimate: float  # by the differences, extrapolated
  error: float  # a bound on the error of `estimate`


@dataclasses.dataclass(frozen=True)
class StepCurve:
  """Relative distances of centered differences, the largest step first, each `[steps]`.

  From the derivative that they lead to, they go down with the square of the step, until rounding
  takes over. From a right gradient they do the same; from a wrong one they stay where they are.
  """

  steps: tuple[float, ...]
  from_gradient: tuple[float, ...]
  from_derivative: tuple[float, ...]

  def to_block(self, name: str) -> Chart:
    """Gives the picture as a block of a Document."""
    return Chart(
      f"How far differences along `{name}` are from its gradient. Of a right one both lines fall.",
      "step",
      "relative distance",
      (
        Series("from the gradient", self.steps, self.from_gradient),
        Series("from the derivative", self.steps, self.from_derivative),
      ),
      log_x=True,
      log_y=True,
      is_only_drawn=True,
    )


def step_curve(ladders: Sequence[Ladder]) -> StepCurve | None:
  """Joins the ladders along one direction; None where nothing is known."""
  known = [ladder for ladder in ladders if np.isfinite(ladder.error)]
  if not known:
    return None
  best = min(known, key=lambda ladder: ladder.error)
  steps = np.concatenate([ladder.steps for ladder in ladders])
  differences = np.concatenate([ladder.differences for ladder in ladders])
  scale = max(abs(best.claim), abs(best.estimate)) or 1.0
  order = [i for i in np.argsort(-steps) if np.isfinite(differences[i])]
  columns = (
    steps[order],
    np.abs(differences[order] - best.claim) / scale,
    np.abs(differences[order] - best.estimate) / scale,
  )
  return StepCurve(*(tuple(float(f"{x:.3g}") for x in column) for column in columns))


# Of each kind, those that are shown.
_MOST = 3


@dataclasses.dataclass(frozen=True)
class Source:
  """Lines of a file that a report shows."""

  title: str  # what stands there, and where
  file: str
  line: int  # the one that is meant
  first: int  # the number of the first of `lines`
  lines: tuple[str, ...]
  marked: int | None = None  # the number of the line that is meant; None: a function, as a whole
  is_wrong: bool = False  # or else only worth a look

  def to_code(self) -> Code:
    """Gives the lines as a block of a Document."""
    tone = Tone.BAD if self.is_wrong else Tone.WARN
    return Code(self.title, self.lines, self.first, self.marked, tone)


def sources_of(
  blame: Sequence[Finding], origins: Sequence[_places.Place], tied: Sequence[SiteStatus]
) -> tuple[Source, ...]:
  """Reads the lines of what a check found; what cannot be read is left out.

  Args:
    blame: the rules to blame.
    origins: where numbers that are not finite are made.
    tied: the winners that tie at the point.
  """
  rules = ((_rule_title(f), _places.Place(f.rule.file, f.rule.line)) for f in blame)
  made = ((f"Not finite from here on, {_told(place)}:", place) for place in origins)
  kinks = (_places.Place(status.site.file, status.site.line) for status in tied)
  kinks = ((f"On a kink, {_told(place)}:", place) for place in kinks)
  return (*_read(rules, True), *_read(made, True), *_read(kinks, False))


def _read(titled: Iterable[tuple[str, _places.Place]], is_wrong: bool) -> Iterator[Source]:
  first = {place: title for title, place in reversed(list(titled))}
  for place in [*reversed(first)][:_MOST]:
    found = _places.excerpt(place)
    if found is not None:
      yield Source(first[place], *found, is_wrong=is_wrong)


def _rule_title(finding: Finding) -> str:
  is_named = finding.rule.name.isidentifier()
  name = f"`{finding.rule.name}`, the" if is_named else "The"
  return f"{name} rule of `{finding.owner}`, {_told(finding.rule)}:"


def _told(place: _places.Place | _places.Function) -> str:
  return _places.told(place.file, place.line)
