"""One Document with every kind of block, and every kind of cell, for all printers."""

import math

import pytest

from kinkopt.render import (
  Band,
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

_TABLE = Table(
  columns=(
    Column("rule"),
    Column("loss", ".3f"),
    Column("share", ".0%"),
    Column("ok"),
    Column("n"),
  ),
  rows=(
    ("sgd", 0.1, 0.5, True, 400),
    ("a rule [with] brackets", 12.3456, None, False, None),
    ("diverged", math.nan, math.inf, None, 7),
  ),
  caption="The caption is a sentence that is long enough to need a second line of its own.",
  tones=(Tone.GOOD, Tone.PLAIN, Tone.BAD),
)
_CHART = Chart(
  title="Losses",
  x_label="step",
  y_label="loss [nats]",
  series=(
    Series("sgd", (0.0, 1.0, 2.0), (2.0, 1.0, 0.5)),
    Series("lost", (0.0, 1.0), (2.0, math.inf)),
    Series("empty", (), ()),
  ),
  log_y=True,
  bands=(Band(1e-4, 1e-2, "healthy"),),
)
_CODE = Code(
  "`[rule]` in model.py", ("def rule(x):", "  return x < 1 and [x]", ""), 9, 10, Tone.BAD
)
_HEAT_MAP = HeatMap("Errors of `['w']`.", ((0.0, 1.0), (1e-4, math.inf)), (3, 2))
_DOCUMENT = Document(
  title="A report",
  blocks=(
    Heading("What was seen"),
    Text("A paragraph that goes on for so long that it has to be broken somewhere.", Tone.WARN),
    _TABLE,
    _CHART,
    _HEAT_MAP,
    _CODE,
  ),
)


@pytest.fixture
def document() -> Document:
  return _DOCUMENT


@pytest.fixture
def chart() -> Chart:
  return _CHART
