import json
import math
import sys

import pytest

from kinkopt.cli import _demo, _rates, main
from kinkopt.cli._training import train
from kinkopt.render import Chart, Table, from_json


@pytest.fixture
def demo(few_digits):
  """Runs the demo in this process on a few small images."""

  def run(*words):
    return main(["demo", "--data", str(few_digits), "--steps", "40", *words])

  return run


@pytest.fixture
def checked(monkeypatch):
  """Takes the gradient check, which has its own tests, as passed."""
  monkeypatch.setattr(_demo, "check_network", lambda data, seed, console: True)


with_check_passed = pytest.mark.usefixtures("checked")


def test_a_report_ends_in_a_table_of_every_rule_asked_for(demo, capsys):
  assert demo("--rule", "sgd,newton") == 0
  printed = capsys.readouterr()
  assert printed.err == ""
  headings = [
    "kinkopt demo",
    "Is the gradient right?",
    "How do I step, and is the step the right size?",
    "Newton's method",
    "Results",
  ]
  lines = printed.out.splitlines()
  assert [line for line in lines if line in headings] == headings
  table = lines[lines.index("Results") :]
  assert [line.split()[0] for line in table if line.endswith("done")] == ["sgd", "newton"]
  assert "The gradient was right, and every rule stayed finite." in lines
  assert "\x1b" not in printed.out, "no colours and no bar in a pipe"
  # A long path, such as pytest's, is not broken: it could not be copied.
  assert max(len(line) for line in lines if "mine.npz" not in line) <= 80
  assert printed.out.isascii()


@with_check_passed
def test_quiet_prints_the_table_and_the_closing_sentence_only(demo, capsys):
  assert demo("--rule", "sgd", "--quiet") == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].split()[:3] == ["rule", "loss", "accuracy"]
  assert lines[2].startswith("sgd")
  assert lines[-1] == "The gradient was right, and every rule stayed finite."


@with_check_passed
def test_save_writes_the_report_and_the_curves(demo, tmp_path, capsys):
  folder = tmp_path / "made" / "on the way"
  assert demo("--rule", "sgd,adam,newton", "--save", str(folder)) == 0
  pictures = {"learning-curves.png", "update-ratios.png", "newton.png"}
  assert {file.name for file in folder.iterdir()} == {"report.json", *pictures}
  for name in pictures:
    assert (folder / name).read_bytes().startswith(b"\x89PNG")

  document = from_json((folder / "report.json").read_text(encoding="utf-8"))
  table = [block for block in document.blocks if isinstance(block, Table)][-1]
  assert [row[0] for row in table.rows] == ["sgd", "adam", "newton"]
  assert [row[3] for row in table.rows][:2] == [40, 40]
  charts = [block for block in document.blocks if isinstance(block, Chart)]
  assert [len(chart.series) for chart in charts] == [2, 2, 1]
  # The table's loss is the curve's end: every digit of it is in the file.
  assert [series.y[-1] for series in charts[0].series] == [row[1] for row in table.rows][:2]


@with_check_passed
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(demo, tmp_path):
  def curves(seed, name):
    assert demo("--rule", "sgd", "--quiet", "--seed", seed, "--save", str(tmp_path / name)) == 0
    read = json.loads((tmp_path / name / "report.json").read_text())
    return [block["series"] for block in read["blocks"] if block["kind"] == "chart"]

  first = curves("1", "first")
  assert first == curves("1", "second")
  assert first != curves("2", "third")


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_computed(
  demo, tmp_path, capsys
):
  (tmp_path / "file").write_text("")
  for folder in (tmp_path / "file", tmp_path / "file" / "below"):
    assert demo("--save", str(folder)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"cannot write into the folder `{folder}` (" in printed.err
    assert "Give `--save` a folder that can be made or written to." in printed.err


@with_check_passed
def test_a_disk_that_fails_at_the_end_is_named_after_the_table(demo, tmp_path, monkeypatch, capsys):
  def full(chart, path):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(_demo, "save_chart", full)
  assert demo("--rule", "sgd", "--save", str(tmp_path)) == 2
  printed = capsys.readouterr()
  assert "sgd" in printed.out
  assert "(No space left on device)" in printed.err


@with_check_passed
def test_without_matplotlib_the_report_is_saved_and_the_way_out_is_named(
  demo, tmp_path, monkeypatch, capsys
):
  for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  assert demo("--rule", "sgd", "--save", str(tmp_path / "out")) == 0
  assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.json"]
  told = " ".join(capsys.readouterr().out.split())
  assert "report.json, but no pictures." in told
  assert 'pip install "kinkopt[cli]"' in told


@with_check_passed
def test_a_rule_that_diverges_is_shown_as_it_is_and_the_code_is_1(demo, monkeypatch, capsys):
  monkeypatch.setitem(_rates.LEARNING_RATES, "sgd", 1e30)
  assert demo("--rule", "sgd,adam", "--quiet") == 1
  rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
  assert rows["sgd"][-1] == "diverged"
  assert not math.isfinite(float(rows["sgd"][1]))
  assert rows["adam"][-1] == "done"
  assert " ".join(rows["Sgd"]) == "Sgd diverged at step 1."


def test_a_gradient_that_fails_its_check_makes_the_code_1(demo, monkeypatch, capsys):
  monkeypatch.setattr(_demo, "check_network", lambda data, seed, console: False)
  assert demo("--rule", "sgd") == 1
  assert "The gradient check failed." in capsys.readouterr().out


@with_check_passed
def test_an_interrupt_leaves_the_table_of_what_is_known(demo, monkeypatch, capsys):
  def interrupted(run, *rest):
    if run.rule == "momentum":
      raise KeyboardInterrupt
    train(run, *rest)

  monkeypatch.setattr(_demo, "train", interrupted)
  assert demo("--rule", "sgd,momentum,adam", "--quiet") == 130
  printed = capsys.readouterr().out
  rows = {line.split()[0]: line.split() for line in printed.splitlines() if line}
  assert rows["sgd"][-1] == "done"
  assert rows["momentum"][1:] == ["-"] * 6 + ["stopped"]
  assert "adam" not in rows
  assert printed.endswith("Interrupted, with 1 rule done.\n")


def test_an_interrupt_before_the_first_rule_leaves_a_sentence(demo, monkeypatch, capsys):
  def interrupted(*rest):
    raise KeyboardInterrupt

  monkeypatch.setattr(_demo, "check_network", interrupted)
  assert demo("--quiet") == 130
  assert capsys.readouterr().out == "Interrupted, with 0 rules done.\n"


def test_an_interrupt_while_the_data_is_read_is_no_traceback(demo, monkeypatch, capsys):
  def interrupted(*rest):
    raise KeyboardInterrupt

  monkeypatch.setattr(_demo, "load", interrupted)
  assert demo() == 130
  assert "interrupted before there was anything to show" in capsys.readouterr().err
