"""What a step costs: each rule against Optax's namesake, a hand-written update, and the memory.

A step is bound by memory, so there are two yardsticks that compute next to nothing. The floor reads
the gradient once and reads and writes the parameters and the state once. The flow has the rule's
dependences as well: new state from gradient, new parameters from new state. Where XLA writes one
output per loop, as on the CPU, the new state is written by one loop and read back by another, so a
leaf larger than the caches costs any implementation more than the floor; the flow says how much.

All contestants donate their parameters and state, update the parameters in the same `jit`, and take
turns in one run.

    python benchmarks/rules.py [--quick] [--rule NAME ...] [--leaves NAME] [--json FILE]
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import _steps
import jax
import jax.numpy as jnp
import optax
from _timing import describe_run, race

from kinkopt import rules

RATE, MOMENTUM, DECAY, B1, B2, EPS = 1e-4, 0.9, 0.9, 0.9, 0.999, 1e-8
GOALS = {"optax": 1.05, "floor": 1.25}
# Leaves, the size of each, and steps a round.
SHAPES = {"one leaf of 16M": (1, 2**24, 3), "1,000 leaves of 16k": (1000, 2**14, 5)}

PerLeaf = Callable[..., tuple[jax.Array, ...]]  # (count, p, g, *slots) -> (p, *slots)


@dataclasses.dataclass(frozen=True)
class Row:
  """One rule: ours, Optax's nearest, and the update as one writes it by hand."""

  ours: optax.GradientTransformation
  theirs: optax.GradientTransformation
  slots: int  # state buffers of the parameters' size
  by_hand: PerLeaf
  flow: PerLeaf


def _sgd(_, p, g):
  return (p - RATE * g,)


def _momentum(_, p, g, v):
  v = MOMENTUM * v - RATE * g
  return p + v, v


def _nesterov(_, p, g, v):
  v_prev, v = v, MOMENTUM * v - RATE * g
  return p - MOMENTUM * v_prev + (1 + MOMENTUM) * v, v


def _adagrad(_, p, g, cache):
  cache = cache + g * g
  return p - RATE * g / (jnp.sqrt(cache) + EPS), cache


def _rmsprop(_, p, g, cache):
  cache = DECAY * cache + (1 - DECAY) * g * g
  return p - RATE * g / (jnp.sqrt(cache) + EPS), cache


def _adam(count, p, g, m, v, correct=True):
  m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
  m_hat = m / (1 - B1**count) if correct else m
  v_hat = v / (1 - B2**count) if correct else v
  return p - RATE * m_hat / (jnp.sqrt(v_hat) + EPS), m, v


def _adam_of_the_notes(count, p, g, m, v):
  return _adam(count, p, g, m, v, correct=False)


def _flow_of_sgd(_, p, g):
  return (p - g,)


def _flow_of_momentum(_, p, g, v):
  v = v - g
  return p + v, v


def _flow_with_gradient(_, p, g, v):
  v = v - g
  return p + v * g, v


def _flow_of_adam(_, p, g, m, v):
  m, v = m + g, v - g
  return p + m * v, m, v


def _optax_sgd(**settings: bool) -> optax.GradientTransformation:
  return optax.sgd(RATE, MOMENTUM, **settings)


ROWS = {
  "sgd": Row(rules.sgd(RATE), optax.sgd(RATE), 0, _sgd, _flow_of_sgd),
  "momentum": Row(rules.momentum(RATE), _optax_sgd(), 1, _momentum, _flow_of_momentum),
  "nesterov": Row(
    rules.nesterov(RATE), _optax_sgd(nesterov=True), 1, _nesterov, _flow_with_gradient
  ),
  "nesterov_lookahead": Row(
    rules.nesterov_lookahead(RATE), _optax_sgd(), 1, _momentum, _flow_of_momentum
  ),
  "adagrad": Row(rules.adagrad(RATE), optax.adagrad(RATE), 1, _adagrad, _flow_with_gradient),
  "rmsprop": Row(rules.rmsprop(RATE), optax.rmsprop(RATE), 1, _rmsprop, _flow_with_gradient),
  # Optax's Adam corrects the bias always; the notes' never does.
  "adam": Row(rules.adam(RATE, bias_correction=True), optax.adam(RATE), 2, _adam, _flow_of_adam),
  "adam (notes)": Row(rules.adam(RATE), optax.adam(RATE), 2, _adam_of_the_notes, _flow_of_adam),
}


def _per_leaf_step(per_leaf: PerLeaf) -> _steps.Step:
  def step(params, state, grads):
    count, slots = state
    count = count + 1
    leaves, treedef = jax.tree.flatten(params)
    slot_leaves = [jax.tree.leaves(slot) for slot in slots]
    columns = zip(
      *(per_leaf(count, *leaf) for leaf in zip(leaves, jax.tree.leaves(grads), *slot_leaves))
    )
    params, *slots = (treedef.unflatten(column) for column in columns)
    return params, (count, tuple(slots))

  return step


def _make_leaves(leaves: int, size: int, key: jax.Array) -> list[jax.Array]:
  return [jax.random.normal(key, (size,), jnp.float32) for key in jax.random.split(key, leaves)]


def measure(row: Row, leaves: int, size: int, rounds: int, steps: int) -> dict[str, Any]:
  """Races the five contestants of one row on `leaves` float32 leaves of `size` numbers each."""
  key_params, key_grads = jax.random.split(jax.random.key(0))
  params, grads = _make_leaves(leaves, size, key_params), _make_leaves(leaves, size, key_grads)
  slots = tuple([jnp.zeros_like(p) for p in params] for _ in range(row.slots))
  entries = {
    "kinkopt": (_steps.of_rule(row.ours), row.ours.init(params)),
    "optax": (_steps.of_rule(row.theirs), row.theirs.init(params)),
    "hand": (_per_leaf_step(row.by_hand), (jnp.int32(0), slots)),
    "flow": (_per_leaf_step(row.flow), (jnp.int32(0), slots)),
    "floor": (_steps.floor, slots),
  }
  timings = race(
    {
      name: _steps.compiled(step, params, state, grads)[0]
      for name, (step, state) in entries.items()
    },
    rounds,
    steps,
  )
  # The gradient is read; the parameters and each slot are read and written.
  gigabytes = 4e-9 * leaves * size * (1 + 2 * (1 + row.slots))
  ours = timings["kinkopt"]
  return {
    "milliseconds": {name: 1e3 * timing.median for name, timing in timings.items()},
    "spread": {name: timing.spread for name, timing in timings.items()},
    "ratio": {name: ours.ratio_to(timings[name]) for name in timings if name != "kinkopt"},
    "fastest_ratio": {
      name: ours.fastest_ratio_to(timings[name]) for name in timings if name != "kinkopt"
    },
    "floor_gigabytes_per_second": gigabytes / timings["floor"].median,
  }


def _print_table(title: str, results: dict[str, dict[str, Any]]) -> None:
  print(f"\n{title}")
  print(
    f"{'ms per step':18} {'kinkopt':>7} {'optax':>7} {'by hand':>7} {'flow':>7} {'floor':>7} |"
    f" {'/optax':>6} {'/hand':>6} {'/flow':>6} {'/floor':>6}  | fastest /optax /floor |"
    f" {'spread':>6} {'floor':>9}"
  )
  for name, result in results.items():
    times = " ".join(f"{ms:7.3f}" for ms in result["milliseconds"].values())
    ratios = " ".join(
      f"{ratio:5.2f}{'!' if ratio > GOALS.get(other, float('inf')) else ' '}"
      for other, ratio in result["ratio"].items()
    )
    fastest = "  ".join(f"{result['fastest_ratio'][other]:5.2f}" for other in GOALS)
    spread, speed = max(result["spread"].values()), result["floor_gigabytes_per_second"]
    print(
      f"{name:18} {times} | {ratios}  | {'':8}{fastest}  | {spread:6.1%} {speed:4.1f} GB/s",
      flush=True,
    )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="a sixteenth of the size, 5 rounds")
  parser.add_argument("--rule", choices=ROWS, action="append", help="only this rule; repeatable")
  parser.add_argument("--leaves", choices=SHAPES, action="append", help="only this; repeatable")
  parser.add_argument("--rounds", type=int, help="numbers per contestant (default: 21)")
  parser.add_argument("--json", metavar="FILE", help="write the numbers to FILE, too")
  arguments = parser.parse_args()

  scale, rounds = (16, 5) if arguments.quick else (1, 21)
  rounds = arguments.rounds or rounds
  print(describe_run())
  print(
    f"median of {rounds} rounds; ratios formed within a round; '!' is above the goal "
    f"({GOALS['optax']} of Optax, {GOALS['floor']} of the floor)"
  )
  report = {"run": describe_run().splitlines(), "rounds": rounds, "results": {}}
  for title in arguments.leaves or SHAPES:
    leaves, size, steps = SHAPES[title]
    results = {
      name: measure(ROWS[name], leaves, size // scale, rounds, steps)
      for name in arguments.rule or ROWS
    }
    title += f" (1/{scale} of it)" * arguments.quick
    report["results"][title] = results
    _print_table(title, results)
  if arguments.json:
    with open(arguments.json, "w") as file:
      json.dump(report, file, indent=2)


if __name__ == "__main__":
  main()
