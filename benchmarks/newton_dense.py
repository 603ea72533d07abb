"""What a dense Hessian costs: its time in products with a vector, and its scratch memory.

The loss is that of a network of one hidden layer with `n` parameters on 32 rows, float32.
`products` is the time of the matrix in units of `n` products with one vector, compiled alone;
`scratch` is what XLA needs beside the matrix itself. `jax.hessian` is the reference where it fits.

    python benchmarks/newton_dense.py [--sizes 1000 5000 ...]
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
from _timing import describe_run, race

from kinkopt.newton import Hessian
from kinkopt.newton._point import Point

LARGEST_FOR_JAX = 5000  # beyond, `jax.hessian` needs more memory than most machines have


def problem(n: int) -> tuple[Any, jax.Array]:
  width = max(1, n // 50)
  X = jax.random.normal(jax.random.key(0), (32, 49))
  y = jax.random.normal(jax.random.key(1), (32,))

  def loss(flat: jax.Array) -> jax.Array:
    hidden = jnp.tanh(X @ flat[: 49 * width].reshape(49, width))
    return jnp.mean((hidden @ flat[49 * width : 50 * width] - y) ** 2) + jnp.sum(flat**2) / n

  return loss, jax.random.normal(jax.random.key(2), (n,)) / 7


def measure(n: int, rounds: int) -> list[str]:
  loss, x = problem(n)

  def product(x: jax.Array, v: jax.Array) -> jax.Array:
    return jax.jvp(jax.grad(loss), (x,), (v,))[1]

  def dense(batch_size: int | None) -> Any:
    curvature = Hessian(batch_size=batch_size)
    return lambda x: curvature.at(Point.of(x, loss, {})).matrix().dense()

  forms = {"batch_size=1": dense(1), "batch_size=16": dense(16), "batch_size=64": dense(64)}
  if n <= LARGEST_FOR_JAX:
    forms["jax.hessian"] = jax.hessian(loss)
  compiled = {name: jax.jit(fun).lower(x).compile() for name, fun in forms.items()}
  alone = jax.jit(product).lower(x, x).compile()
  times = race(
    {
      "product": lambda steps: [jax.block_until_ready(alone(x, x)) for _ in range(100 * steps)],
      **{
        name: lambda steps, fun=fun: [jax.block_until_ready(fun(x)) for _ in range(steps)]
        for name, fun in compiled.items()
      },
    },  # type: ignore
    rounds,
    1,
  )
  rows = []
  for name, fun in compiled.items():
    scratch = fun.memory_analysis().temp_size_in_bytes / 2**20
    products = 100 * times[name].ratio_to(times["product"]) / n
    rows.append(f"| {n:,} | {name} | {times[name].median:.2f} | {products:.2f} | {scratch:.1f} |")
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000, 20_000])
  parser.add_argument("--rounds", type=int, default=3)
  options = parser.parse_args()
  print(describe_run())
  print("\n| n | form | seconds | products | scratch, MiB |\n|---|---|---|---|---|", flush=True)
  for n in options.sizes:
    print("\n".join(measure(n, options.rounds)), flush=True)


if __name__ == "__main__":
  main()
