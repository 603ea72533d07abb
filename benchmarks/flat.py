"""What it gains to lay parameters end to end: Adam on a tree, on `kinkopt.flat`, and by PyTorch.

The rule alone, given its gradient, and a deep network, whose gradient is part of the step. Float32,
parameters and state donated. The floor reads the gradient, and reads and writes parameters and
state, each once and flat. `: first` is the time of a step as a multiple of that of the first row.

    python benchmarks/flat.py [--rounds N] [--only NAME ...]

PyTorch, if it is installed, runs its fused Adam on as many tensors.
"""

from collections.abc import Callable
from typing import Any

import _steps
import jax
import jax.numpy as jnp
import optax
from _timing import print_rows, race

from kinkopt import flat, monitor, rules

RATE = 1e-3
RULES = {
  "kinkopt adam": rules.adam(RATE),
  "kinkopt adam, update_ratio": optax.chain(rules.adam(RATE), monitor.update_ratio()),
  "optax.adam": optax.adam(RATE),
  "optax.flatten(optax.adam)": optax.flatten(optax.adam(RATE)),
}
LAYOUTS = {
  "one leaf of 16,777,216": (1, 16_777_216),
  "1,000 leaves of 16,384": (1_000, 16_384),
  "3,000 leaves of 100": (3_000, 100),
  "10,000 leaves of 100": (10_000, 100),
}
NETWORKS = {"network, 100 layers of 64": (100, 64, 32)}
# More take minutes to compile, on a GPU still fewer.
MOST_LEAVES_OF_A_TREE = 1_000 if jax.default_backend() == "cpu" else 300

Found = tuple[Callable[[int], None], float]  # a contestant, and seconds of compiling


def by_torch(count: int, size: int) -> Found | None:
  try:
    import torch
  except ImportError:
    return None
  is_on_gpu = jax.default_backend() == "gpu"
  device = "cuda" if is_on_gpu else "cpu"
  tensors = [torch.full((size,), 1e-2, device=device, requires_grad=True) for _ in range(count)]
  for tensor in tensors:
    tensor.grad = torch.full_like(tensor, 1e-3)
  rule = torch.optim.Adam(tensors, lr=RATE, fused=True)

  def run(steps: int) -> None:
    for _ in range(steps):
      rule.step()
    if is_on_gpu:
      torch.cuda.synchronize()

  return run, 0.0


def of_layout(count: int, size: int) -> dict[str, Found]:
  tree = {f"p{k}": jnp.full((size,), 1e-2) for k in range(count)}
  laid = flat.flatten(tree)
  grads = jax.tree.map(lambda p: 0.1 * p, laid)
  found = {"floor": _steps.compiled(_steps.floor, laid, (laid, laid), grads)}
  for name in ("kinkopt adam", "kinkopt adam, update_ratio", "optax.adam"):
    found[f"flat: {name}"] = _steps.compiled(
      _steps.of_rule(RULES[name]), laid, RULES[name].init(laid), grads
    )
  if count <= MOST_LEAVES_OF_A_TREE:
    for name, tx in RULES.items():
      found[f"tree: {name}"] = _steps.compiled(_steps.of_rule(tx), tree, tx.init(tree), grads.tree)
  if torch := by_torch(count, size):
    found["torch, fused Adam"] = torch
  return found


def of_network(layers: int, width: int, batch: int) -> dict[str, Found]:
  keys = jax.random.split(jax.random.key(0), layers)
  scale = width**-0.5
  tree = [{"w": scale * jax.random.normal(k, (width, width)), "b": jnp.zeros(width)} for k in keys]
  x = jax.random.normal(jax.random.key(1), (batch, width))

  def loss(tree: Any) -> jax.Array:
    y = x
    for layer in tree:
      y = y + 0.1 * jnp.tanh(y @ layer["w"] + layer["b"])
    return jnp.mean(y**2)

  def trained(name: str, params: Any, fun: Callable[[Any], jax.Array]) -> Found:
    take = _steps.of_rule(RULES[name])
    step = lambda params, state: take(params, state, jax.grad(fun)(params))  # noqa: E731
    return _steps.compiled(step, params, RULES[name].init(params))

  laid, laid_loss = flat.flatten(tree), lambda laid: loss(laid.tree)
  names = ("kinkopt adam", "kinkopt adam, update_ratio", "optax.adam")
  return {f"flat: {name}": trained(name, laid, laid_loss) for name in names} | {
    f"tree: {name}": trained(name, tree, loss) for name in names
  }


def measure(name: str, rounds: int) -> list[str]:
  found = of_layout(*LAYOUTS[name]) if name in LAYOUTS else of_network(*NETWORKS[name])
  times = race({label: run for label, (run, _) in found.items()}, rounds, 10)
  first = times[next(iter(times))]
  return [
    f"| {name} | {label} | {timing.median * 1e3:.3g} | {timing.ratio_to(first):.2f} "
    f"| {found[label][1]:.1f} |"
    for label, timing in times.items()
  ]


if __name__ == "__main__":
  columns = ("layout", "rule", "ms a step", ": first", "compiling, s")
  print_rows(__doc__, [*LAYOUTS, *NETWORKS], columns, measure)
