"""`kinkopt kinks`: which winners decide in the user's function, and how near is the next kink?"""

from kinkopt import _places, kinks
from kinkopt.cli._check_arguments import FORMATS_OF_KINKS, KinksOptions
from kinkopt.cli._errors import OK
from kinkopt.cli._formats import choose_form, deliver, write_document
from kinkopt.cli._interrupt import held_back
from kinkopt.cli._point import find_point, in_the_check, settings
from kinkopt.kinks import SiteStatus
from kinkopt.render import Block, Code, Column, Document, Table, Text, Tone

_COLUMNS = (
  Column("winner"),
  Column("line"),
  Column("units", ","),
  Column("tie", ","),
  Column("on a kink", ","),
  Column("dead", ","),
  Column("nearest kink", ".1e"),
)
_CAPTION = (
  "On a kink: units that tie, with a margin that moves. Dead: units that lose for every example, "
  "and so pass no gradient. Nearest kink: in steps along a fixed direction in which every "
  "coordinate moves by 0.5 to 1.5."
)
_MOST_SHOWN = 3


def run(options: KinksOptions) -> int:
  """Lists the kinks, and gives the exit code.

  Raises:
    UsageError: if the function, its arguments or the output cannot be used.
  """
  form = choose_form(options.format, options.output, FORMATS_OF_KINKS)
  with settings(options), held_back():
    at = find_point(options, "kinks")
    found = in_the_check(
      at,
      lambda: kinks.sites(at.fun, *at.args, argnums=at.argnums, batch_axis=options.batch_axis),
    )
  document = Document(f"Kinks of {at.target.module}:{at.target.name}", tuple(_blocks(found)))
  deliver(document, lambda form: write_document(document, form), form, options.output)
  return OK


def _blocks(found: tuple[SiteStatus, ...]) -> list[Block]:
  if not found:
    return [Text("Nothing that depends on what moves decides anything: there are no kinks.")]
  tied = [status for status in found if int(status.moving_ties)]
  summary = (
    f"The point is on a kink at {len(tied)} of {len(found)} winners: there any gradient between "
    "the two sides is a convention."
    if tied
    else f"The point is on none of the kinks of {len(found)} winners."
  )
  rows = tuple(map(_row, found))
  tones = tuple(Tone.WARN if status in tied else Tone.PLAIN for status in found)
  return [
    Text(summary, Tone.WARN if tied else Tone.GOOD),
    Table(_COLUMNS, rows, _CAPTION, tones),
    *(code for status in tied[:_MOST_SHOWN] for code in _code(status)),
  ]


def _row(status: SiteStatus) -> tuple:
  site, dead, distance = status.site, int(status.dead), float(status.distance)
  scope = f" in {site.name_stack}" if site.name_stack else ""
  return (
    f"{site.primitive}{scope}",
    _places.told(site.file, site.line) if site.file else None,
    int(status.total),
    int(status.ties),
    int(status.moving_ties),
    dead if dead >= 0 else None,
    distance,
  )


def _code(status: SiteStatus) -> list[Code]:
  found = _places.excerpt(_places.Place(status.site.file, status.site.line))
  if found is None:
    return []
  title = f"`{status.site.primitive}` ties in {int(status.moving_ties):,} units:"
  return [Code(title, found.lines, found.first, found.marked, Tone.WARN)]
