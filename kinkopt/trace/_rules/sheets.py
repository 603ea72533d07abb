"""Branch cuts: which sheet of an angle, a root or a logarithm a value lies on."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kinkopt.trace._registry import Call, Winner, winner
from kinkopt.trace._rules.elementwise import apart, is_complex, side


@winner("atan2")
class _Angle(Winner):
  """The sheet of the angle is decided; it jumps across the negative half of the first axis."""

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    y, x = point
    above = side(y, 0, rates and [rates[0], 0]) >= 0
    return (x < 0) * jnp.where(above, jnp.int8(1), jnp.int8(-1))

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    (angle,) = call.bind(moved)
    turn = jnp.asarray(2 * jnp.pi, angle.dtype)
    # Continued from the point's angle, and so at most half a turn from it.
    (start,) = call.bind(point)
    start = jnp.where((decision < 0) & (start > 0), start - turn, start)
    start = jnp.where((decision > 0) & (start < 0), start + turn, start)
    return [angle + turn * lax.stop_gradient(jnp.round((start - angle) / turn))]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    y, x = jnp.broadcast_arrays(*point)
    return apart(jnp.where(x < 0, y, jnp.inf))


@winner("sqrt", "rsqrt", "log", "pow")
class _Branch(Winner):
  """Of complex numbers: the sheet is decided, across the negative real axis."""

  def applies(self, call: Call, operands: Any) -> bool:
    return is_complex(operands)

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    z, rate = point[0], None if rates is None else rates[0]
    above = side(jnp.imag(z), 0, None if rate is None else [jnp.imag(rate), 0]) >= 0
    return (jnp.real(z) < 0) * jnp.where(above, jnp.int8(1), jnp.int8(-1))

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    """Continues from the point: of all values of the function, the one nearest to the point's."""
    angle, start = jnp.angle(moved[0]), jnp.angle(point[0])
    start = jnp.where((decision < 0) & (start > 0), -start, start)
    turns = lax.stop_gradient(jnp.round((start - angle) / (2 * jnp.pi)))
    (out,) = call.bind(moved)
    if call.name == "log":
      return [lax.complex(jnp.real(out), jnp.imag(out) + 2 * jnp.pi * turns)]
    if call.name == "pow":
      return [jnp.where(turns == 0, out, out * jnp.exp(2j * jnp.pi * turns * moved[1]))]
    return [jnp.where(turns % 2 == 0, out, -out)]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    z = point[0]
    return apart(jnp.where(jnp.real(z) < 0, jnp.imag(z), jnp.inf))
