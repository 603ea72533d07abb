"""How near a difference comes to the derivative: plain, frozen, and extrapolated.

All parameters of a ReLU network, written and drawn in float32, are moved along one direction of
+-1. The truth is `jax.jvp` of the same network on the same numbers in float64. The steps are powers
of two. The plain difference has kinks in its way at large steps and rounding at small ones; the
frozen one meets no kink, so its steps can be large, and halving them takes the truncation away
(Richardson: the error has even powers of h only).

Without the truth, step and number of halvings are chosen from the whole tableau: the entry whose
distance to its two parents, plus what rounding disturbs at its smallest step, is least. The sum is
the estimate of the error.

    python benchmarks/kinks_accuracy.py [--quick] [--network NAME ...] [--directions N]
"""

import argparse
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _programs import Program, cast, mlp
from _timing import describe_run

from kinkopt.kinks import freeze

NETWORKS: dict[str, Callable[[], Program]] = {
  "784-100-100-10": mlp,
  "784-10-10-10": lambda: mlp((784, 10, 10, 10)),
  "784-1000-1000-10": lambda: mlp((784, 1000, 1000, 10)),
  "784-2048-2048-10": lambda: mlp((784, 2048, 2048, 10), batch=128),
}
GOALS = {"784-100-100-10": 1e-11, "784-2048-2048-10": 1e-9}
DIRECTIONS = dict(zip(NETWORKS, (7, 7, 3, 3)))
HALVINGS = (1, 3, 6)
STEPS = 2.0 ** -np.arange(3, 25)


@dataclasses.dataclass(frozen=True)
class Probe:
  """What was found along one direction; an array has one number per step."""

  truth: float
  size: float  # of the function's value, for its rounding
  differences: Mapping[str, np.ndarray]


def _probe(program: Program, seed: int) -> Probe:
  """Takes the derivative along a direction, and the centered differences."""
  point, wide = program.params, cast(program.params, jnp.float64)
  data, wide_data = program.data, cast(program.data, jnp.float64)
  draw = np.random.default_rng(seed)
  direction = jax.tree.map(lambda leaf: jnp.asarray(draw.choice([-1.0, 1.0], leaf.shape)), wide)

  def moved(h, direction, wide):
    return jax.tree.map(lambda leaf, d: leaf + h * d, wide, direction)

  @jax.jit
  def truth(wide, direction, data):
    return jax.jvp(lambda y: program.fun(y, *data), (wide,), (direction,))

  @jax.jit
  def plain(h, direction, wide, data):
    return program.fun(cast(moved(h, direction, wide), data[0].dtype), *data)

  @jax.jit
  def frozen(h, direction, wide, point, data):
    return freeze(program.fun, point, *data)(moved(h, direction, wide))

  ways = {
    "float32": lambda h: plain(h, direction, wide, data),
    "float64": lambda h: plain(h, direction, wide, wide_data),
    "frozen": lambda h: frozen(h, direction, wide, point, data),
  }

  def centered(way: Callable[[float], Any], h: float) -> float:
    return (float(way(h)) - float(way(-h))) / (2 * h)

  value, derivative = truth(wide, direction, wide_data)
  return Probe(
    float(derivative),
    abs(float(value)),
    {name: np.array([centered(way, h) for h in STEPS]) for name, way in ways.items()},
  )


def _tableau(differences: np.ndarray) -> list[np.ndarray]:
  """Extrapolates: entry k holds, for each step, what k halvings of it give."""
  rows = [differences]
  for k in range(1, len(differences)):
    rows.append((4**k * rows[-1][1:] - rows[-1][:-1]) / (4**k - 1))
  return rows


@dataclasses.dataclass(frozen=True, order=True)
class Choice:
  """An entry of the tableau; the first has the least estimate of its error."""

  estimate: float
  value: float
  step: float
  halvings: int


def _choose(rows: list[np.ndarray], size: float) -> Choice:
  found = []
  for k in range(1, len(rows)):
    parents = rows[k - 1]
    distance = np.maximum(abs(rows[k] - parents[:-1]), abs(rows[k] - parents[1:]))
    # Two entries that rounding made equal by chance are no nearer than rounding can tell.
    estimate = distance + np.finfo(float).eps * size / STEPS[k:]
    # Far out a softmax overflows, since its shift is the point's.
    estimate = np.where(np.isfinite(estimate), estimate, np.inf)
    place = int(estimate.argmin())
    found.append(Choice(float(estimate[place]), float(rows[k][place]), float(STEPS[place]), k))
  return min(found)


def _print_network(name: str, directions: int) -> None:
  started = time.perf_counter()
  program = NETWORKS[name]()
  count = sum(leaf.size for leaf in jax.tree.leaves(program.params))
  batch = len(program.data[0])
  units = batch * sum(map(int, name.split("-")[1:-1]))
  errors: dict[str, list[np.ndarray]] = {}
  chosen: list[tuple[float, float, Choice]] = []
  for seed in range(directions):
    probe = _probe(program, seed)
    rows = _tableau(probe.differences["frozen"])
    halved = {f"{k} halving{'s' * (k > 1)}": rows[k] for k in HALVINGS}
    for column, values in {**probe.differences, **halved}.items():
      padded = np.append(values, np.full(len(STEPS) - len(values), np.nan))
      errors.setdefault(column, []).append(abs(padded / probe.truth - 1))
    choice = _choose(rows, probe.size)
    error = abs(choice.value / probe.truth - 1)
    chosen.append((error, choice.estimate / abs(probe.truth), choice))

  middle = {column: np.median(each, 0) for column, each in errors.items()}
  print(f"\n{name}, batch {batch}: {count:,} parameters, {units:,} ReLUs, {directions} directions")
  print(f"{'step h':>9}" + "".join(f"{column:>12}" for column in middle))
  for place, h in enumerate(STEPS):
    cells = (each[place] for each in middle.values())
    print(f"{h:9.1e}" + "".join(f"{'' if np.isnan(e) else f'{e:.1e}':>12}" for e in cells))
  # Each direction at its own best step.
  best = {column: [float(np.nanmin(e)) for e in each] for column, each in errors.items()}
  for title, summary in (("best", statistics.median), ("its worst", max)):
    print(f"{title:>9}" + "".join(f"{summary(each):12.1e}" for each in best.values()))
  print("chosen without the truth:")
  for error, estimate, choice in chosen:
    print(
      f"{'':9} error {error:.1e}, estimated {estimate:.1e}, from h = {choice.step:.1e} "
      f"by {choice.halvings} halvings"
    )
  worst, goal = max(error for error, *_ in chosen), GOALS.get(name, math.inf)
  if name in GOALS:
    print(f"goal {goal:.0e}: {'met' if worst <= goal else 'MISSED'} by the worst of them")
  print(f"{time.perf_counter() - started:.0f} s", flush=True)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="the first two networks, 3 directions")
  parser.add_argument("--network", choices=NETWORKS, action="append", help="only this; repeatable")
  parser.add_argument("--directions", type=int, help="how many per network")
  arguments = parser.parse_args()
  jax.config.update("jax_enable_x64", True)

  names = arguments.network or list(NETWORKS)[: 2 if arguments.quick else None]
  print(describe_run())
  print(
    "relative error of the derivative along a direction, the median over directions;\n"
    "the columns of halvings extrapolate the frozen difference from h, h/2, h/4 ..."
  )
  for name in names:
    _print_network(name, arguments.directions or (3 if arguments.quick else DIRECTIONS[name]))


if __name__ == "__main__":
  main()
