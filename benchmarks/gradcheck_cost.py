"""What a check costs, from a thousand parameters to a hundred million.

A network of two square layers, float32, batch 8. Each size runs in a process of its own, so that
its peak memory is its own. A check is run twice: the first time with compilation, the second time
without, since the loss is jitted. `evaluations` are the check's own count, `equivalents` its second
run in units of one evaluation of the loss in float64. The same with one wrong coordinate, which has
to be named.

    python benchmarks/gradcheck_cost.py [--sizes 1e3 1e5 ...]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt.gradcheck import GradientReport, check_gradient

SIZES = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8]
COLUMNS = (
  "parameters", "first_s", "again_s", "evaluations", "equivalents", "peak_GB",
  "wrong_first_s", "wrong_again_s", "wrong_evaluations", "named",
)  # fmt: skip


@jax.jit
def loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
  hidden = jax.nn.relu(x @ params["a"])
  return jnp.mean((hidden @ params["b"] - y) ** 2)


@jax.jit
def wrong(*args: Any) -> Any:
  gradient = jax.grad(loss)(*args)
  size = len(gradient["a"])
  return {**gradient, "a": gradient["a"].at[size // 3, size // 2].multiply(2)}


def _args(parameters: float) -> tuple[Any, ...]:
  d = round((parameters / 2) ** 0.5)
  keys = jax.random.split(jax.random.key(0), 4)
  params = {
    name: jax.random.normal(k, (d, d)) / d**0.5 for name, k in zip("ab", keys, strict=False)
  }
  return params, jax.random.normal(keys[2], (8, d)), jax.random.normal(keys[3], (8, d))


def _twice(check: Callable[[], GradientReport]) -> tuple[GradientReport, float, float]:
  seconds = []
  for _ in range(2):
    start = time.perf_counter()
    report = check()
    seconds.append(time.perf_counter() - start)
  return report, *seconds


def _evaluation(args: tuple[Any, ...]) -> float:
  """Measures one evaluation of the loss in float64, the fastest of five."""
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), args)
    run = jax.jit(lambda *args: loss(*args))
    run(*wide).block_until_ready()
    seconds = []
    for _ in range(5):
      start = time.perf_counter()
      run(*wide).block_until_ready()
      seconds.append(time.perf_counter() - start)
  return min(seconds)


def measure(parameters: float) -> dict[str, Any]:
  args = _args(parameters)
  report, first, again = _twice(lambda: check_gradient(loss, *args))
  assert report.ok, str(report)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
  found, wrong_first, wrong_again = _twice(lambda: check_gradient(loss, *args, gradient=wrong))
  d = len(args[0]["a"])
  named = f"['a'][{d // 3}, {d // 2}]" in found.leaves[0].detail and found.leaves[1].verdict.is_pass
  row = (
    2 * d * d, first, again, report.evaluations, again / _evaluation(args), peak,
    wrong_first, wrong_again, found.evaluations, named,
  )  # fmt: skip
  return dict(zip(COLUMNS, row, strict=True))


def _show(rows: Sequence[dict[str, Any]]) -> None:
  print(" ".join(f"{name:>17}" for name in COLUMNS))
  for row in rows:
    cells = [f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()]
    print(" ".join(f"{cell:>17}" for cell in cells))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--sizes", type=float, nargs="+", default=SIZES)
  parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.one:
    print(json.dumps(measure(options.one)))
    return
  print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
  rows = []
  for size in options.sizes:
    command = [sys.executable, __file__, "--one", str(size)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows.append(json.loads(output))
  _show(rows)


if __name__ == "__main__":
  main()
