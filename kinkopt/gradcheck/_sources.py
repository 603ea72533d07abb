"""The lines of the user's program that a report speaks of: the rules to blame, NaNs, and kinks."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from kinkopt import _places
from kinkopt.gradcheck._blame import Finding
from kinkopt.kinks import SiteStatus
from kinkopt.render import Code, Tone

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
