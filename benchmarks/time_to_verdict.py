"""How long until the checker has said something: the first check, the second, and fifty of them.

Each row runs in a process of its own, contestants in turns, so that no program is compiled already.

    python benchmarks/time_to_verdict.py                     # this build beside the peers
    python benchmarks/time_to_verdict.py --against bacfbb2   # and beside another build, from git

Columns, in seconds: `first` check, `second` check of the same loss (not jitted), `wrong`: the first
check of a loss with a wrong rule, its blame included. The floor is the compilation of
`jax.jit(jax.value_and_grad(loss))`. At the end the geometric means of the ratios.
"""

import argparse
import functools
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent
FLOOR, OURS, OTHER, CHECK_GRADS, CHEX = "floor", "kinkopt", "other", "check_grads", "chex"
FIFTY = "fifty"


def _loss(model: str, is_wrong: bool) -> tuple[Callable[..., Any], Any, tuple[Any, ...]]:
  import _verdict_models as models

  return models.MODELS[model](models.wrong if is_wrong else models.right)


def _checker(contestant: str) -> Callable[..., Any]:
  import jax

  if contestant == FLOOR:
    return lambda loss, params, *batch: (
      jax.jit(jax.value_and_grad(loss)).lower(params, *batch).compile()
    )
  if contestant == CHECK_GRADS:
    from jax.test_util import check_grads

    def first_order(loss: Callable[..., Any], params: Any, *batch: Any) -> None:
      check_grads(lambda p: loss(p, *batch), (params,), order=1, modes=["rev"], atol=1.0, rtol=1.0)

    return first_order
  if contestant == CHEX:
    import chex
    import jax.flatten_util

    def numerical(loss: Callable[..., Any], params: Any, *batch: Any) -> None:
      how = {"modes": ["rev"], "atol": 1.0, "rtol": 1.0}
      flat, tree = jax.flatten_util.ravel_pytree(params)  # it takes arrays alone
      chex.assert_numerical_grads(lambda p: loss(tree(p), *batch), (flat,), 1, **how)

    return numerical
  import kinkopt

  return kinkopt.check_gradient


def _fifty(check: Callable[..., Any]) -> None:
  """Checks fifty small losses, as a file of tests does: ten kinds at five shapes."""
  import jax
  import jax.numpy as jnp

  kinds = [
    lambda w: jnp.sum(jnp.tanh(w) ** 2),
    lambda w: jnp.sum(jax.nn.relu(w)),
    lambda w: jax.nn.logsumexp(w),
    lambda w: jnp.mean(jnp.abs(w) ** 3),
    lambda w: -jnp.sum(jax.nn.log_softmax(w)[..., 0]),
    lambda w: jnp.sum(jax.nn.gelu(w)),
    lambda w: jnp.sum(jnp.sort(w, axis=-1)[..., -1]),
    lambda w: jnp.linalg.norm(w - 3.0),
    lambda w: jnp.sum(w @ w.T),
    lambda w: jnp.sum(jnp.where(w > 0, w, jnp.exp(w) - 1)),
  ]
  for kind in kinds:
    for n in range(2, 7):
      check(kind, jnp.linspace(-1.5, 1.6, 3 * n).reshape(3, n))


def _measure(contestant: str, model: str) -> dict[str, float]:
  import jax

  jax.block_until_ready(jax.numpy.zeros(()))  # the backend starts
  check, result = _checker(contestant), {}
  if model == FIFTY:
    start = time.perf_counter()
    _fifty(check)
    return {FIFTY: time.perf_counter() - start}
  for column, is_wrong in (("first", False), ("second", False), ("wrong", True)):
    if column == "wrong":
      if contestant not in (OURS, OTHER):
        continue
      jax.clear_caches()
    if column != "second":
      loss, params, batch = _loss(model, is_wrong)
      jax.block_until_ready((params, batch))
    start = time.perf_counter()
    found = check(loss, params, *batch)
    result[column] = time.perf_counter() - start
    if contestant in (OURS, OTHER) and found.ok is is_wrong:
      raise AssertionError(f"{contestant} says of {model}, wrong={is_wrong}:\n{found}")
  return result


def _run(contestant: str, model: str, path: str | None) -> dict[str, float]:
  import _verdict_models as models

  environment = {**os.environ, "JAX_ENABLE_X64": str(int(model in models.NEEDS_X64))}
  if path:
    environment["PYTHONPATH"] = path
  command = [sys.executable, __file__, "--row", contestant, model]
  # Not in the checkout, whose kinkopt would come first.
  done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
  if done.returncode:
    raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
  return json.loads(done.stdout.splitlines()[-1])


def _build(revision: str, folder: str) -> str:
  """Takes a build of kinkopt out of git, and gives the path to import it from."""
  archive = subprocess.run(
    ["git", "-C", str(ROOT), "archive", revision, "kinkopt"], check=True, capture_output=True
  )
  subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
  return folder


def _mean(ratios: list[float]) -> float:
  return math.exp(statistics.fmean(map(math.log, ratios)))


def _main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("--against", metavar="REVISION", help="another build, from git")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--models", nargs="*")
  parser.add_argument("--only", nargs="*", help="of the contestants")
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.row:
    print(json.dumps(_measure(*options.row)))
    return
  import _verdict_models as models

  with tempfile.TemporaryDirectory() as folder:
    paths = {OURS: str(ROOT), FLOOR: None, CHECK_GRADS: None, CHEX: None}
    if options.against:
      paths[OTHER] = _build(options.against, folder)
    paths = {name: path for name, path in paths.items() if name in (options.only or paths)}
    names = options.models or [*models.MODELS, FIFTY]
    taken: dict[tuple[str, str], dict[str, list[float]]] = {}
    for _ in range(options.rounds):
      for model in names:
        for contestant, path in paths.items():
          if model == FIFTY and contestant == FLOOR:
            continue
          for column, seconds in _run(contestant, model, path).items():
            taken.setdefault((model, contestant), {}).setdefault(column, []).append(seconds)
  best = {row: {c: min(times) for c, times in columns.items()} for row, columns in taken.items()}
  print(f"| {'model':12} | {'contestant':12} |  first | second |  wrong |")
  print(f"|{'-' * 14}|{'-' * 14}|-------:|-------:|-------:|")
  for (model, contestant), columns in best.items():
    told = [columns.get(c, columns.get(FIFTY) if c == "first" else None) for c in COLUMNS]
    cells = " | ".join(" " * 6 if t is None else f"{t:6.3f}" for t in told)
    print(f"| {model:12} | {contestant:12} | {cells} |")
  seen = [model for model in names if model != FIFTY]
  at = lambda model, contestant, column="first": best[model, contestant][column]  # noqa: E731
  ratio = functools.partial(_ratio, seen, at)
  for above, other, below in (
    ("first", FLOOR, "first"),
    ("first", CHECK_GRADS, "first"),
    ("second", OURS, "first"),
    ("first", OTHER, "first"),
    ("wrong", OTHER, "wrong"),
  ):
    if OURS in paths and other in paths:
      print(f"{above} : {below} of {other:12} {ratio((OURS, above), (other, below)):.3f}")
  if options.json:
    options.json.write_text(json.dumps({" ".join(row): c for row, c in best.items()}, indent=1))


COLUMNS = ("first", "second", "wrong")


def _ratio(models: list[str], at: Callable[..., float], above: Any, below: Any) -> float:
  return _mean([at(model, *above) / at(model, *below) for model in models])


if __name__ == "__main__":
  _main()
