"""Which values of a program depend on what moves, and which records it makes, before it is run.

A branch or a loop needs results of one type, and a place for its records, before its body is
traced. Activity is read off the equations alone, without tracing anything; only an interpreter
whose records are not known beforehand has the body run on shapes as well.
"""

from collections.abc import Sequence
from typing import Any

import jax

from kinkopt import _jax
from kinkopt.trace._interpreter import Interpreter, is_active

_CALLS = ("jit", "closed_call", "call", "eval_jaxpr", "composite", "custom_vmap_call", "remat2")


def active_results(run: Interpreter, program: Any, active: Sequence[bool]) -> list[bool]:
  """Says of each result of a program whether it is active, given which operands are.

  Never fewer than turn out to be, and more only where nothing depends on it.
  """
  jaxpr, _ = _jax.closed(program)
  known = run.activity.get((id(program), *active))
  if known is not None:
    return known[1]
  reached = {var for var, flag in zip(jaxpr.invars, active, strict=True) if flag}

  def of(atoms: Sequence[Any]) -> list[bool]:
    return [not isinstance(atom, _jax.Literal) and atom in reached for atom in atoms]

  for eqn in jaxpr.eqns:
    operands = of(eqn.invars)
    if any(operands):
      pairs = zip(eqn.outvars, _active_in(run, eqn, operands), strict=True)
      reached.update(var for var, flag in pairs if flag)
  results = of(jaxpr.outvars)
  run.activity[id(program), *active] = program, results  # held, so that its id is not given again
  return results


def _active_in(run: Interpreter, eqn: Any, active: list[bool]) -> list[bool]:
  name, p = _jax.name(eqn), eqn.params
  can_be = [run.can_be_active(var.aval) for var in eqn.outvars]
  if name in _CALLS:
    return active_results(run, _jax.program(eqn), active)
  if name in _jax.RULES and not run.policy.keeps(p["call_jaxpr"]):
    return active_results(run, p["call_jaxpr"], active)
  if name == "cond" and not active[0]:
    rows = [active_results(run, branch, active[1:]) for branch in p["branches"]]
    return [any(flags) for flags in zip(*rows)]
  if name == "scan":
    consts, carried = _jax.scan_lengths(eqn)
    ends = consts, consts + carried
    parts = active[: ends[0]], active[ends[0] : ends[1]], active[ends[1] :]
    return _settled(run, p["jaxpr"], *parts)
  if name == "while":
    ends = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    carry = _settled(run, p["body_jaxpr"], active[ends[0] : ends[1]], active[ends[1] :], [])
    # Lanes that part take whatever is carried along.
    parts = any(active_results(run, p["cond_jaxpr"], [*active[: ends[0]], *carry]))
    return can_be if parts else carry
  return can_be


def _settled(
  run: Interpreter, program: Any, before: list[bool], carry: list[bool], after: list[bool]
) -> list[bool]:
  """Says what of a loop's results is active, once another turn would change nothing."""
  while True:
    results = active_results(run, program, [*before, *carry, *after])
    grown = [a or b for a, b in zip(carry, results)]
    if grown == carry:
      return [*carry, *results[len(carry) :]]
    carry = grown


def carried_activity(
  run: Interpreter, program: Any, constants: list[Any], carry: list[Any], rest: list[Any]
) -> tuple[list[Any], list[bool]]:
  """Activates those carried values that a turn of a loop makes depend on what moves.

  Returns:
    The carried values, and for each result of a turn whether it is active.
  """
  active = _settled(run, program, *(list(map(is_active, x)) for x in (constants, carry, rest)))
  return activated(run, carry, active[: len(carry)]), active


def activated(run: Interpreter, values: Sequence[Any], active: Sequence[bool]) -> list[Any]:
  """Activates those values that are flagged."""
  return [run.activate(value) if a else value for value, a in zip(values, active, strict=True)]


def records_of(run: Interpreter, program: Any, values: list[Any]) -> dict[Any, Any]:
  """Gives what a program will record, as shapes."""
  if run.blank is not None:
    return dict(run.blank)
  sites: list[Any] = []

  def probe(values: list[Any]) -> list[Any]:
    _, records = run.recorded(lambda: run.run(program, values))
    sites[:] = records
    return list(records.values())

  records = jax.eval_shape(probe, values)
  return dict(zip(sites, records, strict=True))


def empty(records: dict[Any, Any]) -> list[Any]:
  """Gives the records of what has not been run yet."""
  return [record.empty() for record in records.values()]


def added(records: dict[Any, Any], known: list[Any], new: dict[Any, Any]) -> list[Any]:
  """Adds the records of one turn to those of the turns before."""
  return [a.merge(new[site]) if site in new else a for site, a in zip(records, known, strict=True)]
