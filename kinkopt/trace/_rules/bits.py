"""Numbers taken apart into mantissa and exponent: the exponent is decided by the point.

JAX does so on the bits, where nothing can be followed, and gives each a derivative of its own.
"""

from typing import Any

import jax.numpy as jnp

from kinkopt.trace._interpreter import Interpreter, lane
from kinkopt.trace._registry import Call, Winner, smooth, winner


def _scaled(x: Any, exponent: Any) -> Any:
  return x * jnp.ldexp(jnp.ones_like(x), exponent)  # a power of two: exact


@winner("frexp")
class _Mantissa(Winner):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    return jnp.frexp(point[0])[1]

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [_scaled(moved[0], -decision), decision]

  def plain(self, call: Call, operands: list[Any]) -> list[Any]:
    return list(jnp.frexp(operands[0]))


@smooth("ldexp")
def _ldexp(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  x, exponent = values
  lanes = [_scaled(run.widen(lane(x, i)), lane(exponent, i)) for i in range(run.count)]
  return [run.join(lanes)]
