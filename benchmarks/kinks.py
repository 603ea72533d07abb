"""What freezing costs: the frozen float64 program against the plain program in float64.

The frozen program carries each value twice, at the point and at y, so its floor is two plain
evaluations in one `jit`; at 16 y's it is 17, since the point is evaluated once. Its source is
float32, as a user's is. Point and data are arguments of the compiled programs, so that nothing is
folded away; `jit(frozen)` is as one writes it, with the point among the constants.

Memory is what XLA allocates beside arguments and results. From a float32 source that holds the
float64 casts of the arguments, too, for the plain program as for the frozen.

    python benchmarks/kinks.py [--quick] [--program NAME ...] [--rounds N]
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import _programs
import jax
import jax.numpy as jnp
from _programs import Program, cast
from _timing import Timing, describe_run, race

from kinkopt.kinks import freeze

ONE, LANES, MEMORY, FREEZING = 2.5, 1.5, 2.5, 5.0  # goals: ratios to plain, seconds
COUNT = 16  # y's in a `vmap`
PROGRAMS: dict[str, Callable[[], Program]] = {
  "MLP": _programs.mlp,
  "CNN": _programs.cnn,
  "transformer": _programs.transformer,
  "scan": _programs.loop,
}


class _Contestant:
  """A compiled program with its arguments."""

  def __init__(self, fun: Callable[..., Any], *args: Any) -> None:
    self._run, self._args = jax.jit(fun).lower(*args).compile(), args
    self.megabytes = self._run.memory_analysis().temp_size_in_bytes / 1e6

  def __call__(self, steps: int) -> None:
    for _ in range(steps):
      result = self._run(*self._args)
      jax.block_until_ready(result)


def _contestants(program: Program) -> dict[str, _Contestant]:
  point, data = program.params, program.data
  wide, wide_data = cast(point, jnp.float64), cast(data, jnp.float64)
  # Each y is a little beside the point; how far does not matter to the time.
  shifts = jnp.linspace(-1e-3, 1e-3, COUNT)
  lanes = jax.tree.map(lambda leaf: jax.vmap(lambda shift: leaf * (1 + shift))(shifts), wide)
  moved = jax.tree.map(lambda leaf: leaf[0], lanes)

  def plain(y, data):
    return program.fun(y, *data)

  def plain_from_float32(y, data):
    return plain(cast(y, jnp.float64), cast(data, jnp.float64))

  def frozen(x, y, data):
    return freeze(program.fun, x, *data)(y)

  each, frozen_each = jax.vmap(plain, (0, None)), jax.vmap(frozen, (None, 0, None))
  return {
    "plain": _Contestant(plain, moved, wide_data),
    "plain, float32": _Contestant(plain_from_float32, point, data),
    "2 plain": _Contestant(lambda x, y, d: (plain(x, d), plain(y, d)), wide, moved, wide_data),
    "frozen": _Contestant(frozen, point, moved, data),
    "frozen, float64": _Contestant(frozen, wide, moved, wide_data),
    "jit(frozen)": _Contestant(freeze(program.fun, point, *data), moved),
    "16 plain": _Contestant(each, lanes, wide_data),
    "17 plain": _Contestant(lambda x, y, d: (plain(x, d), each(y, d)), wide, lanes, wide_data),
    "16 frozen": _Contestant(frozen_each, point, lanes, data),
  }


def _print_table(title: str, rows: Mapping[str, Mapping[str, str]]) -> None:
  """Prints rows of equal columns, whose names are the keys of each row."""
  print(f"\n{title}")
  columns = list(next(iter(rows.values())))
  print(" " * 12 + "".join(f"{column:>19}" for column in columns))
  for name, cells in rows.items():
    print(f"{name:12}" + "".join(f"{cells[column]:>18} " for column in columns))


def _mark(ratio: float, goal: float, decimals: int = 2) -> str:
  return f"{'! ' if ratio > goal else ''}{ratio:.{decimals}f}"


def _one(timings: Mapping[str, Timing]) -> dict[str, str]:
  plain, frozen, jitted = timings["plain"], timings["frozen"], timings["jit(frozen)"]
  return {
    "plain, ms": f"{1e3 * plain.median:.2f}",
    "frozen, ms": f"{1e3 * frozen.median:.2f}",
    "frozen/plain": _mark(frozen.ratio_to(plain), ONE),
    "frozen/2 plain": f"{frozen.ratio_to(timings['2 plain']):.2f}",
    "jit(frozen)/plain": f"{jitted.ratio_to(plain):.2f}",
    "spread": f"{frozen.spread:.0%}",
  }


def _many(timings: Mapping[str, Timing]) -> dict[str, str]:
  plain, frozen = timings["plain"], timings["16 frozen"]
  return {
    "plain, ms": f"{1e3 * plain.median:.2f}",
    "frozen, ms per y": f"{1e3 * frozen.median / COUNT:.2f}",
    "per y/plain": _mark(frozen.ratio_to(plain) / COUNT, LANES),
    "frozen/17 plain": f"{frozen.ratio_to(timings['17 plain']):.2f}",
    "frozen/16 plain": f"{frozen.ratio_to(timings['16 plain']):.2f}",
    "spread": f"{frozen.spread:.0%}",
  }


def _memory(contestants: Mapping[str, _Contestant]) -> dict[str, str]:
  size = {name: contestant.megabytes for name, contestant in contestants.items()}
  return {
    "plain, MB": f"{size['plain']:.3f}",
    "frozen/plain": _mark(size["frozen, float64"] / size["plain"], MEMORY),
    "float32: plain": f"{size['plain, float32']:.3f}",
    "frozen/plain ": _mark(size["frozen"] / size["plain, float32"], MEMORY),
    "16 plain, MB": f"{size['16 plain']:.3f}",
    "16 fr./16 plain": _mark(size["16 frozen"] / size["16 plain"], MEMORY),
  }


def _freezing(program: Program) -> dict[str, str]:
  arguments, moved = (program.params, *program.data), cast(program.params, jnp.float64)
  clock = [time.perf_counter()]
  # A function of its own, so that `freeze` finds no trace in JAX's cache.
  jax.make_jaxpr(lambda *args: program.fun(*args))(*arguments)
  clock.append(time.perf_counter())
  frozen = freeze(program.fun, *arguments)
  clock.append(time.perf_counter())
  lowered = jax.jit(frozen).lower(moved)
  clock.append(time.perf_counter())
  lowered.compile()
  clock.append(time.perf_counter())
  trace, froze, lower, compiled = (b - a for a, b in itertools.pairwise(clock))
  return {
    "make_jaxpr alone": f"{trace:.2f}",
    "freeze": _mark(froze, FREEZING),
    "jit().lower": f"{lower:.2f}",
    "their sum": _mark(froze + lower, FREEZING),
    "jit().compile": f"{compiled:.2f}",
  }


def _describe(names: Sequence[str]) -> None:
  print("sizes (float32 parameters):")
  for name in names:
    program = PROGRAMS[name]()
    count = sum(leaf.size for leaf in jax.tree.leaves(program.params))
    print(
      f"  {name:12} {PROGRAMS[name].__doc__} {count:,} parameters; data {program.data[0].shape}."
    )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="3 rounds, MLP and scan only")
  parser.add_argument("--program", choices=PROGRAMS, action="append", help="only this; repeatable")
  parser.add_argument("--rounds", type=int, help="numbers per contestant (default: 11)")
  arguments = parser.parse_args()
  jax.config.update("jax_enable_x64", True)

  names = arguments.program or (["MLP", "scan"] if arguments.quick else list(PROGRAMS))
  rounds = arguments.rounds or (3 if arguments.quick else 11)
  print(describe_run())
  _describe(names)
  print(
    f"median of {rounds} rounds; ratios formed within a round; '!' is above the goal ({ONE} plain "
    f"for one y, {LANES}\nper y at {COUNT}, {MEMORY} of its memory, {FREEZING} s to freeze)",
    flush=True,
  )
  contestants = {name: _contestants(PROGRAMS[name]()) for name in names}
  timings = {name: race(each, rounds, steps=3) for name, each in contestants.items()}
  _print_table("One y", {name: _one(timings[name]) for name in names})
  _print_table(f"{COUNT} y's by vmap", {name: _many(timings[name]) for name in names})
  _print_table("Temporary memory", {name: _memory(contestants[name]) for name in names})
  frozen = {"2 layers": _programs.transformer(2)}
  if not arguments.quick:
    # All the point's products are constants to XLA, which evaluates them at leisure if it may.
    wide = _programs.mlp((784, 1000, 1000, 10))
    frozen = {"12 layers": _programs.transformer(12), "1.8M MLP": wide}
  _print_table("Freezing, seconds", {name: _freezing(each) for name, each in frozen.items()})


if __name__ == "__main__":
  main()
