"""Does an accelerator say what the CPU says?

Each row runs the same thing on the CPU and on JAX's default device, and shows the largest relative
difference of any leaf of what comes out. Rules and the monitor are elementwise and sums, Newton's
method solves systems, and the checks are asked about programs whose matrix products the accelerator
rounds as it likes (TF32 and bfloat16), right ones and wrong ones.

    JAX_PLATFORMS=cuda,cpu python benchmarks/accelerator.py
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import describe_run

import kinkopt
from kinkopt import flat, kinks, monitor, newton, rules
from kinkopt.gradcheck import GradientReport

RULES = {
  "sgd": rules.sgd(0.1),
  "momentum": rules.momentum(0.1),
  "nesterov": rules.nesterov(0.1),
  "nesterov_lookahead": rules.nesterov_lookahead(0.1),
  "adagrad": rules.adagrad(0.1),
  "rmsprop": rules.rmsprop(0.1),
  "adam": rules.adam(0.1),
  "adam, bias_correction": rules.adam(0.1, bias_correction=True),
}
METHODS = {
  "newton()": newton.newton(),
  "TrustRegion": newton.newton(globalization=newton.TrustRegion()),
  "SteihaugTrustRegion": newton.newton(globalization=newton.SteihaugTrustRegion()),
}
SHAPES = {"b": (1000,), "w": (300, 200), "x": (7, 11, 13)}


def tree(dtype: Any) -> dict[str, np.ndarray]:
  draw = np.random.default_rng(0)
  return {name: draw.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def steps(tx: optax.GradientTransformation, params: Any) -> Any:
  """Takes ten steps down a bowl, and gives where they end and what is in the state."""

  def step(carry: Any, _: None) -> Any:
    params, state = carry
    updates, state = tx.update(jax.tree.map(jnp.sin, params), state, params)
    return (optax.apply_updates(params, updates), state), None

  return jax.lax.scan(step, (params, tx.init(params)), length=10)[0]


def watched(params: Any) -> Any:
  tx = optax.chain(monitor.leaf_stats(), rules.adam(0.01), monitor.update_ratio())
  return monitor.find_update_ratio(steps(tx, params)[1])


def laid_end_to_end(params: Any) -> Any:
  return steps(rules.adam(0.01), flat.flatten(params))[0].tree


def valley(x: jax.Array) -> jax.Array:
  return jnp.sum(10 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def products(x: jax.Array) -> jax.Array:
  """Is a loss whose curvature is made by matrix products."""
  a = jnp.asarray(np.random.default_rng(1).normal(size=(200, 40)) / 14, x.dtype)
  return jnp.mean(jax.nn.softplus(a @ x)) + 0.05 * jnp.sum((a.T @ (a @ x) - 1) ** 2)


def solved(fun: Callable[[Any], Any], tx: Any, start: jax.Array) -> Any:
  return kinkopt.minimize(fun, start, tx, max_steps=200)


def relative(a: Any, b: Any) -> float:
  def one(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-30)) if b.size else 0.0

  return max(jax.tree.leaves(jax.tree.map(one, a, b)))


def both(fun: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
  """Runs on the default device, and on the CPU."""
  found = []
  for device in (jax.devices()[0], jax.devices("cpu")[0]):
    with jax.default_device(device):
      found.append(jax.device_get(jax.jit(fun)(*jax.device_put(args, device))))
  return found[0], found[1]


def compare() -> None:
  print("\n| what | dtype | difference from the CPU | note |\n|---|---|---|---|")
  for dtype in (np.float32, np.float64):
    name, params = np.dtype(dtype).name, tree(dtype)
    for label, tx in RULES.items():
      ours, theirs = both(lambda p, tx=tx: steps(tx, p), params)
      print(f"| {label} | {name} | {relative(ours, theirs):.0e} | |", flush=True)
    print(f"| monitor, both links | {name} | {relative(*both(watched, params)):.0e} | |")
    ours, _ = both(laid_end_to_end, params)
    in_tree, _ = both(lambda p: steps(rules.adam(0.01), p)[0], params)
    print(f"| flat against the tree, here | {name} | {relative(ours, in_tree):.0e} | |")
    for fun, size in ((valley, 30), (products, 40)):
      for label, tx in METHODS.items():
        start = np.full(size, 0.3, dtype)
        ours, theirs = both(lambda x, fun=fun, tx=tx: solved(fun, tx, x), start)
        note = " and ".join(f"{s.reason.name} in {int(s.steps)}" for s in (ours, theirs))
        error = relative(ours.params, theirs.params)
        print(f"| {label}, {fun.__name__} | {name} | {error:.0e} | {note} |", flush=True)


def convolution(params: Any, x: jax.Array) -> jax.Array:
  y = jax.lax.conv_general_dilated(
    x, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  y = jax.nn.relu(y + params["bias"]).mean((1, 2))
  return jnp.mean((y @ params["out"]).astype(jnp.float32) ** 2)


def attention(params: Any, x: jax.Array) -> jax.Array:
  q, k, v = (x @ params[name] for name in "qkv")
  mixed = jax.nn.dot_product_attention(*(y[None, :, None] for y in (q, k, v)), is_causal=True)
  return jnp.mean(mixed.astype(jnp.float32) ** 2) + jnp.mean(jnp.abs(v).astype(jnp.float32))


def programs(dtype: Any) -> dict[str, tuple[Callable[..., jax.Array], Any, str]]:
  draw = np.random.default_rng(2)

  def normal(*shape: int) -> jax.Array:
    return jnp.asarray(draw.normal(size=shape) / shape[-1] ** 0.5, dtype)

  network = {"kernel": normal(3, 3, 8, 32), "bias": normal(32), "out": normal(32, 10)}
  heads = {name: normal(64, 64) for name in "qkv"}
  return {
    "convolution": (convolution, (network, normal(8, 16, 16, 8)), "kernel"),
    "attention": (attention, (heads, normal(128, 64)), "v"),
  }


def check() -> None:
  print("\n| program | dtype | gradient | says | own precision | seconds |\n" + "|---" * 6 + "|")
  for dtype in (jnp.float32, jnp.bfloat16):
    for label, (fun, args, leaf) in programs(dtype).items():

      def wrong(*args: Any, fun: Any = fun, leaf: str = leaf) -> Any:
        gradient = jax.grad(fun)(*args)
        at = tuple(n // 2 for n in gradient[leaf].shape)
        return gradient | {leaf: gradient[leaf].at[at].multiply(-1)}

      def slip(*args: Any, fun: Any = fun, leaf: str = leaf) -> Any:
        gradient = jax.grad(fun)(*args)
        return gradient | {leaf: gradient[leaf] * 1.01}

      kinds = {
        "JAX's": None,
        "JAX's, as arrays": jax.jit(jax.grad(fun))(*args),
        "one sign": wrong,
        "1 % off": slip,
      }
      for kind, gradient in kinds.items():
        started = time.perf_counter()
        report = kinkopt.check_gradient(fun, *args, gradient=gradient)
        seconds = time.perf_counter() - started
        says = "right" if report.ok else _told(report)
        own = max(leaf.precision_loss for leaf in report.leaves)
        row = (label, np.dtype(dtype).name, kind, says, f"{own:.0e}", f"{seconds:.1f}")
        print("|", " | ".join(row), "|", flush=True)
    for label, (fun, args, _) in programs(dtype).items():
      found = len(kinks.sites(fun, *args))
      print(f"| {label} | {np.dtype(dtype).name} | | {found} winners | | |")


def _told(report: GradientReport) -> str:
  bad = [leaf for leaf in report.leaves if not leaf.verdict.is_pass]
  return "; ".join(f"{leaf.name}: {leaf.verdict.name}, {leaf.detail}" for leaf in bad)


def main() -> None:
  jax.config.update("jax_enable_x64", True)
  print(describe_run())
  compare()
  check()


if __name__ == "__main__":
  main()
