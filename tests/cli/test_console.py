import io
import re
import sys

import pytest

from kinkopt.cli._console import Console
from kinkopt.render import Document, Heading, Text, Tone


class Terminal(io.StringIO):
  def isatty(self) -> bool:
    return True


@pytest.fixture
def open_terminal(monkeypatch):
  for name in ("NO_COLOR", "FORCE_COLOR"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("TERM", "xterm-256color")
  monkeypatch.setenv("COLUMNS", "80")

  def open_one() -> Terminal:
    # Not in the fixture: pytest puts its own standard output in place between fixture and test.
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream

  return open_one


def _colours(text: str) -> list[str]:
  return re.findall(r"\x1b\[(?:\d+;)*3[0-7]m", text)


def _run(console: Console) -> None:
  console.show(Heading("H"), Text("news", Tone.BAD))
  with console.progress("adam", total=4) as advance:
    advance(4, "loss 0.1")
  console.note("adam done")
  console.note("sgd done")
  console.show(Text("end"))


def test_a_pipe_gets_plain_blocks_an_empty_line_apart_and_notes_together(capsys):
  _run(Console("T", quiet=False))
  assert capsys.readouterr().out == "H\n-\n\nnews\n\nadam done\nsgd done\n\nend\n"


def test_a_terminal_gets_colours_and_a_bar(open_terminal):
  terminal = open_terminal()
  _run(Console("T", quiet=False))
  assert _colours(terminal.getvalue())
  assert "4/4" in terminal.getvalue()


def test_no_color_keeps_the_bar_and_drops_the_colours(open_terminal, monkeypatch):
  terminal = open_terminal()
  monkeypatch.setenv("NO_COLOR", "1")
  _run(Console("T", quiet=False))
  assert not _colours(terminal.getvalue())
  assert "4/4" in terminal.getvalue()


def test_without_rich_a_terminal_gets_what_a_pipe_gets(open_terminal, without_rich):
  terminal = open_terminal()
  _run(Console("T", quiet=False))
  assert terminal.getvalue() == "H\n-\n\nnews\n\nadam done\nsgd done\n\nend\n"


def test_quiet_prints_what_must_be_seen_only_and_keeps_everything(open_terminal):
  terminal = open_terminal()
  console = Console("T", quiet=True)
  _run(console)
  assert terminal.getvalue() == ""
  console.show(Text("must"), always=True)
  assert terminal.getvalue() == "must\n"
  blocks = (Heading("H"), Text("news", Tone.BAD), Text("end"), Text("must"))
  assert console.document == Document("T", blocks)
