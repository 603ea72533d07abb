"""Control flow: branches, trip counts and calls.

What the lanes have in common is decided once: a branch or a trip count is an integer or a mask, and
those are the point's. Only where each lane decides for itself can they differ; then each goes its
own way, and the parting is recorded.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from kinkopt import _jax
from kinkopt.trace._activity import activated, active_results, empty, records_of
from kinkopt.trace._interpreter import Interpreter, Lanes, is_active, lane
from kinkopt.trace._registry import structural


@structural("jit", "closed_call", "call", "eval_jaxpr", "composite", "custom_vmap_call")
def _call(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  return run.run(_jax.program(eqn), values)


@structural("stop_gradient")
def _stop_gradient(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  run.note_cut(eqn)
  return [values[0] if run.policy.through_stop_gradient else run.stop_gradient(values[0])]


@structural("cond")
def _cond(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  index, *operands = values
  branches = eqn.params["branches"]
  flags = [active_results(run, branch, list(map(is_active, operands))) for branch in branches]
  active = [any(column) for column in zip(*flags)]
  records = {k: v for branch in branches for k, v in records_of(run, branch, operands).items()}

  def together(branch: Any) -> Callable[[list[Any]], Any]:
    def follow(operands: list[Any]) -> Any:
      results, found = run.recorded(lambda: run.run(branch, operands))
      seen = [found[site] if site in found else blank.empty() for site, blank in records.items()]
      return activated(run, results, active), seen

    return follow

  follow = list(map(together, branches))
  if not is_active(index):
    results, seen = lax.switch(_number(index), follow, operands)
  else:
    run.record_parting("cond", index)
    results, seen = lax.cond(
      index.values[0] == index.values[1],
      lambda operands: lax.switch(_number(index.values[0]), follow, operands),
      lambda operands: (_apart(run, branches, index, operands), empty(records)),
      operands,
    )
  run.merge_all(records, seen)
  return results


def _number(index: Any) -> Any:
  return index.astype("int32") if index.dtype == bool else index


def _apart(run: Interpreter, branches: Any, index: Lanes, operands: list[Any]) -> list[Any]:
  """Lets each lane take its own branch."""
  lanes = []
  for i, number in enumerate(index.values):
    alone = run.alone()

    def take(branch: Any, alone: Any = alone) -> Callable[[list[Any]], list[Any]]:
      def follow(operands: list[Any]) -> list[Any]:
        return [alone.widen(lane(value, 0)) for value in alone.run(branch, operands)]

      return follow

    own = [Lanes((lane(v, i),)) if is_active(v) else v for v in operands]
    lanes.append(lax.switch(_number(number), list(map(take, branches)), own))
  return [Lanes(pair) for pair in zip(*lanes, strict=True)]


@structural("reduce", "reduce_window")
def _reduce(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  """Reduces by a program of the user's, which is run on each lane."""
  p, half = eqn.params, len(values) // 2
  operands = [run.activate(value) for value in values]
  flat, tree = jax.tree.flatten(operands[:half])
  starts = jax.tree.leaves(operands[half:])

  def combine(a: Any, b: Any) -> Any:
    pairs = [*jax.tree.unflatten(tree, a), *jax.tree.unflatten(tree, b)]
    results = run.recorded(lambda: run.run(p["jaxpr"], pairs))[0]
    return tuple(jax.tree.leaves([run.activate(value) for value in results]))

  if eqn.primitive.name == "reduce":
    out = lax.reduce(tuple(flat), tuple(starts), combine, p["dimensions"])
  else:
    names = ["window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation"]
    out = lax.reduce_window(tuple(flat), tuple(starts), combine, *(p[name] for name in names))
  return jax.tree.unflatten(tree, out)


@structural("shard_map")
def _shard_map(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  p = eqn.params
  # Activity under a mesh is not looked for: whatever can have lanes gets them.
  outs = [run.can_be_active(var.aval) for var in eqn.outvars]

  def body(*values: Any) -> list[Any]:
    results, found = run.recorded(lambda: run.run(p["jaxpr"], list(values)))
    if found:
      raise NotImplementedError(
        f"`{next(iter(found))}` stands inside `shard_map`, where each device has counts of its "
        "own. Count on the function that is mapped, outside of the mesh."
      )
    return activated(run, results, outs)

  def spread(specs: Any, flags: Any) -> tuple[Any, ...]:
    return tuple(Lanes((s,) * run.count) if f else s for s, f in zip(specs, flags, strict=True))

  mapped = jax.shard_map(
    body,
    mesh=p["mesh"],
    in_specs=spread(p["in_specs"], map(is_active, values)),
    out_specs=list(spread(p["out_specs"], outs)),
    axis_names=set(p["newly_manual_axes"]),
    check_vma=p["check_vma"],
  )
  return mapped(*values)
