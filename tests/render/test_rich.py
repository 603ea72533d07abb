import io
import sys

import pytest
import rich.console

from kinkopt.render import Heading, MissingExtraError, Text, Tone, to_rich

GOLDEN = """\
A report

What was seen

A paragraph that goes on for so long that it has
to be broken somewhere.

                                               
rule                      loss share  ok     n 
 ───────────────────────────────────────────── 
sgd                      0.100   50%  yes  400 
"""


def _print(renderable, **settings) -> str:
  file = io.StringIO()
  rich.console.Console(file=file, width=50, **settings).print(renderable)
  return file.getvalue()


def test_a_document_prints_through_rich_at_a_fixed_width_and_without_colour(document):
  lines = [line.rstrip() for line in _print(to_rich(document)).splitlines()]
  assert lines == GOLDEN.splitlines()


def test_brackets_are_text_and_no_markup(document):
  assert "a rule [with] brackets" in _print(to_rich(document))
  assert "['w'][0]" in _print(to_rich(Text("['w'][0]")))


def test_a_tone_is_a_colour_where_there_are_colours():
  colours = {"force_terminal": True, "color_system": "standard", "_environ": {}}
  assert "\x1b[1;31m" in _print(to_rich(Text("bad", Tone.BAD)), **colours)
  assert "\x1b[32m" in _print(to_rich(Text("good", Tone.GOOD)), **colours)
  assert "\x1b" not in _print(to_rich(Text("plain")), **colours)


def test_no_colour_is_honoured():
  printed = _print(
    to_rich(Text("bad", Tone.BAD)), force_terminal=True, _environ={"NO_COLOR": "1"}
  )
  assert "31m" not in printed


def test_without_rich_the_way_out_is_named(monkeypatch):
  for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setitem(sys.modules, "rich", None)
  message = r'Coloured reports need the package `rich`.*pip install "kinkopt\[cli\]"'
  with pytest.raises(MissingExtraError, match=message):
    to_rich(Heading("x"))
