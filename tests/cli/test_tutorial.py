"""The tutorial's files and transcripts, as a reader would try them."""

import pathlib
import re
import shutil

import pytest

from kinkopt.cli import main

DOCS = pathlib.Path(__file__).parents[2] / "docs"
WRONG = "return (ct * (s + x * s * (1 - s)),)"
RIGHT = "return (ct * (s + 1.702 * x * s * (1 - s)),)"


def _without_rounding(text: str) -> list[str]:
  return re.sub(r"\b\d\.\de-(0[789]|1\d)\b", "tiny", text).split()


@pytest.mark.parametrize(("code", "is_right"), [(1, False), (0, True)])
def test_the_transcripts_are_what_the_command_prints(code, is_right, folder, capsys):
  shutil.copy(DOCS / "first_check" / "model.py", folder)
  written = (folder / "model.py").read_text()
  assert WRONG in written
  if is_right:
    (folder / "model.py").write_text(written.replace(WRONG, RIGHT))
  assert main(["check", "model.py:loss", "--at", "make_args"]) == code
  tutorial = (DOCS / "tutorial.md").read_text()
  shown = re.findall(r"^```\n(Gradient check of .*?)^```", tutorial, re.DOTALL | re.MULTILINE)
  assert RIGHT in tutorial
  assert _without_rounding(capsys.readouterr().out) == _without_rounding(shown[is_right])
