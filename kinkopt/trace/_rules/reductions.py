"""Winners among many that leave one number: the largest along axes, across devices, by index."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kinkopt.trace._registry import Call, Winner, winner


def _shared(out: Any, wins: Any, shift: Any, add: Any) -> jax.Array:
  """Moves a result by the mean shift of those who tie for it, as JAX's derivative does."""
  # From the point's result, so that it is exact there.
  return out + add(jnp.where(wins, shift, 0)) / jnp.maximum(add(wins.astype(out.dtype)), 1)


@winner("reduce_max", "reduce_min")
class _Reduce(Winner):
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    axes = call.params["axes"]
    wins = point[0] == jnp.expand_dims(call.bind(point)[0], axes)
    if rates is None:
      return wins
    rate = rates[0] if call.name == "reduce_max" else -rates[0]
    rate = jnp.where(wins, rate, -jnp.inf)
    return wins & (rate == rate.max(axes, keepdims=True))

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    axes, (out,) = call.params["axes"], call.bind(point)
    alone = jnp.where(decision, moved[0], 0).sum(axes)
    shared = _shared(out, decision, moved[0] - point[0], lambda x: x.sum(axes))
    return [jnp.where(decision.sum(axes) == 1, alone, shared)]

  def changed(self, call: Call, a: Any, b: Any) -> jax.Array:
    return (a != b).any(call.params["axes"])

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    axes, (out,) = call.params["axes"], call.bind(point)
    if jnp.iscomplexobj(out):
      return None
    kept = [axis for axis in range(point[0].ndim) if axis not in axes]
    gap = jnp.where(decision, jnp.where(_is_alone(decision, axes), jnp.inf, 0), 0)
    gap = jnp.where(gap == jnp.inf, gap, jnp.expand_dims(out, axes) - point[0])
    return gap.transpose(*kept, *axes).reshape(*out.shape, -1)


def _is_alone(wins: Any, axes: Any) -> Any:
  return wins & (wins.sum(axes, keepdims=True) == 1)


@winner("pmax", "pmin")
class _AcrossDevices(Winner):
  """The largest over the devices of a mesh axis."""

  def applies(self, call: Call, operands: Any) -> bool:
    return True

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    (p,), (out,) = point, call.bind(point)
    wins = p == out
    if rates is not None:
      sign = 1 if call.name == "pmax" else -1
      leading = jnp.where(wins, sign * rates[0], -jnp.inf)
      wins = wins & (leading == lax.pmax(leading, call.params["axes"]))
    return wins

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    fixed = lax.stop_gradient(point[0])  # JAX has no derivative of `pmax`
    (out,) = call.bind([fixed])
    return [_shared(out, decision, moved[0] - fixed, lambda x: lax.psum(x, call.params["axes"]))]


@winner("scatter-max", "scatter-min")
class _ScatterExtremum(Winner):
  """Updates compete with the operand, and with each other, for an entry."""

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    operand, indices, updates = point
    out = _extreme(call, point)
    wins = [operand == out, updates == _looked_up(call, out, indices, updates)]
    if rates is not None:
      sign = 1 if call.name == "scatter-max" else -1
      leading = [jnp.where(w, sign * r, -jnp.inf) for w, r in zip(wins, [rates[0], rates[2]])]
      best = _scatter(lax.scatter_max, call, leading[0], indices, leading[1])
      found = [best, _looked_up(call, best, indices, updates)]
      wins = [w & (r == b) for w, r, b in zip(wins, leading, found)]
    return jnp.concatenate([jnp.ravel(win) for win in wins])

  def plain(self, call: Call, operands: list[Any]) -> list[Any]:
    return [_extreme(call, operands)]

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    (operand, indices, updates), out = point, _extreme(call, point)
    by_operand, by_update = self._split(decision, operand, updates)

    def add(pair: Any) -> Any:
      return _scatter(lax.scatter_add, call, pair[0], indices, pair[1])

    moves = moved[0] - operand, moved[2] - updates
    shift = add([jnp.where(w, m, 0) for w, m in zip((by_operand, by_update), moves)])
    count = add([by_operand.astype(out.dtype), by_update.astype(out.dtype)])
    # An entry at minus infinity moves by nothing (inf - inf would be NaN).
    safe = jnp.where(jnp.isfinite(out), shift / jnp.maximum(count, 1), 0)
    return [out + safe]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    (operand, indices, updates), out = point, _extreme(call, point)
    by_operand, by_update = self._split(decision, operand, updates)
    ones = [by_operand.astype(out.dtype), by_update.astype(out.dtype)]
    count = _scatter(lax.scatter_add, call, ones[0], indices, ones[1])
    counts = [count, _looked_up(call, count, indices, updates)]
    outs = [out, _looked_up(call, out, indices, updates)]
    gaps = [
      jnp.where(w & (c == 1) | ~jnp.isfinite(x), jnp.inf, o - x)
      for w, c, o, x in zip((by_operand, by_update), counts, outs, (operand, updates))
    ]
    return jnp.concatenate(list(map(jnp.ravel, gaps)))[:, None]

  def _split(self, decision: Any, operand: Any, updates: Any) -> tuple[Any, Any]:
    size = operand.size
    return decision[:size].reshape(operand.shape), decision[size:].reshape(updates.shape)


def _extreme(call: Call, operands: list[Any]) -> Any:
  # By JAX's function: the primitive carries a program in the dtypes that it was made with.
  scatter = lax.scatter_max if call.name == "scatter-max" else lax.scatter_min
  return _scatter(scatter, call, *operands)


_HOW = ("indices_are_sorted", "unique_indices", "mode")


def _scatter(scatter: Any, call: Call, operand: Any, indices: Any, updates: Any) -> Any:
  how = {name: call.params[name] for name in _HOW}
  return scatter(operand, indices, updates, call.params["dimension_numbers"], **how)


def _looked_up(call: Call, array: Any, indices: Any, updates: Any) -> Any:
  """Gathers for each update what stands at its place."""
  numbers = call.params["dimension_numbers"]
  slices, window = [], iter(numbers.update_window_dims)
  for axis in range(array.ndim):
    is_window = axis not in (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    slices.append(updates.shape[next(window)] if is_window else 1)
  gather = lax.GatherDimensionNumbers(
    offset_dims=numbers.update_window_dims,
    collapsed_slice_dims=numbers.inserted_window_dims,
    start_index_map=numbers.scatter_dims_to_operand_dims,
    operand_batching_dims=numbers.operand_batching_dims,
    start_indices_batching_dims=numbers.scatter_indices_batching_dims,
  )
  return lax.gather(array, indices, gather, tuple(slices), mode="fill", fill_value=jnp.nan)
