"""Planted bugs: which of them do gradient checkers find, and which right gradients do they reject?

Every bug is planted in several models, in float32 and float64, and beside it stands its correct
twin: the same program with the right rule. Points are drawn anew for each seed; a quarter of them
has dead units, and a quarter winners that tie exactly. Where a bug changes no derivative at a
point, that point does not count.

    python benchmarks/gradcheck_bugs.py [--quick] [--seeds N] [--only BUG] [--checker NAME]
        [--model NAME] [--dtype NAME] [--json PATH] [--markdown PATH]
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _peers  # noqa: F401  (it enters its checkers in the list)
import jax
from _bugs import BUGS
from _cases import Case, cases
from _checkers import CHECKERS, timed
from _models import MODELS
from _scores import Record, markdown, tables
from _timing import describe_run

QUICK_MODELS = ("mlp", "quantile")


def _records(case: Case, seeds: int, names: list[str]) -> Iterator[Record]:
  """Asks each checker about both sides of a case, at each seed's point."""
  for seed in range(seeds):
    params, data = case.at(seed)
    truth = case.truth(params, data)
    for name in names:
      checker = CHECKERS[name]
      for side in ("right", "wrong") if truth.leaves else ("right",):
        outcome = timed(checker, case, side, seed, params, data)
        yield Record(case.bug.name, case.plant.model, case.dtype, name, side, seed, truth, outcome)


def _run(arguments: argparse.Namespace) -> list[Record]:
  bugs = tuple(bug for bug in BUGS if not arguments.only or bug.name in arguments.only)
  found = []
  planned = cases(bugs, arguments.model, arguments.dtype)
  for number, (bug, plant, dtype) in enumerate(planned, 1):
    started, case = time.perf_counter(), Case(bug, plant, dtype)
    # A program in float32 is run as most are, where there is no float64.
    with jax.enable_x64(dtype == "float64"):
      records = list(_records(case, arguments.seeds, arguments.checker))
    found += records
    seconds = time.perf_counter() - started
    print(f"[{number}/{len(planned)}] {case.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    if arguments.verbose:
      for record in records:
        record.explain()
    jax.clear_caches()
  return found


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="one seed, two models, float32")
  parser.add_argument("--seeds", type=int, help="points of each case (default: 20)")
  parser.add_argument("--only", choices=[b.name for b in BUGS], action="append", metavar="BUG")
  parser.add_argument("--checker", choices=CHECKERS, action="append")
  parser.add_argument("--model", choices=MODELS, action="append")
  parser.add_argument("--dtype", choices=("float32", "float64"), action="append")
  parser.add_argument("--json", type=Path, help="write every single answer there")
  parser.add_argument("--markdown", type=Path, help="write the tables there")
  parser.add_argument("--verbose", action="store_true", help="print what was missed or cried")
  arguments = parser.parse_args()
  arguments.seeds = arguments.seeds or (1 if arguments.quick else 20)
  arguments.checker = arguments.checker or list(CHECKERS)
  arguments.model = arguments.model or list(QUICK_MODELS if arguments.quick else MODELS)
  dtypes = ["float32"] if arguments.quick else ["float32", "float64"]
  arguments.dtype = arguments.dtype or dtypes
  return arguments


def _plain(value: Any) -> Any:
  return sorted(value) if isinstance(value, frozenset) else str(value)


def main() -> None:
  arguments = _arguments()
  head, started = describe_run(), time.perf_counter()
  print(head, flush=True)
  records = _run(arguments)
  head += f"\nseeds: {arguments.seeds}; {time.perf_counter() - started:.0f} s in all"
  found = tables(records)
  for table in found:
    print(f"\n{table}")
  if arguments.json:
    answers = [dataclasses.asdict(record) for record in records]
    arguments.json.write_text(json.dumps({"run": head, "answers": answers}, default=_plain))
  if arguments.markdown:
    arguments.markdown.write_text(markdown(head, found))


if __name__ == "__main__":
  main()
