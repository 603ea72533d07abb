"""The printer for browsers: a page that needs nothing but itself, or a fragment for a notebook.

Style, script and pictures are inside, so a page can be mailed or kept as it is. What colours say, a
mark and a word say too. Every text is escaped: a leaf may be named `<script>`.
"""

import html
import re

from kinkopt.render._document import (
  Block,
  Cell,
  Chart,
  Code,
  Document,
  Heading,
  HeatMap,
  Table,
  Text,
  Tone,
)
from kinkopt.render._heat_map import to_heat_map
from kinkopt.render._html_style import PAGE_STYLE, SCRIPT, STYLE
from kinkopt.render._svg import to_figure

_MARKS = {Tone.GOOD: "✓", Tone.WARN: "!", Tone.BAD: "✗"}
# Good before bad, where rows are sorted by their marks.
_RANKS = {tone: rank for rank, tone in enumerate(_MARKS)}
_NUMBER = ' class="kinkopt-number"'


def to_html(document: Document) -> str:
  """Writes a Document as one HTML page that loads nothing from elsewhere.

  Args:
    document: what to write.

  Returns:
    The page, to be written to a file in UTF-8. It is light or dark as the reader's system is, and a
    click on the head of a column sorts its table.

  Example:
    >>> from kinkopt.render import Document, Text, to_html
    >>> page = to_html(Document("Report", (Text("All is well."),)))
    >>> print(page.splitlines()[0])
    <!doctype html>
    >>> "<p>All is well.</p>" in page
    True
  """
  return "\n".join(
    [
      "<!doctype html>",
      '<html lang="en">',
      "<head>",
      '<meta charset="utf-8">',
      '<meta name="viewport" content="width=device-width, initial-scale=1">',
      f"<title>{html.escape(document.title or 'kinkopt')}</title>",
      f"<style>\n{STYLE}{PAGE_STYLE}</style>",
      "</head>",
      "<body>",
      '<main class="kinkopt-report">',
      *_parts(document, level=1),
      "</main>",
      f"<script>\n{SCRIPT}</script>",
      "</body>",
      "</html>\n",
    ]
  )


def to_html_fragment(document: Document | Block) -> str:
  """Writes a Document, or one block of it, as a piece of HTML for a notebook or another page.

  Args:
    document: what to write.

  Returns:
    One `<div>` with its own style and script. Neither touches what is around it. Its headings are
    `<h3>` and `<h4>`, below those that a notebook has itself.
  """
  return "\n".join(
    [
      '<div class="kinkopt-report">',
      f"<style>\n{STYLE}</style>",
      *_parts(document, level=3),
      f"<script>\n{SCRIPT}</script>",
      "</div>",
    ]
  )


def _parts(document: Document | Block, level: int) -> list[str]:
  match document:
    case Document():
      title = [f"<h{level}>{_prose(document.title)}</h{level}>"] if document.title else []
      return [*title, *(part for block in document.blocks for part in _parts(block, level + 1))]
    case Heading():
      return [f"<h{level}>{_prose(document.text)}</h{level}>"]
    case Text():
      mark = _mark(document.tone)
      return [f"<p{_tone(document.tone)}>{mark}{' ' * bool(mark)}{_prose(document.text)}</p>"]
    case Table():
      return [_table(document)]
    case Chart():
      return [to_figure(document, _prose(document.title))]
    case Code():
      return [_code(document)]
    case HeatMap():
      return [to_heat_map(document, _prose(document.title))]


def _prose(text: str) -> str:
  return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _tone(tone: Tone) -> str:
  return "" if tone is Tone.PLAIN else f' data-tone="{tone.value}"'


def _mark(tone: Tone) -> str:
  if tone not in _MARKS:
    return ""
  word = tone.value
  return (
    f'<span class="kinkopt-mark" role="img" aria-label="{word}" title="{word}">'
    f"{_MARKS[tone]}</span>"
  )


def _table(table: Table) -> str:
  has_marks = any(tone in _MARKS for tone in table.tones)
  tones = table.tones or (Tone.PLAIN,) * len(table.rows)
  rows = [
    f"<tr{_tone(tone)}>{_mark_cell(tone) if has_marks else ''}{_cells(table, row, shown)}</tr>"
    for tone, row, shown in zip(tones, table.rows, table.shown())
  ]
  caption = f"\n<figcaption>{_prose(table.caption)}</figcaption>" if table.caption else ""
  return "\n".join(
    [
      "<figure>",
      # What scrolls must be within the keyboard's reach, and say what it is.
      '<div class="kinkopt-scroll" tabindex="0" role="region" '
      f'aria-label="{html.escape(table.caption or "Table")}">',
      '<table class="kinkopt-rows">',
      f"<thead><tr>{_heads(table, has_marks)}</tr></thead>",
      "<tbody>",
      *rows,
      "</tbody>",
      "</table>",
      f"</div>{caption}",
      "</figure>",
    ]
  )


def _heads(table: Table, has_marks: bool) -> str:
  unseen = '<span class="kinkopt-unseen">good or bad</span>'
  marks = f'<th scope="col" aria-sort="none"{_NUMBER}>{unseen}</th>' if has_marks else ""
  return marks + "".join(
    f'<th scope="col" aria-sort="none"{_NUMBER if table.is_number(index) else ""}>'
    f"{html.escape(column.title)}</th>"
    for index, column in enumerate(table.columns)
  )


def _mark_cell(tone: Tone) -> str:
  rank = f' data-value="{_RANKS[tone]}"' if tone in _RANKS else ""
  return f"<td{rank}>{_mark(tone)}</td>"


def _cells(table: Table, row: tuple[Cell, ...], shown: list[str]) -> str:
  cells = []
  for index, (cell, text) in enumerate(zip(row, shown)):
    is_number = table.is_number(index)
    value = f' data-value="{_javascript(cell)}"' if is_number and cell is not None else ""
    # The first column names its row, unless it is a number.
    tag = "td" if index or is_number else "th"
    scope = "" if tag == "td" else ' scope="row"'
    kind = _NUMBER if is_number else ""
    cells.append(f"<{tag}{scope}{kind}{value}>{html.escape(text)}</{tag}>")
  return "".join(cells)


def _javascript(number: Cell) -> str:
  return str(number).replace("inf", "Infinity")  # JavaScript's `Number` reads "inf" as NaN


def _code(code: Code) -> str:
  title = f'<figcaption class="kinkopt-title">{_prose(code.title)}</figcaption>\n'
  lines = [
    f'<span class="kinkopt-line"{" data-marked" * is_marked}>'
    f'<span class="kinkopt-number">{number}</span> {html.escape(line)}</span>'
    for number, line, is_marked in code.numbered()
  ]
  return (
    f"<figure{_tone(code.tone)}>\n{title * bool(code.title)}"
    '<pre class="kinkopt-code kinkopt-scroll" tabindex="0" role="region" '
    f'aria-label="{html.escape(code.title or "Code")}">{"".join(lines)}</pre>\n</figure>'
  )
