"""What importing every wing of kinkopt adds to `import jax, optax`, in fresh processes.

The programs take turns.

The difference of the two medians includes what Python's garbage collector does meanwhile: after JAX
has made its many objects, one full collection costs some 50 ms, whoever triggers it. The time of
the import statement alone, with the collector off, is printed beside it. Importing waits for no
one, so its processor time is its duration on a quiet machine and the steadier number on a busy one.

    python benchmarks/import_time.py [--rounds N] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys

from _timing import describe_run

GOAL = 100.0  # milliseconds

CLOCKS = "import time; start = time.perf_counter(), time.process_time();"
READ = "print(time.perf_counter() - start[0], time.process_time() - start[1])"
WINGS = "from kinkopt import gradcheck, monitor, newton, rules, schedules"
PROGRAMS = {
  "import jax, optax": f"{CLOCKS} import jax, optax; {READ}",
  "import jax, optax, kinkopt.*": f"{CLOCKS} import jax, optax; {WINGS}; {READ}",
  "import kinkopt.* alone, afterwards, no collector": (
    f"import gc, jax, optax; gc.disable(); {CLOCKS} {WINGS}; {READ}"
  ),
}


def _milliseconds(program: str) -> tuple[float, float]:
  """Runs a program in a fresh process; returns its (elapsed, processor) time."""
  result = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
  )
  elapsed, processor = map(float, result.stdout.split())
  return 1e3 * elapsed, 1e3 * processor


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=15, help="processes per program (default: 15)")
  parser.add_argument("--json", metavar="FILE", help="write the numbers to FILE, too")
  arguments = parser.parse_args()

  times: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
  for program in PROGRAMS.values():
    _milliseconds(program)  # the first import compiles and reads from a cold disk
  for turn in range(arguments.rounds):
    # Turn and turn about, so that neither always runs in the other's wake.
    for name in list(PROGRAMS)[:: 1 if turn % 2 else -1]:
      times[name].append(_milliseconds(PROGRAMS[name]))

  print(describe_run())
  print(f"median of {arguments.rounds} fresh processes each\n")
  print(f"{'':48} {'elapsed':>10} {'processor':>12}")
  medians = {
    name: [statistics.median(column) for column in zip(*rows)] for name, rows in times.items()
  }
  for name, (elapsed, processor) in medians.items():
    print(f"{name:48} {elapsed:7.1f} ms {processor:9.1f} ms")
  without, with_kinkopt, _ = medians.values()
  elapsed, processor = (b - a for a, b in zip(without, with_kinkopt))
  verdict = "under" if max(elapsed, processor) < GOAL else "ABOVE"
  print(f"{'kinkopt adds':48} {elapsed:7.1f} ms {processor:9.1f} ms   ({verdict} {GOAL:.0f} ms)")
  if arguments.json:
    with open(arguments.json, "w") as file:
      json.dump({"run": describe_run().splitlines(), "milliseconds": times}, file, indent=2)


if __name__ == "__main__":
  main()
