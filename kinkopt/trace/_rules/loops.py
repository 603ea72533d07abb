"""Loops: `scan` and `while`.

A trip count is decided by the point, because a mask has no lanes. Only where each lane decides for
itself can one leave the loop before the other: then it waits, unchanged, which is recorded. So do
the members of a batch, where `vmap` has made a batch of loops of a `while`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kinkopt import _jax
from kinkopt.trace._activity import (
  activated,
  active_results,
  added,
  carried_activity,
  empty,
  records_of,
)
from kinkopt.trace._interpreter import Interpreter, Lanes, is_active, lane
from kinkopt.trace._registry import structural


@structural("scan")
def _scan(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  p = eqn.params
  num_consts, num_carry = _jax.scan_lengths(eqn)
  held, xs = values[:num_consts], values[num_consts + num_carry :]
  first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
  start = values[num_consts : num_consts + num_carry]
  carry, active = carried_activity(run, p["jaxpr"], held, start, first)
  records = records_of(run, p["jaxpr"], [*held, *carry, *first])

  def body(state: Any, x: list[Any]) -> tuple[Any, list[Any]]:
    carry, seen = state
    results, found = run.recorded(lambda: run.run(p["jaxpr"], [*held, *carry, *x]))
    results = activated(run, results, active)
    return (results[:num_carry], added(records, seen, found)), results[num_carry:]

  (carry, seen), ys = lax.scan(
    body, (carry, empty(records)), xs, length=p["length"], reverse=p["reverse"]
  )
  run.merge_all(records, seen)
  return [*carry, *ys]


@structural("while")
def _while(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  loop = _Loop(run, eqn, values)
  carry, seen = loop.run_apart() if loop.parts else loop.run_together()
  run.merge_all(loop.records, seen)
  return carry


class _Loop:
  """A `while`, with its values on lanes."""

  def __init__(self, run: Interpreter, eqn: Any, values: list[Any]):
    p = eqn.params
    num_cond, num_body = p["cond_nconsts"], p["body_nconsts"]
    self.run, self.asking, self.body = run, p["cond_jaxpr"], p["body_jaxpr"]
    self.asked, self.held = values[:num_cond], values[num_cond : num_cond + num_body]
    start = values[num_cond + num_body :]
    self.carry, self.active = carried_activity(run, self.body, self.held, start, [])
    moves = list(map(is_active, [*self.asked, *self.carry]))
    if _jax.depends(self.asking, moves):
      run.note_iterated()
    self.parts = active_results(run, self.asking, moves)[0]
    if self.parts:  # and so does whatever it carries
      start = list(map(run.activate, self.carry))
      self.carry, self.active = carried_activity(run, self.body, self.held, start, [])
    self.records = records_of(run, self.body, [*self.held, *self.carry])

  def goes_on(self, carry: list[Any]) -> Any:
    return self.run.recorded(lambda: self.run.run(self.asking, [*self.asked, *carry]))[0][0]

  def turn(self, carry: list[Any]) -> tuple[list[Any], Any]:
    results, found = self.run.recorded(lambda: self.run.run(self.body, [*self.held, *carry]))
    return activated(self.run, results, self.active), found

  def run_together(self) -> Any:
    # Whether to go on is asked in the body: where JAX differentiates a `while` it leaves the
    # derivatives out of the condition, and a tie there has to see them.
    def body(state: Any) -> Any:
      old, seen, again = state
      new, found = self.turn(old)
      carry = jax.tree.map(functools.partial(_turned, again), new, old) if again.ndim else new
      return carry, added(self.records, seen, found), self.goes_on(carry)

    start = self.carry, empty(self.records), self.goes_on(self.carry)
    return lax.while_loop(lambda state: jnp.any(state[2]), body, start)[:2]

  def run_apart(self) -> Any:
    def body(state: Any) -> Any:
      old, seen, turns, again = state
      new, found = self.turn(old)
      carry = [
        Lanes(tuple(_turned(a, lane(n, i), lane(o, i)) for i, a in enumerate(again)))
        for o, n in zip(old, new, strict=True)
      ]
      both = jnp.any(functools.reduce(jnp.logical_and, again))
      found = {site: record.only_if(both) for site, record in found.items()}
      turns = [n + a for n, a in zip(turns, again)]
      return carry, added(self.records, seen, found), turns, self.goes_on(carry).values

    again = self.goes_on(self.carry).values
    turns = [jnp.zeros(again[0].shape, jnp.int32)] * self.run.count
    carry, seen, turns, _ = lax.while_loop(
      lambda state: jnp.any(functools.reduce(jnp.logical_or, state[3])),
      body,
      (self.carry, empty(self.records), turns, again),
    )
    self.run.record_parting("while", Lanes(tuple(turns)))
    return carry, seen


def _turned(again: Any, new: Any, old: Any) -> Any:
  """Takes a turn's result where the loop goes on; a batch of loops has the leading axes."""
  return jnp.where(lax.expand_dims(again, range(again.ndim, new.ndim)), new, old)
