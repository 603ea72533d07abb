"""One neutral Document, many printers.

A report is built once, of headings, paragraphs, tables and charts that know nothing of terminals or
files; each printer turns the same Document into one form. Text, HTML and JSON need the standard
library only; colour needs rich and pictures need matplotlib, which `pip install "kinkopt[cli]"`
brings, and the printers that use them import them when called.
"""

from kinkopt.render._document import (
  Band,
  Block,
  Cell,
  Chart,
  Code,
  Column,
  Document,
  Heading,
  HeatMap,
  Series,
  Table,
  Text,
  Tone,
)
from kinkopt.render._html import to_html, to_html_fragment
from kinkopt.render._json import from_json, to_json
from kinkopt.render._optional import MissingExtraError
from kinkopt.render._plot import save_chart
from kinkopt.render._rich import to_rich
from kinkopt.render._text import to_text

__all__ = [
  "Band", "Block", "Cell", "Chart", "Code", "Column", "Document", "Heading", "HeatMap",
  "MissingExtraError", "Series", "Table", "Text", "Tone", "from_json", "save_chart", "to_html",
  "to_html_fragment", "to_json", "to_rich", "to_text",
]  # fmt: skip
