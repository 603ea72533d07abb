"""Winners that look at one number, or at two, at a time.

At an exact tie each rule does what JAX's derivative does there, so that the derivative of the
frozen program is that of the program, on a kink as well.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax

from kinkopt.kinks._interpreter import Interpreter, Pair, at_moved, at_point
from kinkopt.kinks._registry import winner


def _halves(run: Interpreter, values: list[Any]) -> tuple[list[Any], list[Any]]:
  widened = [v if isinstance(v, Pair) else run.widen(v) for v in values]
  return list(map(at_point, widened)), list(map(at_moved, widened))


@winner("max", "min")
def _extremum(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  (p, q), (m, n) = _halves(run, values)
  (out,) = run.bind(eqn, [p, q])
  # Compared with the result, which also decides NaN (neither wins) and complex numbers (by order).
  moved = jnp.where(p == out, jnp.where(q == out, m / 2 + n / 2, m), jnp.where(q == out, n, out))
  return [Pair(out, moved)]


@winner("abs")
def _abs(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  (p,), (m,) = _halves(run, values)
  if jnp.iscomplexobj(p):
    return run.run_smooth(eqn, values)
  return [Pair(jnp.abs(p), jnp.where(p >= 0, m, -m))]


@winner("sign")
def _sign(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  if jnp.iscomplexobj(at_point(values[0])):
    return run.run_smooth(eqn, values)
  return _constant(run, eqn, values)


@winner("floor", "ceil", "round", "is_finite", "eq", "ne", "lt", "le", "gt", "ge")
@winner("eq_to", "lt_to", "le_to", "argmax", "argmin")
def _constant(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  return [run.pair(out) for out in run.bind(eqn, list(map(at_point, values)))]


@winner("nextafter")
def _nextafter(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  (p, _), (m, _) = _halves(run, values)
  (out,) = run.bind(eqn, list(map(at_point, values)))
  return [Pair(out, m + (out - p))]


@winner("rem")
def _rem(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  (p, q), (m, n) = _halves(run, values)
  (out,) = run.bind(eqn, [p, q])
  # From the point's remainder, so that it is exact there; the quotient is what was decided.
  return [Pair(out, out + ((m - p) - jnp.trunc(p / q) * (n - q)))]


@winner("clamp")
def _clamp(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  (low, p, high), (low_moved, m, high_moved) = _halves(run, values)
  (out,) = run.bind(eqn, [low, p, high])
  moved = jnp.where((p > low) & (p < high), m, out)
  moved = jnp.where((low > p) & (low < high), low_moved, moved)
  return [Pair(out, jnp.where(high < p, high_moved, moved))]


@winner("convert_element_type")
def _convert(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  # To a floating dtype: the replay rounds nothing. To integers: decided before this is asked.
  return run.run_smooth(eqn, values)


@winner("reduce_precision")
def _reduce_precision(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  if run.float64:
    return values
  (out,) = run.bind(eqn, [at_point(values[0])])
  return [Pair(out, at_moved(values[0]) + (out - at_point(values[0])))]


@winner("stop_gradient")
def _stop_gradient(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  if run.through_stop_gradient:
    return values
  point = lax.stop_gradient(at_point(values[0]))
  return [Pair(point, point)]
