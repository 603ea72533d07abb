"""Winners among many: sorting, and reductions to the largest or the smallest."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from kinkopt.kinks._interpreter import Interpreter, Pair, at_moved, at_point, is_pair
from kinkopt.kinks._registry import winner


@winner("sort")
def _sort(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  axis = eqn.params["dimension"]
  point = [run.widen(at_point(value)) for value in values]
  places = lax.broadcasted_iota(jnp.int32, point[0].shape, axis)
  *ordered, order = lax.sort(
    [*point, places], dimension=axis, is_stable=True, num_keys=eqn.params["num_keys"]
  )
  return [
    Pair(out, jnp.take_along_axis(at_moved(value), order, axis)) if is_pair(value) else out
    for out, value in zip(ordered, values, strict=True)
  ]


@winner("top_k")
def _top_k(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  out, order = run.bind(eqn, list(map(at_point, values)))
  moved = jnp.take_along_axis(at_moved(values[0]), order, eqn.params.get("axis", -1))
  return [Pair(out, moved), order]


@winner("reduce_max", "reduce_min")
def _reduce(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  point, moved, axes = at_point(values[0]), at_moved(values[0]), eqn.params["axes"]
  (out,) = run.bind(eqn, [point])
  wins = point == jnp.expand_dims(out, axes)
  count = wins.sum(axes)
  # The tied share the result, as in JAX's derivative; from the point's value, exact at the point.
  alone = jnp.where(wins, moved, 0).sum(axes)
  shared = out + jnp.where(wins, moved - point, 0).sum(axes) / jnp.maximum(count, 1)
  return [Pair(out, jnp.where(count == 1, alone, jnp.where(count == 0, out, shared)))]


@winner("cummax", "cummin")
def _cumulative(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  point, moved = at_point(values[0]), at_moved(values[0])
  axis, is_reversed = eqn.params["axis"], eqn.params["reverse"]
  (out,) = run.bind(eqn, [point])
  places = lax.broadcasted_iota(jnp.int32, point.shape, axis)
  # Whoever equals the result where it stands has set a record; the latest one holds it.
  if is_reversed:
    holder = lax.cummin(jnp.where(point == out, places, point.shape[axis] - 1), axis, reverse=True)
  else:
    holder = lax.cummax(jnp.where(point == out, places, 0), axis)
  return [Pair(out, jnp.where(out == out, jnp.take_along_axis(moved, holder, axis), out))]


@winner("reduce_window_max", "reduce_window_min")
def _reduce_window(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  point, moved = at_point(values[0]), at_moved(values[0])
  (out,) = run.bind(eqn, [point])
  is_max = eqn.primitive.name.endswith("max")
  worst = jnp.asarray(-jnp.inf if is_max else jnp.inf, point.dtype)

  def better(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    first = a[0] >= b[0] if is_max else a[0] <= b[0]
    return lax.select(first, a[0], b[0]), lax.select(first, a[1], b[1])

  names = ["window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation"]
  window = [eqn.params[name] for name in names]
  _, followed = lax.reduce_window((point, moved), (worst, worst), better, *window)
  return [Pair(out, followed)]
