"""Control flow: branches, trip counts and calls, all of them decided by the point."""

import functools
from typing import Any

import jax
from jax import lax

from kinkopt import _jax
from kinkopt.kinks._interpreter import Interpreter, Pair, at_point, is_pair
from kinkopt.kinks._registry import structural

_PROGRAM = ("jaxpr", "call_jaxpr", "fun_jaxpr")


@structural("jit", "closed_call", "call", "remat2", "custom_jvp_call", "custom_vjp_call")
def _call(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  # A custom rule is a claim about the function; what is differenced is the function.
  program = next(eqn.params[name] for name in _PROGRAM if name in eqn.params)
  return run.run(program, values)


def _activity(run: Interpreter, program: Any, values: list[Any]) -> list[bool]:
  """Says which results of a program are pairs, by running it on shapes."""
  found: list[bool] = []

  def probe(values: list[Any]) -> list[Any]:
    results = run.run(program, values)
    found[:] = map(is_pair, results)
    return results

  jax.eval_shape(probe, values)
  return found


def _as(run: Interpreter, results: list[Any], active: list[bool]) -> list[Any]:
  return [run.pair(value) if a else value for value, a in zip(results, active, strict=True)]


def _fixpoint(
  run: Interpreter, program: Any, constants: list[Any], carry: list[Any], rest: list[Any]
) -> tuple[list[Any], list[bool]]:
  """Pairs up those carried values that a turn of the loop makes depend on the moved arguments."""
  while True:
    active = _activity(run, program, [*constants, *carry, *rest])
    grown = _as(run, carry, active[: len(carry)])
    if list(map(is_pair, grown)) == list(map(is_pair, carry)):
      return carry, [*map(is_pair, carry), *active[len(carry) :]]
    carry = grown


@structural("cond")
def _cond(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  index, *operands = values
  branches = eqn.params["branches"]
  active = functools.reduce(
    lambda a, b: [x or y for x, y in zip(a, b)],
    [_activity(run, branch, operands) for branch in branches],
  )

  def follow(branch: Any) -> Any:
    return lambda operands: _as(run, run.run(branch, operands), active)

  if index.dtype == bool:
    index = index.astype("int32")
  return lax.switch(index, [follow(branch) for branch in branches], operands)


def _stay(value: Any) -> Any:
  """Gives the point's half in the place of the moved one."""
  return Pair(value.point, value.point) if is_pair(value) else value


@structural("while")
def _while(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  p = eqn.params
  num_cond, num_body = p["cond_nconsts"], p["body_nconsts"]
  asked, held = values[:num_cond], values[num_cond : num_cond + num_body]
  carry, active = _fixpoint(run, p["body_jaxpr"], held, values[num_cond + num_body :], [])

  def goes_on(carry: list[Any]) -> Any:
    return run.run(p["cond_jaxpr"], [*map(_stay, asked), *map(_stay, carry)])[0]

  def body(carry: list[Any]) -> list[Any]:
    return _as(run, run.run(p["body_jaxpr"], [*held, *carry]), active)

  return lax.while_loop(goes_on, body, carry)


@structural("scan")
def _scan(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  p = eqn.params
  num_consts, num_carry = _jax.scan_lengths(eqn)
  held, xs = values[:num_consts], values[num_consts + num_carry :]
  first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
  carry, active = _fixpoint(
    run, p["jaxpr"], held, values[num_consts : num_consts + num_carry], first
  )

  def body(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
    results = _as(run, run.run(p["jaxpr"], [*held, *carry, *x]), active)
    return results[:num_carry], results[num_carry:]

  carry, ys = lax.scan(body, carry, xs, length=p["length"], reverse=p["reverse"])
  return [*carry, *ys]


@structural("custom_linear_solve")
def _solve(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  """Follows the solution by refinement with the point's solver, which may be blind to moves."""
  programs, parts, start = eqn.params["jaxprs"], [], 0
  for length in eqn.params["const_lengths"]:
    parts.append(values[start : start + length])
    start += length
  matvec, _, solver, _ = parts
  right = [run.pair(value) for value in values[start:]]

  def solve(right: list[Any]) -> list[Any]:
    found = run.run(programs.solve, [*map(_stay, solver), *(Pair(r, r) for r in right)])
    return list(map(at_point, found))

  def refine(x: list[Any], _: None) -> tuple[list[Any], None]:
    reached = run.run(programs.matvec, [*matvec, *(Pair(v, v) for v in x)])
    corrections = solve([r.moved - a.moved for r, a in zip(right, reached)])
    return [v + c for v, c in zip(x, corrections)], None

  (*solution,) = solve([r.point for r in right])
  rest = solution[len(right) :]  # auxiliary results: the point's
  moved = [x + 0 * r.moved for x, r in zip(solution, right)]  # batched, where the right side is
  moved, _ = lax.scan(refine, moved, None, 16)
  return [*map(Pair, solution, moved), *map(run.pair, rest)]
