"""What it costs to watch the step: training with and without `kinkopt.monitor`, in one run.

A network on random digits, and an optimizer alone on 1,000 leaves of 16,384 numbers; Adam, float32,
parameters and state donated. `by hand` is the notes' ratio as most write it, a dict of a float for
each leaf out of the step. `: bare` is the time of a step as a multiple of that of the bare one.

    python benchmarks/monitor.py [--rounds N] [--only NAME ...]
"""

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from _timing import print_rows, race

from kinkopt import monitor

Params = Any
Chain = Callable[[bool], optax.GradientTransformation]
CHAINS: dict[str, Chain] = {
  "bare": lambda measure: optax.adam(1e-3),
  "update_ratio": lambda measure: optax.chain(optax.adam(1e-3), monitor.update_ratio(measure)),
  "both links": lambda measure: optax.chain(
    monitor.leaf_stats(measure), optax.adam(1e-3), monitor.update_ratio(measure)
  ),
  "both links, record": lambda measure: monitor.record(
    CHAINS["both links"](measure), 100, measure=measure
  ),
}


def network(width: int, batch: int) -> tuple[Params, Callable[[Params], Params]]:
  key = jax.random.key(0)
  sizes = [784, width, width, width, 10]
  params = [
    {"b": jnp.zeros(b), "w": jax.random.normal(jax.random.fold_in(key, a + b), (a, b)) / a**0.5}
    for a, b in itertools.pairwise(sizes)
  ]
  x = jax.random.normal(key, (batch, 784))
  labels = jax.random.randint(key, (batch,), 0, 10)

  def loss(params: Params) -> jax.Array:
    y = x
    for layer in params[:-1]:
      y = jax.nn.relu(y @ layer["w"] + layer["b"])
    logits = y @ params[-1]["w"] + params[-1]["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  return params, jax.grad(loss)


def leaves(count: int, size: int) -> tuple[Params, Callable[[Params], Params]]:
  params = {f"p{k}": jnp.full((size // 128, 128), 1e-2 * (k + 1)) for k in range(count)}
  return params, lambda params: jax.tree.map(lambda p: 0.1 * p, params)


CASES = {
  "network, width 512, batch 256": lambda: network(512, 256),
  "network, width 1024, batch 128": lambda: network(1024, 128),
  "1,000 leaves of 16,384": lambda: leaves(1000, 16384),
  "one leaf of 16,777,216": lambda: leaves(1, 16_777_216),
}
if jax.default_backend() != "cpu":  # there steps are shorter, and 1,000 leaves take long to compile
  del CASES["1,000 leaves of 16,384"]
  CASES["network, width 4096, batch 4096"] = lambda: network(4096, 4096)


def make_step(chain: Chain, gradient: Any, by_hand: bool, measure: bool) -> Any:
  tx = chain(measure)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params: Params, state: Any, grads: Params) -> Any:
    grads = gradient(params) if grads is None else grads
    updates, state = tx.update(grads, state, params)
    ratios = None
    if by_hand:
      norm = lambda x: jnp.sqrt(jnp.sum(x**2))  # noqa: E731
      ratios = jax.tree.map(lambda u, p: norm(u) / norm(p), updates, params)
    return optax.apply_updates(params, updates), state, ratios

  return step


def contestant(step: Any, chain: Chain, params: Params, grads: Params) -> Callable[[int], None]:
  at = [jax.tree.map(jnp.copy, params), chain(True).init(params)]

  def run(steps: int) -> None:
    for _ in range(steps):
      at[0], at[1], _ = step(at[0], at[1], grads)
    jax.block_until_ready(at)

  return run


def measure(name: str, rounds: int) -> list[str]:
  params, gradient = CASES[name]()
  # The optimizer alone is given its gradients; the network makes them in the step.
  grads = None if name.startswith("network") else gradient(params)
  steps, compiling, scratch = {}, {}, {}
  for label, chain in [*CHAINS.items(), ("by hand", CHAINS["bare"])]:
    step = make_step(chain, gradient, label == "by hand", measure=True)
    started = time.perf_counter()
    compiled = step.lower(params, chain(True).init(params), grads).compile()
    compiling[label] = time.perf_counter() - started
    scratch[label] = compiled.memory_analysis().temp_size_in_bytes / 2**20
    steps[label] = contestant(compiled, chain, params, grads)
  tenth = monitor.every(
    10, lambda measure: make_step(CHAINS["update_ratio"], gradient, False, measure)
  )
  steps["update_ratio, every 10th"] = contestant(tenth, CHAINS["update_ratio"], params, grads)
  times = race(steps, rounds, 10)
  bare = times["bare"]
  return [
    f"| {name} | {label} | {timing.median * 1e3:.3g} | {timing.ratio_to(bare):.3f} "
    + (f"| {compiling[label]:.1f} | {scratch[label]:.1f} |" if label in scratch else "| - | - |")
    for label, timing in times.items()
  ]


if __name__ == "__main__":
  columns = ("what is trained", "watched by", "ms a step", ": bare", "compiling, s", "scratch, MiB")
  print_rows(__doc__, list(CASES), columns, measure)
