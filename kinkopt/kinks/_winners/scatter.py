"""Scattering: smooth, but its primitives carry a program in the dtypes that they were made with."""

from typing import Any

from jax import lax

from kinkopt.kinks._interpreter import Interpreter, Pair, at_moved, at_point
from kinkopt.kinks._registry import smooth

_SCATTER = {
  "scatter": lax.scatter,
  "scatter-add": lax.scatter_add,
  "scatter-mul": lax.scatter_mul,
  "scatter-sub": lax.scatter_sub,
}


@smooth(*_SCATTER)
def _scatter(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
  how = {name: eqn.params[name] for name in names}

  def scatter(half: Any) -> Any:
    operand, indices, updates = map(half, values)
    return _SCATTER[eqn.primitive.name](run.widen(operand), indices, run.widen(updates), **how)

  return [Pair(scatter(at_point), scatter(at_moved))]
