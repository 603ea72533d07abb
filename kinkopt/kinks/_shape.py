"""What a program makes of its values, known before it is run.

A branch or a loop needs results of one type, and a place for its records, before its body is
traced: the body is run on shapes, as often as it takes until no more values turn out to be active.
"""

from collections.abc import Sequence
from typing import Any

import jax

from kinkopt.kinks._interpreter import Interpreter, is_active


class Shape:
  """What a program makes of values, found by running it on shapes: activity and records."""

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


def activated(run: Interpreter, results: Sequence[Any], active: Sequence[bool]) -> list[Any]:
  """Activates those values that are flagged."""
  return [run.activate(value) if a else value for value, a in zip(results, active, strict=True)]


def empty(records: dict[Any, Any]) -> list[Any]:
  """Gives the records of what has not been run yet."""
  return [record.empty() for record in records.values()]


def added(known: list[Any], new: dict[Any, Any]) -> list[Any]:
  """Adds the records of one turn to those of the turns before."""
  return [a.merge(b) for a, b in zip(known, new.values(), strict=True)]


def fixpoint(
  run: Interpreter, program: Any, constants: list[Any], carry: list[Any], rest: list[Any]
) -> tuple[list[Any], list[bool], dict[Any, Any]]:
  """Activates those carried values that a turn of the loop makes depend on the moved arguments."""
  while True:
    shape = Shape(run, program, [*constants, *carry, *rest])
    grown = activated(run, carry, shape.active[: len(carry)])
    if list(map(is_active, grown)) == list(map(is_active, carry)):
      active = [*map(is_active, carry), *shape.active[len(carry) :]]
      return carry, active, shape.records
    carry = grown
