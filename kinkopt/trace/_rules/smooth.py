"""Smooth primitives that cannot just be run in other dtypes."""

from typing import Any

from jax import lax

from kinkopt.trace._interpreter import Interpreter, lane
from kinkopt.trace._registry import smooth

_SCATTER = {
  "scatter": lax.scatter,
  "scatter-add": lax.scatter_add,
  "scatter-mul": lax.scatter_mul,
  "scatter-sub": lax.scatter_sub,
}


@smooth(*_SCATTER)
def _scatter(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  """Scatters by JAX's function: the primitive carries a program in the dtypes it was made with."""
  if (
    eqn.primitive.name == "scatter" and eqn.params["update_jaxpr"] is not None
  ):  # `x.at[i].apply(f)`
    return run.run_opaque(eqn, values)
  names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
  how = {name: eqn.params[name] for name in names}

  def scatter(index: int) -> Any:
    operand, indices, updates = (lane(value, index) for value in values)
    return _SCATTER[eqn.primitive.name](run.widen(operand), indices, run.widen(updates), **how)

  return [run.join([scatter(index) for index in range(run.count)])]


@smooth("reduce_precision")
def _reduce_precision(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  # A replay in float64 rounds nothing, and a derivative does not see rounding.
  return values if run.float64 else run.run_smooth(eqn, values)
