"""Which minimisers solve which problems, and with how many Hessians? On the tests' problems.

The 35 problems of Moré, Garbow and Hillstrom from their starts, 10 and 100 times them, and the 27
regressions of NIST from both of theirs, in float64. A case is solved where the last value is within
1e-6 of the lowest that any solver of this run found, relatively, or 1e-11 absolutely; `known` asks
for a minimum of the literature instead, local ones included. Steps, and the runs of the loss, are
counted until the value is as near to the last one, so that no rule for stopping decides; their
medians are over the cases that all the Newton methods bring to a known minimum. A run of the loss
is one at one point, alone, with its gradient or in a Hessian, whatever the number of columns.

    pip install -e ".[test]" scipy optimistix
    python benchmarks/newton_problems.py [--workers N] [--json PATH] [--markdown PATH]
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import describe_run

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from kinkopt import newton
from tests.newton.problems import PROBLEMS, Problem

MAX_STEPS = 5000  # for each solver
PATIENCE = 3  # updates in a row without a step
Values = list[float]  # of the loss, at the start and after each step
Solver = Callable[[Problem, np.ndarray], Values]
RUNS: Values = []  # of the loss, by the solver at work


class Trace(NamedTuple):
  """What a solver did: the values after its steps, and how often it ran the loss for the last."""

  values: Values
  runs: int


@functools.cache
def counted(problem: Problem) -> Problem:
  """Gives the problem with residuals that enter each run of theirs into `RUNS`."""

  def residual(x: jax.Array) -> jax.Array:
    found = problem.residual(x)
    jax.debug.callback(lambda r: RUNS.append(float(np.sum(r**2))), found)
    return found

  return dataclasses.replace(problem, residual=residual)


def traced(solver: Solver, problem: Problem, start: np.ndarray) -> Trace:
  RUNS.clear()
  values = solver(counted(problem), start)
  jax.effects_barrier()
  with np.errstate(over="ignore"):
    runs = next((i for i, value in enumerate(RUNS, 1) if is_near(value, values[-1])), len(RUNS))
  return Trace(values, runs)


def by_optax(tx: optax.GradientTransformationExtraArgs) -> Solver:
  """Runs a chain until it makes no more steps or the gradient is 1e-13; a program a problem."""

  @functools.cache
  def program(problem: Problem) -> Any:
    def run(x: jax.Array) -> Any:
      def advance(at: Any) -> Any:
        x, state, values, count, still = at
        value, grads = jax.value_and_grad(problem.loss)(x)
        updates, state = tx.update(grads, state, x, value=value, grad=grads, value_fn=problem.loss)
        following = optax.apply_updates(x, updates)
        still = jnp.where(jnp.all(following == x), still + 1, 0)
        done = (jnp.max(jnp.abs(grads)) <= 1e-13) | ~jnp.all(jnp.isfinite(following))
        still = jnp.where(done, PATIENCE, still)
        return following, state, values.at[count].set(value), count + 1, still

      def goes_on(at: Any) -> jax.Array:
        return (at[-1] < PATIENCE) & (at[-2] < MAX_STEPS)

      start = (x, tx.init(x), jnp.full(MAX_STEPS + 1, jnp.nan), 0, 0)
      x, _, values, count, _ = jax.lax.while_loop(goes_on, advance, start)
      return values.at[count].set(problem.loss(x)), count

    return jax.jit(run)

  def solve(problem: Problem, start: np.ndarray) -> Values:
    values, count = program(problem)(jnp.asarray(start))
    return np.asarray(values)[: int(count) + 1].tolist()

  return solve


def by_scipy(method: str) -> Solver:
  """Runs a method of SciPy; its values are those where it asks for a Hessian."""

  @functools.cache
  def functions(problem: Problem) -> Any:
    return jax.jit(jax.value_and_grad(problem.loss)), jax.jit(jax.hessian(problem.loss))

  def solve(problem: Problem, start: np.ndarray) -> Values:
    import scipy.optimize

    look, hessian = functions(problem)
    values: Values = []

    def curvature(x: np.ndarray) -> np.ndarray:
      values.append(float(look(x)[0]))
      return np.asarray(hessian(x))

    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      found = scipy.optimize.minimize(
        lambda x: tuple(map(np.asarray, look(x))), start, jac=True, hess=curvature, method=method,
        options={"maxiter": MAX_STEPS, **({"gtol": 1e-8} if "trust" in method else {})},
      )  # fmt: skip
    return [*values, float(found.fun)]

  return solve


def by_optimistix(name: str) -> Solver:
  @functools.cache
  def program(problem: Problem) -> Any:
    import optimistix

    solver = getattr(optimistix, name)(rtol=1e-10, atol=1e-10)

    def run(x: jax.Array) -> Any:
      found = optimistix.minimise(
        lambda x, _: problem.loss(x), solver, x, max_steps=MAX_STEPS, throw=False
      )
      return problem.loss(found.value), found.stats["num_steps"]

    return jax.jit(run)

  def solve(problem: Problem, start: np.ndarray) -> Values:
    value, count = program(problem)(jnp.asarray(start))
    return [np.inf] * int(count) + [float(value)]  # it tells no values on the way

  return solve


def _with(globalization: Any = newton.AdaptiveDamping(), **kwargs: Any) -> Solver:  # noqa: B008
  tx = newton.newton(globalization=globalization, **kwargs)
  return by_optax(tx)


def _searched(search: optax.GradientTransformationExtraArgs) -> Solver:
  chain = optax.chain(newton.scale_by_newton(), optax.scale(-1), search)
  return by_optax(chain)


def gauss_newton(problem: Problem, start: np.ndarray) -> Values:
  return _of_residuals(problem)(problem, start)


@functools.cache
def _of_residuals(problem: Problem) -> Solver:
  return _with(curvature=newton.GaussNewton(problem.residual, lambda r: jnp.sum(r**2)))


# Those that use Hessians come first.
SOLVERS: dict[str, Solver] = {
  "newton()": _with(),
  "newton, TrustRegion": _with(newton.TrustRegion()),
  "newton, CubicRegularization": _with(newton.CubicRegularization()),
  "scale_by_newton, zoom": _searched(
    optax.scale_by_zoom_linesearch(30, initial_guess_strategy="one")
  ),
  "scale_by_newton, backtracking": _searched(optax.scale_by_backtracking_linesearch(40, rtol=1e-6)),
  "scipy trust-exact": by_scipy("trust-exact"),
  "scipy Newton-CG": by_scipy("Newton-CG"),
  "newton, SteihaugTrustRegion": _with(newton.SteihaugTrustRegion()),
  "newton, GaussNewton": gauss_newton,
  "optimistix BFGS": by_optimistix("BFGS"),
  "optimistix LBFGS": by_optimistix("LBFGS"),
  "optax.lbfgs": by_optax(optax.lbfgs()),
}
WITH_HESSIANS = list(SOLVERS)[:7]


def measure(names: list[str]) -> dict[str, dict[str, Trace]]:
  """Gives, for each solver and case of some problems, what it did."""
  jax.config.update("jax_enable_x64", True)
  problems = [problem for problem in PROBLEMS if problem.name in names]
  found: dict[str, dict[str, Trace]] = {name: {} for name in SOLVERS}
  for problem in problems:
    for name, solver in SOLVERS.items():
      for start_name, start in zip(problem.start_names, problem.starts, strict=True):
        case = f"{problem.name}, {start_name}"
        try:
          found[name][case] = traced(solver, problem, start)
        except Exception as error:  # a peer's own failure is its result
          print(f"{name}, {case}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
          found[name][case] = Trace([np.nan], 0)
    jax.clear_caches()
  return found


def is_near(value: float, goal: float) -> bool:
  return bool(value <= goal + 1e-6 * abs(goal) + 1e-11)


def steps_of(values: Values) -> int:
  """Counts steps until the value is as good as the last one."""
  return next(index for index, value in enumerate(values) if is_near(value, values[-1]))


def summary(found: dict[str, dict[str, Trace]]) -> list[dict[str, Any]]:
  minima = {
    f"{problem.name}, {name}": problem.minima
    for problem in PROBLEMS
    for name in problem.start_names
  }
  last = {
    name: {case: trace.values[-1] for case, trace in cases.items()} for name, cases in found.items()
  }
  best = {case: np.nanmin([values[case] for values in last.values()]) for case in minima}
  solved = {n: {c for c in minima if is_near(last[n][c], best[c])} for n in found}
  known = {
    n: {c for c in minima if any(abs(last[n][c] - m) <= 1e-6 * abs(m) + 1e-11 for m in minima[c])}
    for n in found
  }
  common = set.intersection(*(known[name] for name in WITH_HESSIANS))
  rows = []
  for name in found:
    traces = [found[name][case] for case in sorted(common & known[name])]
    steps, runs = [steps_of(trace.values) for trace in traces], [trace.runs for trace in traces]
    rows.append(
      {
        "solver": name,
        "solved": len(solved[name]),
        "known": len(known[name]),
        "cases": len(minima),
        "median": float(np.median(steps)),
        "mean": float(np.mean(steps)),
        "median runs": float(np.median(runs)),
        "mean runs": float(np.mean(runs)),
        "common": len(common),
        "only others": sorted(
          case for case in set().union(*solved.values()) - solved[name]
        ) if name == "newton()" else [],
      }
    )  # fmt: skip
  return rows


def table(rows: list[dict[str, Any]]) -> str:
  first = rows[0]
  lines = [
    f"| solver | solved of {first['cases']} | at a known minimum | median steps | mean "
    "| median runs of the loss | mean |",
    "|---|---|---|---|---|---|---|",
  ]
  for row in rows:
    told = "optimistix" not in row["solver"]
    median, mean = (f"{row['median']:.0f}", f"{row['mean']:.0f}") if told else ("-", "-")
    runs = f"{row['median runs']:.0f} | {row['mean runs']:.0f}"
    lines.append(
      f"| {row['solver']} | {row['solved']} | {row['known']} | {median} | {mean} | {runs} |"
    )
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workers", type=int, default=1)
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--markdown", type=pathlib.Path)
  options = parser.parse_args()
  names = [problem.name for problem in PROBLEMS]
  groups = [names[i :: 4 * options.workers] for i in range(4 * options.workers)]
  context = multiprocessing.get_context("spawn")
  found: dict[str, dict[str, Trace]] = {name: {} for name in SOLVERS}
  with concurrent.futures.ProcessPoolExecutor(options.workers, context) as pool:
    for part in pool.map(measure, groups):
      for name, cases in part.items():
        found[name] |= cases
  rows = summary(found)
  page = f"{describe_run()}\n\n{table(rows)}"
  print(page)
  print("not solved by newton(), but by another:", ", ".join(rows[0]["only others"]) or "none")
  if options.json:
    options.json.write_text(json.dumps(found))
  if options.markdown:
    options.markdown.write_text(page + "\n")


if __name__ == "__main__":
  main()
