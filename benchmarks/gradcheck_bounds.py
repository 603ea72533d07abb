"""Does the bound of a numerical derivative hold, and does it say anything? On the tests' corpus.

Each member of the corpus is differenced at several points, along a direction of one leaf each, by
the ladder that `residuals` climbs. The truth is JAX's derivative of the frozen function itself, in
float64, so that the difference's own error is what is measured, and nothing else.

    python benchmarks/gradcheck_bounds.py [--points N] [--members N] [--workers N] [--json PATH]
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _timing import describe_run

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from kinkopt.gradcheck._differences import extrapolate, rounding_of
from kinkopt.gradcheck._directions import direction, fold, leaf_seeds, seed_of
from kinkopt.gradcheck._point import Layout, Point, named, weights_of
from kinkopt.gradcheck._residuals import steps_of, unit_of
from kinkopt.trace._policy import Policy
from kinkopt.trace._program import write_program
from tests.kinks import corpus
from tests.kinks.exceptions import EXCEPTIONS


def _program(member: corpus.Member) -> Any:
  argnums = (member.argnums,) if isinstance(member.argnums, int) else member.argnums

  def run(args: tuple[Any, ...], key: jax.Array, turn: jax.Array) -> jax.Array:
    program = write_program("gradcheck_bounds", member.fun, args, argnums)
    layout, seed = Layout.of(args, argnums), seed_of(key)
    with jax.enable_x64(True):
      point = Point(program, program, layout, weights_of(seed, program.result), Policy())
      leaves, number = point.leaves, turn % len(layout.sizes)
      seeds = leaf_seeds(fold(seed, 0), named(args, argnums))
      way = [
        jnp.where(number == n, direction(seeds[place], leaf.shape, leaf.dtype), 0)
        for n, (place, leaf) in enumerate(zip(layout.places, leaves))
      ]
      units = jnp.stack(list(map(unit_of, leaves)))
      ladders = jnp.asarray(np.stack(list(map(steps_of, layout.sizes))))
      steps = units[number] * ladders[number]

      def evaluate(step: jax.Array) -> tuple[jax.Array, jax.Array]:
        return point.frozen([leaf + step * v for leaf, v in zip(leaves, way)])[:2]

      values, size = jax.lax.map(evaluate, jnp.concatenate([steps, -steps]))
      (right, left), size = values.reshape(2, -1), size.reshape(2, -1).max(0)
      found = extrapolate(right, left, steps, rounding_of(size))
      truth = jax.jvp(lambda leaves: point.frozen(leaves)[0], (leaves,), (way,))[1]
      return jnp.stack([found.value, found.error, truth, jnp.max(jnp.abs(right))])

  return run


# Simplified, the float32 constants of a program (the twiddle factors of a cosine transform) can
# differ in their last bit between the differences and the derivative, which then is not the truth.
_AS_WRITTEN: dict[str, str | bool] = {"xla_disable_hlo_passes": "algsimp"}


def _measure(member: corpus.Member, points: int) -> list[list[float]]:
  with member.mode():
    drawn = [member.arguments(jax.random.key(seed)) for seed in range(points)]
    turns = [jnp.int32(i) for i in range(points)]
    keys = [jax.random.key(100 + i) for i in range(points)]
    traced = jax.jit(_program(member)).trace(drawn[0], keys[0], turns[0])
  with jax.enable_x64(True):  # JAX lowers some special functions of float64 only there
    compiled = traced.lower().compile(_AS_WRITTEN)
  return [np.asarray(compiled(*row)).tolist() for row in zip(drawn, keys, turns)]


def measure(names: Sequence[str], points: int) -> dict[str, list[list[float]] | str]:
  """Gives for each member and point: the estimate, its bound, the truth, the size of the values.

  Of a member that JAX cannot differentiate so, the reason.
  """
  members = {member.name: member for member in corpus.members()}
  found = {}
  for name in names:
    try:
      found[name] = _measure(members[name], points)
    except (TypeError, ValueError, NotImplementedError) as error:  # no derivative to compare with
      found[name] = f"{type(error).__name__}: {error}"[:200]
    jax.clear_caches()
  return found


def summary(everything: dict[str, list[list[float]] | str]) -> dict[str, Any]:
  found = {name: rows for name, rows in everything.items() if not isinstance(rows, str)}
  estimate, bound, truth, _ = np.array([row for rows in found.values() for row in rows]).T
  error = np.abs(estimate - truth)
  is_known = np.isfinite(bound) & np.isfinite(truth)
  holds = error <= bound
  size = np.where(truth == 0, 1, np.abs(truth))
  ratio = (bound / np.maximum(error, 1e-300))[is_known & (error > 0)]
  misses = {
    name: sum(abs(e - t) > b for e, b, t, _ in rows if np.isfinite([b, t]).all())
    for name, rows in found.items()
  }
  return {
    "members": len(found),
    "checks": len(error),
    "known": int(is_known.sum()),
    "holds": int((holds & is_known).sum()),
    "holds_share": float((holds & is_known).sum() / is_known.sum()),
    "median_bound_over_error": float(np.median(ratio)),
    "median_relative_bound": float(np.median((bound / size)[is_known])),
    "misses": {name: count for name, count in misses.items() if count},
    "left out": {name: rows for name, rows in everything.items() if isinstance(rows, str)},
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--points", type=int, default=11)
  parser.add_argument("--members", type=int, help="every so many of the members, evenly chosen")
  parser.add_argument("--workers", type=int, default=1)
  parser.add_argument("--json", type=pathlib.Path)
  options = parser.parse_args()
  # Those where JAX's derivative, which is the truth here, is not that of what is evaluated.
  names = [member.name for member in corpus.members() if member.name not in EXCEPTIONS]
  if options.members:
    names = names[:: max(1, len(names) // options.members)]
  groups = [names[i :: 4 * options.workers] for i in range(4 * options.workers)]
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(options.workers, context) as pool:
    parts = pool.map(measure, groups, [options.points] * len(groups))
    found = {name: rows for part in parts for name, rows in part.items()}
  print(describe_run())
  print(json.dumps(summary(found), indent=2))
  if options.json:
    options.json.write_text(json.dumps(found))


if __name__ == "__main__":
  main()
