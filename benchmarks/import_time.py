"""What importing every wing of kinkopt adds to `import jax, optax`, in fresh processes.

The programs take turns.

The difference of the two medians includes what Python's garbage collector does meanwhile: after JAX
has made its many objects, one full collection costs some 50 ms, whoever triggers it. The time of
the import statement alone, with the collector off, is printed beside it.

    python benchmarks/import_time.py [--rounds N] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys

from _timing import describe_run

GOAL = 100.0  # milliseconds

WHOLE = (
  "import time; started = time.perf_counter(); {imports}; print(time.perf_counter() - started)"
)
WINGS = "from kinkopt import gradcheck, monitor, newton, rules, schedules"
PROGRAMS = {
  "import jax, optax": WHOLE.format(imports="import jax, optax"),
  "import jax, optax, kinkopt.*": WHOLE.format(imports=f"import jax, optax; {WINGS}"),
  "import kinkopt.* alone, afterwards, no collector": (
    "import gc, time, jax, optax; gc.disable(); started = time.perf_counter();"
    f"{WINGS}; print(time.perf_counter() - started)"
  ),
}


def _milliseconds(program: str) -> float:
  result = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
  )
  return 1e3 * float(result.stdout)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=15, help="processes per program (default: 15)")
  parser.add_argument("--json", metavar="FILE", help="write the numbers to FILE, too")
  arguments = parser.parse_args()

  times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
  for program in PROGRAMS.values():
    _milliseconds(program)  # the first import compiles and reads from a cold disk
  for turn in range(arguments.rounds):
    # Turn and turn about, so that neither always runs in the other's wake.
    for name in list(PROGRAMS)[:: 1 if turn % 2 else -1]:
      times[name].append(_milliseconds(PROGRAMS[name]))

  medians = {name: statistics.median(values) for name, values in times.items()}
  without, with_kinkopt, _ = medians.values()
  print(describe_run())
  print(f"median of {arguments.rounds} fresh processes each\n")
  for name, values in times.items():
    low, _, high = statistics.quantiles(values, n=4)
    print(f"{name:48} {medians[name]:7.1f} ms   (quartiles {low:.0f} to {high:.0f})")
  difference = with_kinkopt - without
  verdict = "under" if difference < GOAL else "ABOVE"
  print(f"{'kinkopt adds':48} {difference:7.1f} ms   ({verdict} the goal of {GOAL:.0f} ms)")
  if arguments.json:
    with open(arguments.json, "w") as file:
      json.dump({"run": describe_run().splitlines(), "milliseconds": times}, file, indent=2)


if __name__ == "__main__":
  main()
