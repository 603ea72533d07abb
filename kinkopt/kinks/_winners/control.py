"""Control flow: branches, trip counts and calls.

What the lanes have in common is decided once: a branch or a trip count is an integer or a mask, and
those are the point's. Only where each lane decides for itself can they differ; then each goes its
own way, and the parting is recorded.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kinkopt import _jax
from kinkopt.kinks._interpreter import Interpreter, Lanes, is_active, lane
from kinkopt.kinks._registry import structural

_PROGRAM = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")


def _program(eqn: Any) -> Any:
  return next(eqn.params[name] for name in _PROGRAM if name in eqn.params)


@structural("jit", "closed_call", "call", "eval_jaxpr", "composite", "custom_vmap_call")
def _call(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  return run.run(_program(eqn), values)


@structural("stop_gradient")
def _stop_gradient(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  return [values[0] if run.through_stop_gradient else run.stop_gradient(values[0])]


class _Shape:
  """What a program makes of values, found by running it on shapes: what is active, what recorded."""

  def __init__(self, run: Interpreter, program: Any, values: list[Any]):
    self.active: list[bool] = []
    self.records: dict[Any, Any] = {}

    def probe(values: list[Any]) -> Any:
      results, records = run.recorded(lambda: run.run(program, values))
      self.active[:] = map(is_active, results)
      self.sites = list(records)
      return list(records.values())

    records = jax.eval_shape(probe, values)
    self.records = dict(zip(self.sites, records, strict=True))


def _as(run: Interpreter, results: Sequence[Any], active: Sequence[bool]) -> list[Any]:
  return [run.activate(value) if a else value for value, a in zip(results, active, strict=True)]


def _empty(records: dict[Any, Any]) -> list[Any]:
  return [record.empty() for record in records.values()]


def _added(known: list[Any], new: dict[Any, Any]) -> list[Any]:
  return [a.merge(b) for a, b in zip(known, new.values(), strict=True)]


def _fixpoint(
  run: Interpreter, program: Any, constants: list[Any], carry: list[Any], rest: list[Any]
) -> tuple[list[Any], list[bool], dict[Any, Any]]:
  """Activates those carried values that a turn of the loop makes depend on the moved arguments."""
  while True:
    shape = _Shape(run, program, [*constants, *carry, *rest])
    grown = _as(run, carry, shape.active[: len(carry)])
    if list(map(is_active, grown)) == list(map(is_active, carry)):
      active = [*map(is_active, carry), *shape.active[len(carry) :]]
      return [run.widen(c) if not is_active(c) else c for c in carry], active, shape.records
    carry = grown


@structural("cond")
def _cond(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  index, *operands = values
  branches = eqn.params["branches"]
  shapes = [_Shape(run, branch, operands) for branch in branches]
  active = [any(flags) for flags in zip(*(shape.active for shape in shapes))]
  records = {site: record for shape in shapes for site, record in shape.records.items()}

  def together(branch: Any) -> Callable[[list[Any]], Any]:
    def follow(operands: list[Any]) -> Any:
      results, found = run.recorded(lambda: run.run(branch, operands))
      seen = [found.get(site, record.empty()) for site, record in records.items()]
      return _as(run, results, active), seen

    return follow

  follow = list(map(together, branches))
  if not is_active(index):
    results, seen = lax.switch(_number(index), follow, operands)
  else:
    run.record_parting("cond", index)
    results, seen = lax.cond(
      index.values[0] == index.values[1],
      lambda operands: lax.switch(_number(index.values[0]), follow, operands),
      lambda operands: (_apart(run, branches, index, operands), _empty(records)),
      operands,
    )
  for site, record in zip(records, seen):
    run.merge(site, record)
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


@structural("while")
def _while(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  p = eqn.params
  num_cond, num_body = p["cond_nconsts"], p["body_nconsts"]
  asked, held = values[:num_cond], values[num_cond : num_cond + num_body]
  carry, active, records = _fixpoint(run, p["body_jaxpr"], held, values[num_cond + num_body :], [])
  asked_shape = _Shape(run, p["cond_jaxpr"], [*asked, *carry])
  if asked_shape.active[0] and run.is_apart:
    carry = [run.activate(value) for value in carry]
    active = [True] * len(active)
    records = _Shape(run, p["body_jaxpr"], [*held, *carry]).records

  def goes_on(carry: list[Any]) -> Any:
    return run.recorded(lambda: run.run(p["cond_jaxpr"], [*asked, *carry]))[0][0]

  def body(state: Any) -> Any:
    carry, seen = state
    again = goes_on(carry) if asked_shape.active[0] else None
    results, found = run.recorded(lambda: run.run(p["body_jaxpr"], [*held, *carry]))
    results = _as(run, results, active)
    if is_active(again):
      both = again.values[0] & again.values[1]
      results = [_kept(again, old, new) for old, new in zip(carry, results, strict=True)]
      found = {site: record.only_if(both) for site, record in found.items()}
    return results, _added(seen, found)

  def any_goes_on(state: Any) -> Any:
    again = goes_on(state[0])
    return functools.reduce(jnp.logical_or, again.values) if is_active(again) else again

  if asked_shape.active[0] and run.is_apart:
    return _counted(run, eqn, (any_goes_on, goes_on, body), carry, records)
  carry, seen = lax.while_loop(any_goes_on, body, (carry, _empty(records)))
  for site, record in zip(records, seen):
    run.merge(site, record)
  return carry


def _kept(again: Lanes, old: Any, new: Any) -> Any:
  lanes = [jnp.where(a, lane(new, i), lane(old, i)) for i, a in enumerate(again.values)]
  return Lanes(tuple(lanes))


def _counted(run: Interpreter, eqn: Any, loop: Any, carry: list[Any], records: Any) -> list[Any]:
  """Runs a loop whose lanes may leave it at different turns, and records whether they do."""
  any_goes_on, goes_on, body = loop
  state = (carry, _empty(records), (jnp.int32(0), jnp.int32(0)))

  def turn(state: Any) -> Any:
    carry, seen, turns = state
    again = goes_on(carry)
    carry, seen = body((carry, seen))
    return carry, seen, tuple(n + lane(again, i) for i, n in enumerate(turns))

  carry, seen, turns = lax.while_loop(any_goes_on, turn, state)
  for site, record in zip(records, seen):
    run.merge(site, record)
  run.record_parting("while", Lanes(turns))
  return carry


@structural("scan")
def _scan(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  p = eqn.params
  num_consts, num_carry = _jax.scan_lengths(eqn)
  held, xs = values[:num_consts], values[num_consts + num_carry :]
  first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
  carry, active, records = _fixpoint(
    run, p["jaxpr"], held, values[num_consts : num_consts + num_carry], first
  )

  def body(state: Any, x: list[Any]) -> tuple[Any, list[Any]]:
    carry, seen = state
    results, found = run.recorded(lambda: run.run(p["jaxpr"], [*held, *carry, *x]))
    results = _as(run, results, active)
    return (results[:num_carry], _added(seen, found)), results[num_carry:]

  (carry, seen), ys = lax.scan(
    body, (carry, _empty(records)), xs, length=p["length"], reverse=p["reverse"]
  )
  for site, record in zip(records, seen):
    run.merge(site, record)
  return [*carry, *ys]


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
  outs = [run.is_apart or jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars]

  def body(*values: Any) -> list[Any]:
    results, found = run.recorded(lambda: run.run(p["jaxpr"], list(values)))
    if found:
      raise NotImplementedError(
        f"`{next(iter(found))}` stands inside `shard_map`, where each device has counts of its own. "
        "Count on the function that is mapped, outside of the mesh."
      )
    return _as(run, results, outs)

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
