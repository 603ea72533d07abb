"""The page of the benchmarks is made of what they print."""

import ast
import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location("run_benchmarks", ROOT / "benchmarks" / "run.py")
run = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(run)

LINES = [
  *("machine: a small one", "", "| form | ms a step | : bare |", "|---|---|---|"),
  *("| bare | 1,012.5 | 1.000 |", "| by hand | 3e2 | - |", "", "and words"),
]


def test_tables_are_found_among_words():
  (table,) = run.tables(LINES)
  assert table == [
    ["form", "ms a step", ": bare"],
    ["bare", "1,012.5", "1.000"],
    ["by hand", "3e2", "-"],
  ]
  assert list(run.tables(["words"])) == []


@pytest.mark.parametrize(
  ("cell", "value"), [("1,012.5", 1012.5), ("3e-2 s", 0.03), ("-4 %", -4.0), ("150", 150.0)]
)
def test_numbers_are_read_from_cells(cell, value):
  assert run.number(cell) == value


def test_a_cell_without_a_number_is_nan():
  assert run.number("-") != run.number("-")


def test_every_subject_is_a_benchmark_and_every_benchmark_a_subject():
  scripts = {path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")} - {"run", "accelerator"}
  assert set(run.SUBJECTS) == scripts


def test_a_section_has_the_facts_the_table_and_the_picture(tmp_path, monkeypatch):
  monkeypatch.setattr(run, "RESULTS", tmp_path)
  monkeypatch.setitem(run.SUBJECTS, "monitor", run.Subject(bars=run.Bars((), "form", ": bare")))
  kept = {
    "subject": "monitor", "command": "python it", "date": "2026-01-02", "seconds": 61.2,
    "peak MiB": 2048, "exit code": 0, "lines": LINES,
  }  # fmt: skip
  written = run.section(kept)
  assert written.startswith("## monitor\n\nWhat it costs to watch the step")
  assert "`python it`, 2026-01-02; 61 s, at most 2,048 MiB." in written
  assert "| by hand | 3e2 | - |" in written
  assert "![monitor](results/monitor.png)" in written
  assert (tmp_path / "monitor.png").read_bytes().startswith(b"\x89PNG")
  assert "It failed, with exit code 3" in run.section(kept | {"exit code": 3})
  assert "```\nplain words\n```" in run.section(kept | {"lines": ["plain words"]})


def test_what_the_benchmarks_import_of_kinkopt_is_there():
  trees = [ast.parse(path.read_text()) for path in (ROOT / "benchmarks").glob("*.py")]
  for node in (node for tree in trees for node in ast.walk(tree)):
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kinkopt."):
      module = importlib.import_module(node.module)
      assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
