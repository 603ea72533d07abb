"""Runs the benchmarks, one after another, and makes a page of what they say, with pictures.

Each benchmark stays a program of its own, which prints its tables; here its words are kept, as
JSON, with the date, the time it took and the most memory that it had. The page is made of all that
is kept, so one subject can be measured anew without the others.

    pip install -e ".[bench]"
    python benchmarks/run.py [SUBJECT ...] [--quick] [--page-only]
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE / "results.md"
DIGITS = re.compile(r"-?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


@dataclasses.dataclass(frozen=True)
class Bars:
  """Which columns of a table are drawn: what the bars are called by, and how long they are."""

  group: tuple[str, ...]
  bar: str
  value: str
  is_log: bool = False


@dataclasses.dataclass(frozen=True)
class Subject:
  """A benchmark: how it is called, in full and quickly, and what of its table is drawn."""

  arguments: Sequence[str] = ()
  quick: Sequence[str] = ()
  bars: Bars | None = None


WORKERS = ("--workers", "2")
SUBJECTS = {
  "gradcheck_bugs": Subject((*WORKERS, "--peer-seeds", "1"), (*WORKERS, "--quick")),
  "gradcheck_cost": Subject(quick=("--sizes", "1e3", "1e5")),
  "gradcheck_bounds": Subject(WORKERS, (*WORKERS, "--members", "10", "--points", "3")),
  "time_to_verdict": Subject(quick=("--rounds", "1", "--models", "tiny", "mlp")),
  "kinks": Subject(quick=("--quick",)),
  "kinks_accuracy": Subject(quick=("--quick",)),
  "rules": Subject(quick=("--quick",)),
  "monitor": Subject(
    quick=("--rounds", "5"), bars=Bars(("what is trained",), "watched by", ": bare")
  ),
  "flat": Subject(
    quick=("--rounds", "5"), bars=Bars(("layout",), "rule", "ms a step", is_log=True)
  ),
  "newton_problems": Subject(WORKERS, WORKERS, Bars((), "solver", "solved of 167")),
  "newton_batches": Subject(
    quick=("--batches", "1", "100", "--rounds", "3"),
    bars=Bars(("B", "d"), "solver", "best peer / it"),
  ),
  "newton_dense": Subject(quick=("--sizes", "1000", "5000"), bars=Bars(("n",), "form", "products")),
  "import_time": Subject(quick=("--rounds", "5")),
}


def measure(name: str, is_quick: bool) -> dict:
  """Runs one benchmark, shows its words as they come, and gives what is kept of it."""
  subject = SUBJECTS[name]
  arguments = [*(subject.quick if is_quick else subject.arguments)]
  # The benchmarks use the tests' problems.
  paths = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
  started, words = time.perf_counter(), []
  with subprocess.Popen(
    [sys.executable, "-u", f"benchmarks/{name}.py", *arguments],
    stdout=subprocess.PIPE, text=True, cwd=HERE.parent, env=os.environ | {"PYTHONPATH": paths},
  ) as process:  # fmt: skip
    for line in process.stdout or ():
      print(line, end="", flush=True)
      words.append(line.rstrip())
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
  return {
    "subject": name,
    "command": " ".join(["python", f"benchmarks/{name}.py", *arguments]),
    "date": datetime.date.today().isoformat(),
    "seconds": round(time.perf_counter() - started, 1),
    "peak MiB": usage.ru_maxrss // 1024,
    "exit code": process.returncode,
    "lines": words,
  }


def tables(lines: Sequence[str]) -> Iterator[list[list[str]]]:
  """Gives the Markdown tables among lines: heads first, cells as they are written."""
  table: list[list[str]] = []
  for line in [*lines, ""]:
    if line.startswith("|"):
      cells = [cell.strip() for cell in line.strip("|").split("|")]
      if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
        table.append(cells)
    elif table:
      yield table
      table = []


def number(cell: str) -> float:
  """Reads the first number of a cell; NaN where there is none."""
  found = DIGITS.search(cell)
  return float(found.group().replace(",", "")) if found else float("nan")


def draw(kept: dict, bars: Bars) -> str | None:
  """Draws the first table that has the columns; gives the picture's name."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  wanted = {*bars.group, bars.bar, bars.value}
  table = next((t for t in tables(kept["lines"]) if wanted <= set(t[0])), None)
  if table is None:
    return None
  rows = [dict(zip(table[0], cells)) for cells in table[1:]]
  labels = [
    ", ".join([*(f"{c} {row[c]}" if len(c) < 3 else row[c] for c in bars.group), row[bars.bar]])
    for row in rows
  ]
  colours = ["tab:blue" if "kinkopt" in s or "newton" in s else "tab:gray" for s in labels]
  figure, ax = pyplot.subplots(figsize=(8, 0.6 + 0.24 * len(rows)), layout="constrained")
  ax.barh(labels[::-1], [number(row[bars.value]) for row in rows][::-1], color=colours[::-1])
  ax.set(xlabel=bars.value.strip(": "), xscale="log" if bars.is_log else "linear")
  ax.spines[["top", "right"]].set_visible(False)
  path = RESULTS / f"{kept['subject']}.png"
  figure.savefig(path, dpi=90)
  pyplot.close(figure)
  return path.name


def section(kept: dict) -> str:
  """Writes what one benchmark says."""
  name = kept["subject"]
  doc = (HERE / f"{name}.py").read_text().split('"""')[1]
  about = " ".join(doc.partition("\n    ")[0].split())
  bars = SUBJECTS[name].bars
  picture = draw(kept, bars) if bars else None
  body = "\n".join(kept["lines"])
  if not any(line.startswith("|") for line in kept["lines"]):
    body = f"```\n{body}\n```"
  else:  # what stands beside the tables keeps its lines
    body = re.sub(r"^(machine|versions|command): (.*)$", r"\1: \2  ", body, flags=re.MULTILINE)
  facts = f"{kept['date']}; {kept['seconds']:,.0f} s, at most {kept['peak MiB']:,} MiB"
  failed = f"\n\n**It failed, with exit code {kept['exit code']}.**" if kept["exit code"] else ""
  shown = f"\n\n![{name}](results/{picture})" if picture else ""
  return f"## {name}\n\n{about}\n\n`{kept['command']}`, {facts}.{failed}\n\n{body}{shown}\n"


def write_page() -> None:
  """Makes the page of all that is kept."""
  kept = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
  order = list(SUBJECTS)
  kept.sort(key=lambda one: order.index(one["subject"]))
  head = (
    "# Benchmarks, as last run\n\nMade by `python benchmarks/run.py`: each section by its own "
    "command, on its own day. Contestants of one table took turns in one run.\n"
  )
  PAGE.write_text("\n".join([head, *map(section, kept)]))


def main() -> int:
  """Measures what is asked for; gives the number of benchmarks that failed."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
  parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
  parser.add_argument("--quick", action="store_true", help="less of each: minutes, not hours")
  parser.add_argument("--page-only", action="store_true", help="of what was measured before")
  options = parser.parse_args()
  unknown = [name for name in options.subjects if name not in SUBJECTS]
  if unknown:
    parser.error(f"there is no subject {unknown[0]!r}; there are {', '.join(SUBJECTS)}")
  RESULTS.mkdir(exist_ok=True)
  failures = 0
  for name in [] if options.page_only else options.subjects or SUBJECTS:
    print(f"\n===== {name} =====", flush=True)
    kept = measure(name, options.quick)
    failures += kept["exit code"] != 0
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
  write_page()
  return failures


if __name__ == "__main__":
  sys.exit(main())
