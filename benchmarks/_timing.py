"""Timing contestants against each other on a machine that is never quite quiet.

Contestants run in turns, a few steps each, in an order that rotates from round to round; so a slow
spell of the machine falls on all of them alike. Ratios are formed within a round and then the
median over rounds is taken: that is far steadier than the ratio of two medians.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import jax


@dataclasses.dataclass(frozen=True)
class Timing:
  """Seconds per step, one number per round."""

  seconds: tuple[float, ...]

  @property
  def median(self) -> float:
    return statistics.median(self.seconds)

  @property
  def spread(self) -> float:
    """Half the distance between the quartiles, relative to the median."""
    low, _, high = statistics.quantiles(self.seconds, n=4)
    return (high - low) / 2 / self.median

  def fastest_ratio_to(self, other: "Timing") -> float:
    """Compares the fastest rounds: the last resort where other programs take the cores away."""
    return min(self.seconds) / min(other.seconds)

  def ratio_to(self, other: "Timing") -> float:
    return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def race(
  contestants: Mapping[str, Callable[[int], None]], rounds: int, steps: int
) -> dict[str, Timing]:
  """Lets each contestant run `steps` steps per round, in turns.

  Args:
    contestants: name -> a function that runs the given number of steps and waits for the result.
    rounds: how many numbers each contestant gets; one more round warms up.
    steps: steps per round and contestant.
  """
  names = list(contestants)
  seconds: dict[str, list[float]] = {name: [] for name in names}
  for name in names:
    contestants[name](steps)
  for turn in range(rounds):
    shift = turn % len(names)
    for name in names[shift:] + names[:shift]:
      started = time.perf_counter()
      contestants[name](steps)
      seconds[name].append((time.perf_counter() - started) / steps)
  return {name: Timing(tuple(times)) for name, times in seconds.items()}


def print_rows(
  doc: str | None,
  names: Sequence[str],
  columns: Sequence[str],
  measure: Callable[[str, int], list[str]],
) -> None:
  """Is the command line of a benchmark that prints one Markdown table, as its rows are measured.

  Args:
    doc: of the benchmark; its first line is shown by `--help`.
    names: of what can be measured; `--only` takes some of them.
    columns: of the table.
    measure: from a name and the number of rounds to the rows.
  """
  parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
  parser.add_argument("--rounds", type=int, default=15)
  parser.add_argument("--only", nargs="+", choices=names, default=names)
  options = parser.parse_args()
  print(describe_run(), end="\n\n", flush=True)
  print("|", " | ".join(columns), "|")
  print("|" + "---|" * len(columns), flush=True)
  for name in options.only:
    print("\n".join(measure(name, options.rounds)), flush=True)


def describe_run(packages: Sequence[str] = ("jax", "jaxlib", "optax", "numpy")) -> str:
  """Says where and how a benchmark ran, for the head of its table."""
  versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
  accelerator = jax.devices()[0].device_kind if jax.default_backend() != "cpu" else ""
  return "\n".join(
    [
      f"machine: {', '.join(filter(None, [accelerator, _processor()]))}, "
      f"{_available_cores()} cores, {platform.system()}",
      f"versions: Python {platform.python_version()}, {versions}",
      f"command: python {' '.join(sys.argv)}",
    ]
  )


def _available_cores() -> int:
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
  try:
    with open("/proc/cpuinfo") as lines:
      names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
  except OSError:
    names = []
  return names[0] if names else platform.processor() or platform.machine()
