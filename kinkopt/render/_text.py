"""The plain printer: aligned text for pipes, files and test logs.

It adds nothing that a pipe could not carry: no colour, no box, and no character beyond those it was
given. Paragraphs are broken at `width`; a table is as wide as its cells, for a broken row can no
longer be read by `grep` or `awk`.
"""

import textwrap

from kinkopt.render._document import (
  Block,
  Chart,
  Code,
  Document,
  Heading,
  HeatMap,
  Table,
  Text,
  is_only_drawn,
)


def to_text(document: Document | Block, width: int = 80) -> str:
  """Prints a Document, or one block of it, as plain text.

  Args:
    document: what to print.
    width: the longest line of a paragraph, in characters.

  Returns:
    The text, without a newline at its end. A chart is told in a line for each curve; a heat
    map is left out.

  Example:
    >>> from kinkopt.render import Column, Table, to_text
    >>> columns = (Column("rule"), Column("loss", ".2f"))
    >>> print(to_text(Table(columns, (("sgd", 0.125), ("adam", 12.5)))))
    rule   loss
    -----------
    sgd    0.12
    adam  12.50
  """
  match document:
    case Document():
      title = [f"{document.title}\n{'=' * len(document.title)}"] if document.title else []
      seen = (block for block in document.blocks if not is_only_drawn(block))
      parts = [*title, *(to_text(block, width) for block in seen)]
      return "\n\n".join(part for part in parts if part)
    case Heading():
      return f"{document.text}\n{'-' * len(document.text)}"
    case Text():
      return _fill(document.text, width)
    case Table():
      return _table(document, width)
    case Chart():
      return _chart(document, width)
    case Code():
      return _code(document)
    case HeatMap():
      return ""


def _fill(text: str, width: int) -> str:
  return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _table(table: Table, width: int) -> str:
  rows = [[column.title for column in table.columns], *table.shown()]
  widths = [max(map(len, cells)) for cells in zip(*rows)]
  is_number = [table.is_number(index) for index in range(len(widths))]
  lines = [
    "  ".join(
      cell.rjust(width) if right else cell.ljust(width)
      for cell, width, right in zip(row, widths, is_number)
    ).rstrip()
    for row in rows
  ]
  lines.insert(1, "-" * max(map(len, lines)))
  return "\n".join(lines) + (f"\n\n{_fill(table.caption, width)}" if table.caption else "")


def _chart(chart: Chart, width: int) -> str:
  title = f"{chart.title} ({chart.y_label} against {chart.x_label})"
  label_width = max((len(series.label) for series in chart.series), default=0)
  return "\n".join(
    [
      _fill(title, width),
      *(
        f"  {series.label:<{label_width}}  "
        + (f"{series.y[0]:.3g} -> {series.y[-1]:.3g}, {len(series.y)} points" if series.y else "-")
        for series in chart.series
      ),
    ]
  )


def _code(code: Code) -> str:
  digits = len(str(code.first + len(code.lines)))
  lines = [
    f"{'>' if is_marked else ' '} {number:>{digits}} | {line}".rstrip()
    for number, line, is_marked in code.numbered()
  ]
  return "\n".join([*filter(None, [code.title]), *lines])
