"""The terminal printer: the same blocks as `to_text`, with colour and boxes, through rich.

It hands back a renderable and leaves the printing to the caller's console, which knows the width of
the terminal and whether it has colours.
"""

from typing import Any

from kinkopt.render._document import (
  Block,
  Chart,
  Code,
  Document,
  Heading,
  HeatMap,
  Table,
  Text,
  Tone,
  is_only_drawn,
)
from kinkopt.render._optional import require
from kinkopt.render._text import to_text

_STYLES = {
  Tone.PLAIN: "",
  Tone.GOOD: "green",
  Tone.WARN: "yellow",
  Tone.BAD: "bold red",
  Tone.FAINT: "dim",
}


def to_rich(document: Document | Block) -> Any:
  """Gives a Document, or one block of it, as a renderable for `rich.console.Console.print`.

  Args:
    document: what to print.

  Returns:
    A rich renderable. A chart is told in words, as in `to_text`.

  Raises:
    MissingExtraError: if rich is not installed.
  """
  text = require("rich.text", "Coloured reports")
  match document:
    case Document():
      blocks = (Heading(document.title), *document.blocks) if document.title else document.blocks
      group = require("rich.console", "Coloured reports").Group
      seen = [block for block in blocks if not is_only_drawn(block)]
      spaced = [part for block in seen for part in (to_rich(block), text.Text())]
      return group(*spaced[:-1])
    case Heading():
      return text.Text(document.text, style="bold cyan")
    case Text():
      return text.Text(document.text, style=_STYLES[document.tone])
    case Table():
      return _table(document, text)
    case Chart():
      return text.Text(to_text(document))
    case Code():
      return _code(document, text)
    case HeatMap():
      return text.Text()


def _table(table: Table, text: Any) -> Any:
  box = require("rich.box", "Coloured reports")
  shown = require("rich.table", "Coloured reports").Table(
    box=box.SIMPLE_HEAD,
    header_style="bold",
    padding=(0, 1, 0, 0),
    show_edge=False,
  )
  rows = table.shown()
  for index, column in enumerate(table.columns):
    is_number = table.is_number(index)
    cells = [row[index] for row in rows]
    shown.add_column(
      text.Text(column.title),
      justify="right" if is_number else "left",
      # Where the terminal is too narrow, rich would leave a whole column out; words may go to a
      # second line, but a number in two lines is another number.
      no_wrap=is_number,
      min_width=max(_narrowest(cell, is_number) for cell in [column.title, *cells]),
    )
  tones = table.tones or (Tone.PLAIN,) * len(table.rows)
  # `Text`, since rich would read "['w'][0]" in a plain string as its own markup.
  for row, tone in zip(rows, tones):
    shown.add_row(*map(text.Text, row), style=_STYLES[tone])
  if not table.caption:
    return shown
  group = require("rich.console", "Coloured reports").Group
  return group(shown, text.Text(), text.Text(table.caption, style=_STYLES[Tone.FAINT]))


def _narrowest(cell: str, is_number: bool) -> int:
  return max(map(len, [cell] if is_number else cell.split()), default=0)


def _code(code: Code, text: Any) -> Any:
  shown = text.Text(no_wrap=True, overflow="ellipsis")
  for line in to_text(code).splitlines(keepends=True):
    shown.append(line, style=_STYLES[code.tone] if line.startswith(">") else "")
  return shown
