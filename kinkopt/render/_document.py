"""The neutral Document: what a report says, with no word on how it looks.

A Document is a title and a row of blocks. Numbers stay numbers: a table's cell holds the value, its
column the format, so that text shows 0.0123 and JSON keeps every digit. A tone says whether news is
good or bad; a printer without colours may drop it, so the words must say it too.
"""

import dataclasses
import enum

Cell = str | int | float | bool | None


class Tone(enum.Enum):
  """How the reader should take it; printers with colours choose one for each."""

  PLAIN = "plain"
  GOOD = "good"
  WARN = "warn"
  BAD = "bad"
  FAINT = "faint"


@dataclasses.dataclass(frozen=True)
class Heading:
  """The title of what follows, up to the next heading."""

  text: str


@dataclasses.dataclass(frozen=True)
class Text:
  """A paragraph; printers break its lines where they like."""

  text: str
  tone: Tone = Tone.PLAIN


@dataclasses.dataclass(frozen=True)
class Column:
  """The head of a table's column.

  Attributes:
    title: shown above the column; a unit goes here, in brackets.
    format: a format specification such as ".3g" or ".1%", for the cells that are numbers.
  """

  title: str
  format: str = ""

  def show(self, cell: Cell) -> str:
    """Writes a cell as text; None is a dash, and text stays as it is."""
    if cell is None:
      return "-"
    if isinstance(cell, bool):
      return "yes" if cell else "no"
    return cell if isinstance(cell, str) else format(cell, self.format)


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of cells under named columns.

  Attributes:
    columns: the heads, from left to right.
    rows: as many cells each as there are columns.
    caption: shown under the table.
    tones: one for each row, or none at all.

  Raises:
    ValueError: if a row has another length than `columns`, or `tones` another than `rows`.
  """

  columns: tuple[Column, ...]
  rows: tuple[tuple[Cell, ...], ...]
  caption: str = ""
  tones: tuple[Tone, ...] = ()

  def __post_init__(self) -> None:
    for index, row in enumerate(self.rows):
      if len(row) != len(self.columns):
        raise ValueError(
          f"`{type(self).__name__}` row {index} has {len(row)} cells, but there are "
          f"{len(self.columns)} columns. Write None for a cell that is empty."
        )
    if self.tones and len(self.tones) != len(self.rows):
      raise ValueError(
        f"`{type(self).__name__}` has {len(self.tones)} tones for {len(self.rows)} rows. Give one "
        "tone for each row, or none."
      )

  def shown(self) -> list[list[str]]:
    """Writes every cell as text, by its column's format."""
    return [[column.show(cell) for column, cell in zip(self.columns, row)] for row in self.rows]

  def is_number(self, index: int) -> bool:
    """Says whether the column holds numbers, which line up on the right."""
    cells = [row[index] for row in self.rows if row[index] is not None]
    return bool(cells) and all(
      isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells
    )


@dataclasses.dataclass(frozen=True)
class Series:
  """One curve: `y` against `x`, of equal length."""

  label: str
  x: tuple[float, ...]
  y: tuple[float, ...]

  def __post_init__(self) -> None:
    if len(self.x) != len(self.y):
      raise ValueError(
        f"`{type(self).__name__}` `{self.label}` has {len(self.x)} x and {len(self.y)} y. A curve "
        "needs one y for each x."
      )


@dataclasses.dataclass(frozen=True)
class Band:
  """A range of y to shade, such as the healthy one."""

  low: float
  high: float
  label: str


@dataclasses.dataclass(frozen=True)
class Chart:
  """Curves over common axes.

  Attributes:
    title: what the picture shows.
    x_label: the name of x, with its unit.
    y_label: the name of y, with its unit.
    series: the curves.
    log_x: whether x is drawn on a logarithmic axis.
    log_y: whether y is.
    bands: ranges of y to shade.
    is_only_drawn: whether printers without pictures leave it out.
  """

  title: str
  x_label: str
  y_label: str
  series: tuple[Series, ...]
  log_x: bool = False
  log_y: bool = False
  bands: tuple[Band, ...] = ()
  is_only_drawn: bool = False


@dataclasses.dataclass(frozen=True)
class Code:
  """Lines of a file, as they stand there.

  Attributes:
    title: what is to be seen in them, and where they are.
    lines: without their ends.
    first: the number of the first of them in its file.
    marked: the number of the line that is meant; None where all are.
    tone: how to take it.
  """

  title: str
  lines: tuple[str, ...]
  first: int = 1
  marked: int | None = None
  tone: Tone = Tone.PLAIN

  def numbered(self) -> list[tuple[int, str, bool]]:
    """Gives each line with its number in the file, and whether it is the one that is meant."""
    numbers = range(self.first, self.first + len(self.lines))
    return [(n, line, n == self.marked) for n, line in zip(numbers, self.lines)]


@dataclasses.dataclass(frozen=True)
class HeatMap:
  """Relative errors as colours, from 1e-6 and below, which is blank, to 1.

  Printers without pictures leave it out.

  Attributes:
    title: what the cells are.
    rows: the errors, of equal length each.
    cell: how many things one cell stands for, down and to the right.
  """

  title: str
  rows: tuple[tuple[float, ...], ...]
  cell: tuple[int, int] = (1, 1)


def is_only_drawn(block: object) -> bool:
  """Says whether printers without pictures leave a block out."""
  return isinstance(block, HeatMap) or (isinstance(block, Chart) and block.is_only_drawn)


Block = Heading | Text | Table | Chart | Code | HeatMap


@dataclasses.dataclass(frozen=True)
class Document:
  """A title and what is under it, in order."""

  title: str
  blocks: tuple[Block, ...] = ()
