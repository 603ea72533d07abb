import io

import pytest
import rich.console

from kinkopt.render import Code, Heading, MissingExtraError, Text, Tone, to_rich

GOLDEN = """\
A report

What was seen

A paragraph that goes on for so long that it has
to be broken somewhere.

rule                      loss  share  ok     n
────────────────────────────────────────────────
sgd                      0.100    50%  yes  400
a rule [with] brackets  12.346      -  no     -
diverged                   nan   inf%  -      7

The caption is a sentence that is long enough to
need a second line of its own.

Losses (loss [nats] against step)
  sgd    2 -> 0.5, 3 points
  lost   2 -> inf, 2 points
  empty  -

`[rule]` in model.py
   9 | def rule(x):
> 10 |   return x < 1 and [x]
  11 |
"""


def _print(renderable, width=50, **settings) -> str:
  file = io.StringIO()
  rich.console.Console(file=file, width=width, **settings).print(renderable)
  return file.getvalue()


def test_a_document_prints_through_rich_at_a_fixed_width_and_without_colour(document):
  lines = [line.rstrip() for line in _print(to_rich(document)).splitlines()]
  assert lines == GOLDEN.splitlines()


def test_a_narrow_terminal_loses_no_column_and_breaks_no_number(document):
  table = document.blocks[2]
  words = _print(to_rich(table), width=34).split()
  for cell in ["rule", "loss", "share", "ok", "n", "12.346", "inf%", "brackets", "400", "yes"]:
    assert cell in words


def test_brackets_are_text_and_no_markup(document):
  assert "a rule [with] brackets" in _print(to_rich(document))
  assert "['w'][0]" in _print(to_rich(Text("['w'][0]")))


def test_a_long_line_of_code_is_cut_off_and_the_one_that_is_meant_has_its_tone():
  code = Code("", ("x = " + "1 + " * 50, "y"), 1, 2, Tone.BAD)
  assert max(map(len, _print(to_rich(code), width=30).splitlines())) == 30
  colours = {"force_terminal": True, "color_system": "standard", "_environ": {}}
  assert "\x1b[1;31m> 2 | y" in _print(to_rich(code), **colours)


def test_a_tone_is_a_colour_where_there_are_colours():
  colours = {"force_terminal": True, "color_system": "standard", "_environ": {}}
  assert "\x1b[1;31m" in _print(to_rich(Text("bad", Tone.BAD)), **colours)
  assert "\x1b[32m" in _print(to_rich(Text("good", Tone.GOOD)), **colours)
  assert "\x1b" not in _print(to_rich(Text("plain")), **colours)


def test_no_colour_is_honoured():
  printed = _print(to_rich(Text("bad", Tone.BAD)), force_terminal=True, _environ={"NO_COLOR": "1"})
  assert "31m" not in printed


def test_without_rich_the_way_out_is_named(without_rich):
  message = r'Coloured reports need the package `rich`.*pip install "kinkopt\[cli\]"'
  with pytest.raises(MissingExtraError, match=message):
    to_rich(Heading("x"))
