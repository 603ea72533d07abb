"""Winners that look at one number, or at two or three, at a time.

At an exact tie each does what JAX's derivative does there, so that the derivative of the frozen
program is that of the program, on a kink as well; with a direction, the rates decide.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kinkopt.trace._registry import Call, Winner, winner


def side(p: Any, q: Any, rates: list[Any] | None = None) -> jax.Array:
  """Says which of two numbers is larger: 1, 0 or -1; at a tie, which of the two rates is."""
  if jnp.iscomplexobj(p) or jnp.iscomplexobj(q):  # ordered as `lax.max` orders them
    first = jnp.sign(jnp.real(p) - jnp.real(q))
    found = jnp.where(first == 0, jnp.sign(jnp.imag(p) - jnp.imag(q)), first).astype(jnp.int8)
  else:
    found = jnp.where(p > q, jnp.int8(1), jnp.where(p < q, jnp.int8(-1), jnp.int8(0)))
  return found if rates is None else jnp.where(p == q, side(rates[0], rates[1]), found)


def is_complex(operands: Any) -> bool:
  """Whether any operand is complex."""
  return any(map(jnp.iscomplexobj, operands))


def apart(margin: Any) -> jax.Array:
  """Gives a margin its one candidate."""
  return jnp.asarray(margin)[..., None]


@winner("max", "min")
class _Extremum(Winner):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    found = side(point[0], point[1], rates)
    return found if call.name == "max" else -found

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    m, n = moved
    return [jnp.where(decision > 0, m, jnp.where(decision < 0, n, m / 2 + n / 2))]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    return None if is_complex(point) else apart(point[0] - point[1])

  def loses(self, call: Call, point: list[Any], is_active: list[bool]) -> jax.Array | None:
    if all(is_active) or is_complex(point):
      return None
    decision = self.decide(call, point, None)
    return decision <= 0 if is_active[0] else decision >= 0


@winner("abs")
class _Abs(Winner):
  def applies(self, call: Call, operands: Any) -> bool:
    return not is_complex(operands)

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    return side(point[0], 0, rates and [rates[0], 0])

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [jnp.where(decision >= 0, moved[0], -moved[0])]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    return apart(point[0])


@winner("sign")
class _Sign(_Abs):
  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [jnp.where(jnp.isnan(point[0]), point[0], decision.astype(point[0].dtype))]


_HOLDS = {
  "eq": lambda s: s == 0,
  "ne": lambda s: s != 0,
  "lt": lambda s: s < 0,
  "le": lambda s: s <= 0,
  "gt": lambda s: s > 0,
  "ge": lambda s: s >= 0,
}


@winner(*_HOLDS, *(f"{name}_to" for name in ("eq", "lt", "le")))
class _Compare(Winner):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    (holds,) = call.bind(point)
    if rates is None or is_complex(point):
      return holds
    tied = _HOLDS[call.name.removesuffix("_to")](side(rates[0], rates[1]))
    return jnp.where(point[0] == point[1], tied, holds)

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [decision]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    is_real = all(jnp.issubdtype(jnp.result_type(p), jnp.floating) for p in point)
    return apart(point[0] - point[1]) if is_real else None

  def loses(self, call: Call, point: list[Any], is_active: list[bool]) -> jax.Array | None:
    # `where(x > 0, x, 0)`: cut off where it does not hold.
    one_sided = call.name in ("gt", "ge") and is_active[0] and not is_active[1]
    return ~call.bind(point)[0] if one_sided else None


def _is_whole(x: Any) -> Any:
  return x == jnp.trunc(x)


@winner("floor", "ceil")
class _Floor(Winner):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    (out,) = call.bind(point)
    if rates is None:
      return out
    sign = 1 if call.name == "ceil" else -1
    return jnp.where((out == point[0]) & (sign * rates[0] > 0), out + sign, out)

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [decision]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    return apart(point[0] - lax.stop_gradient(jnp.round(point[0])))


@winner("round")
class _Round(_Floor):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    (out,) = call.bind(point)
    if rates is None:
      return out
    low = jnp.floor(point[0])
    is_half, rate = point[0] - low == 0.5, rates[0]
    return jnp.where(is_half & (rate != 0), jnp.where(rate > 0, low + 1, low), out)

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    return apart(point[0] - lax.stop_gradient(jnp.floor(point[0]) + 0.5))


@winner("convert_element_type")
class _Convert(Winner):
  """From floating point to integers, which rounds towards 0, or to truth values."""

  def applies(self, call: Call, operands: Any) -> bool:
    return not jnp.issubdtype(call.params["new_dtype"], jnp.inexact)

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    (out,) = call.bind(point)
    if rates is None or is_complex(point):
      return out
    p, rate = point[0], rates[0]
    if out.dtype == bool:
      return out | (rate != 0)
    shrinks = _is_whole(p) & (jnp.sign(p) * rate < 0)
    return jnp.where(shrinks, out - jnp.sign(p).astype(out.dtype), out)

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [decision]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    if not jnp.issubdtype(jnp.result_type(point[0]), jnp.floating):
      return None
    nearest = jnp.round(point[0])
    if decision.dtype != bool:  # nothing happens at 0
      nearest = jnp.where(nearest == 0, jnp.where(point[0] < 0, -1, 1), nearest)
    else:
      nearest = jnp.zeros_like(nearest)
    return apart(point[0] - lax.stop_gradient(nearest))


@winner("is_finite")
class _IsFinite(Winner):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    return call.bind(point)[0]

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [decision]


@winner("nextafter")
class _NextAfter(Winner):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    return side(point[0], point[1], rates)

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    (out,) = call.bind(point)
    return [moved[0] + (out - point[0])]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    return apart(point[0] - point[1])


@winner("rem")
class _Remainder(Winner):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    p, q = point
    (out,) = call.bind(point)
    quotient = (p - out) / q if jnp.issubdtype(p.dtype, jnp.inexact) else (p - out) // q
    quotient = jnp.round(quotient)
    if rates is None:
      return quotient
    leaving = jnp.sign(p) * (rates[0] - quotient * rates[1])
    step = (jnp.sign(p) * jnp.sign(q)).astype(quotient.dtype)
    return jnp.where((out == 0) & (leaving < 0) & (p != 0), quotient - step, quotient)

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    (p, q), (m, n) = point, moved
    (out,) = call.bind(point)
    # From the point's remainder, so that it is exact there; the quotient is what was decided.
    start = jnp.where(decision == self.decide(call, point, None), out, p - decision * q)
    return [start + ((m - p) - decision * (n - q))]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    p, q = point
    ratio = p / q
    nearest = lax.stop_gradient(jnp.round(ratio))
    nearest = jnp.where(nearest == 0, jnp.where(ratio < 0, -1, 1), nearest)
    return apart(p - nearest * q)


_LOW, _INSIDE, _HIGH, _HELD = 1, 2, 3, 0  # `_HELD`: a tie, which JAX differentiates as a constant


@winner("clamp")
class _Clamp(Winner):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    low, p, high = point
    at_low = side(p, low, rates and [rates[1], rates[0]])
    at_high = side(p, high, rates and [rates[1], rates[2]])
    code = jnp.where((at_low > 0) & (at_high < 0), jnp.int8(_INSIDE), jnp.int8(_HELD))
    code = jnp.where((at_low < 0) & (low < high), jnp.int8(_LOW), code)
    code = jnp.where(at_high > 0, jnp.int8(_HIGH), code)
    if rates is None:
      return code
    # A tie that stays: `x` moves as the bound does.
    return jnp.where((code == _HELD) & (low < high), jnp.int8(_INSIDE), code)

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    low, m, high = moved
    (out,) = call.bind(point)
    out = jnp.where(decision == _LOW, low, jnp.where(decision == _INSIDE, m, out))
    return [jnp.where(decision == _HIGH, high, out)]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    low, p, high = point
    return jnp.stack(jnp.broadcast_arrays(p - low, p - high), axis=-1)
