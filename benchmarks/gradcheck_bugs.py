"""Planted bugs: which of them do gradient checkers find, and which right gradients do they reject?

Every bug is planted in several models, in float32 and float64, and beside it stands its correct
twin: the same program with the right rule. Points are drawn anew for each seed; a quarter of them
has dead units, and a quarter winners that tie exactly. Where a bug changes no derivative at a
point, that point does not count.

    python benchmarks/gradcheck_bugs.py [--quick] [--seeds N] [--only BUG] [--checker NAME]
        [--model NAME] [--dtype NAME] [--peer-seeds N] [--workers N] [--json PATH]
        [--markdown PATH]
"""

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
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


def _planned(arguments: argparse.Namespace) -> list[tuple[Any, Any, str]]:
  bugs = tuple(bug for bug in BUGS if not arguments.only or bug.name in arguments.only)
  return cases(bugs, arguments.model, arguments.dtype)


def _records(case: Case, arguments: argparse.Namespace) -> Iterator[Record]:
  """Asks each checker about both sides of a case, at each seed's point."""
  for seed in range(arguments.seeds):
    asked = [c for c in arguments.checker if c == "kinkopt" or seed < arguments.peer_seeds]
    if not asked:
      return
    params, data = case.at(seed)
    truth = case.truth(params, data)
    for name in asked:
      for side in ("right", "wrong") if truth.leaves else ("right",):
        outcome = timed(CHECKERS[name], case, side, seed, params, data)
        yield Record(case.bug.name, case.plant.model, case.dtype, name, side, seed, truth, outcome)


def _ask(number: int, arguments: argparse.Namespace) -> list[Record]:
  """Asks about one case, by its number among those that are planned."""
  bug, plant, dtype = _planned(arguments)[number]
  # A program in float32 is run as most are, where there is no float64.
  with jax.enable_x64(dtype == "float64"):
    found = list(_records(Case(bug, plant, dtype), arguments))
  jax.clear_caches()
  return found


def _run(arguments: argparse.Namespace) -> list[Record]:
  started, planned, found = time.perf_counter(), _planned(arguments), []
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(arguments.workers, context) as pool:
    answers = pool.map(_ask, range(len(planned)), [arguments] * len(planned))
    for number, ((bug, plant, dtype), records) in enumerate(zip(planned, answers), 1):
      found += records
      name = Case(bug, plant, dtype).name
      seconds = time.perf_counter() - started
      print(f"[{number}/{len(planned)}] {name}: {seconds:.0f} s", file=sys.stderr, flush=True)
      if arguments.verbose:
        for record in records:
          record.explain()
  return found


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="one seed, two models, float32")
  parser.add_argument("--seeds", type=int, help="points of each case (default: 20)")
  parser.add_argument("--peer-seeds", type=int, default=3, help="of these, for peers (default: 3)")
  parser.add_argument("--workers", type=int, default=1, help="processes, one case each at a time")
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
  seconds = time.perf_counter() - started
  head += f"\nseeds: {arguments.seeds}, of peers {arguments.peer_seeds}; {seconds:.0f} s in all"
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
