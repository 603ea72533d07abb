"""The terminal printer: the same blocks as `to_text`, with colour and boxes, through rich.

It hands back a renderable and leaves the printing to the caller's console, which knows the width of
the terminal and whether it has colours.
"""

from typing import Any

from kinkopt.render._document import Block, Chart, Document, Heading, Table, Text, Tone
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
      spaced = [part for block in blocks for part in (to_rich(block), text.Text())]
      return group(*spaced[:-1])
    case Heading():
      return text.Text(document.text, style="bold cyan")
    case Text():
      return text.Text(document.text, style=_STYLES[document.tone])
    case Table():
      return _table(document, text)
    case Chart():
      return text.Text(to_text(document))


def _table(table: Table, text: Any) -> Any:
  box = require("rich.box", "Coloured reports")
  shown = require("rich.table", "Coloured reports").Table(
    box=box.SIMPLE_HEAD,
    header_style="bold",
    caption=text.Text(table.caption) if table.caption else None,
    caption_style="dim",
    caption_justify="left",
    pad_edge=False,
  )
  for index, column in enumerate(table.columns):
    is_number = table.is_number(index)
    shown.add_column(
      text.Text(column.title),
      justify="right" if is_number else "left",
      # A number cut in two lines is another number.
      no_wrap=is_number or index == 0,
    )
  tones = table.tones or (Tone.PLAIN,) * len(table.rows)
  # `Text`, since rich would read "['w'][0]" in a plain string as its own markup.
  for row, tone in zip(table.shown(), tones):
    shown.add_row(*map(text.Text, row), style=_STYLES[tone])
  return shown
