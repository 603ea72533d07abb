"""Winners that put things in order: sorting, the largest few, running records."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kinkopt.trace._registry import Call, Winner, winner


def _places(array: Any, axis: int) -> jax.Array:
  return lax.broadcasted_iota(jnp.int32, array.shape, axis)


def _taken(values: list[Any], order: Any, axis: int) -> list[Any]:
  return [jnp.take_along_axis(jnp.asarray(value), order, axis) for value in values]


def _inner(array: Any, axis: int) -> Any:
  return jnp.moveaxis(array, axis, -1)


@winner("sort")
class _Sort(Winner):
  def value(self, call: Call, decision: Any, point: list[Any]) -> list[Any]:
    # A second sort would cost more than following the first.
    return self.follow(call, decision, point, point)

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    axis, keys = call.params["dimension"], point[: call.params["num_keys"]]
    if rates is not None:
      keys = [part for pair in zip(keys, rates) for part in pair]
    operands = [*keys, _places(point[0], axis)]
    return lax.sort(operands, dimension=axis, is_stable=True, num_keys=len(keys))[-1]

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return _taken(moved, decision, call.params["dimension"])

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    axis, gap = call.params["dimension"], None
    for key in _taken(point[: call.params["num_keys"]], decision, axis):
      between = jnp.diff(_inner(key, axis).astype(jnp.result_type(point[0])))
      gap = between if gap is None else jnp.where(gap == 0, between, gap)
    return None if gap is None or jnp.iscomplexobj(gap) else gap[..., None]


class _Largest(Winner):
  """The k largest, or smallest, along an axis, and where they stand."""

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    if rates is None:
      return call.bind(point)[1]
    axis, sign = self._axis(call, point[0]), self._sign(call)
    operands = [sign * point[0], sign * rates[0], _places(point[0], axis)]
    order = lax.sort(operands, dimension=axis, is_stable=True, num_keys=2)[-1]
    return lax.slice_in_dim(order, 0, call.params["k"], axis=axis)

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [*_taken(moved, decision, self._axis(call, point[0])), decision]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    axis, k = self._axis(call, point[0]), call.params["k"]
    order = jnp.argsort(self._sign(call) * point[0], axis=axis, stable=True)
    gaps = jnp.diff(_inner(_taken(point, order, axis)[0], axis))[..., :k]
    # The last of all has no rival.
    return jnp.pad(
      gaps, [(0, 0)] * (gaps.ndim - 1) + [(0, k - gaps.shape[-1])], constant_values=jnp.inf
    )[..., None]

  def _axis(self, call: Call, operand: Any) -> int:
    return call.params.get("axis", call.params.get("reduction_dimension", -1)) % operand.ndim

  def _sign(self, call: Call) -> int:
    return -1 if call.params.get("is_max_k", True) else 1


winner("top_k", "approx_top_k")(_Largest)


@winner("argmax", "argmin")
class _ArgExtremum(Winner):
  def plain(self, call: Call, operands: list[Any]) -> list[Any]:
    # JAX writes the reduction when it compiles, with constants of the caller's width; a caller's
    # `jit` without 64 bits could then not compile a float64 argmax. So it is written here.
    x, (axis,), is_max = lax.stop_gradient(operands[0]), call.params["axes"], call.name == "argmax"
    places = _places(x, axis).astype(call.params["index_dtype"])

    def better(a: Any, b: Any) -> Any:
      ahead = a[0] > b[0] if is_max else a[0] < b[0]
      first = ahead | (a[0] != a[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
      return jax.tree.map(lambda x, y: lax.select(first, x, y), a, b)

    last = jnp.iinfo(places.dtype).max
    worst = jnp.asarray(_worst(x.dtype, is_max), x.dtype), jnp.asarray(last, places.dtype)
    return [lax.reduce((x, places), worst, better, (axis,))[1]]

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    (out,) = self.plain(call, point)
    if rates is None:
      return out
    (axis,), sign = call.params["axes"], 1 if call.name == "argmax" else -1
    best = jnp.take_along_axis(point[0], jnp.expand_dims(out, axis), axis)
    rate = jnp.where(point[0] == best, sign * rates[0], -jnp.inf)
    # Of those whose rates tie as well, the first, as in JAX.
    (found,) = self.plain(Call("argmax", call.params, call.bind), [rate])
    return found

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [decision]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    (axis,) = call.params["axes"]
    best = jnp.take_along_axis(point[0], jnp.expand_dims(decision, axis), axis)
    is_best = _places(point[0], axis) == jnp.expand_dims(decision, axis)
    return _inner(jnp.where(is_best, jnp.inf, best - point[0]), axis)


def _worst(dtype: Any, is_max: bool) -> Any:
  if jnp.issubdtype(dtype, jnp.floating):
    return -jnp.inf if is_max else jnp.inf
  info = jnp.iinfo(dtype)
  return info.min if is_max else info.max


@winner("cummax", "cummin")
class _Record(Winner):
  """The running extremum: whoever holds the record; of equals, the latest."""

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    p, axis, is_reversed = point[0], call.params["axis"], call.params["reverse"]
    places = _places(p, axis)
    if rates is not None:
      sign = 1 if call.name == "cummax" else -1
      contest = (sign * p, sign * rates[0], places)
      return lax.associative_scan(_later_or_better, contest, reverse=is_reversed, axis=axis)[2]
    (out,) = call.bind(point)
    # Whoever equals the result where it stands has set a record, and the latest one holds it.
    if is_reversed:
      return lax.cummin(jnp.where(p == out, places, p.shape[axis] - 1), axis, reverse=True)
    return lax.cummax(jnp.where(p == out, places, 0), axis)

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    (out,) = call.bind(point)
    (taken,) = _taken(moved, decision, call.params["axis"])
    return [jnp.where(out == out, taken, out)]  # NaN has no holder

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    axis, is_reversed = call.params["axis"], call.params["reverse"]
    first, last = (1, None) if is_reversed else (None, -1)
    (held,) = _taken(point, decision, axis)
    held, own = _inner(held, axis)[..., first:last], _inner(point[0], axis)
    ends = (0, 1) if is_reversed else (1, 0)  # the first has no rival
    rival = jnp.pad(held, [(0, 0)] * (held.ndim - 1) + [ends], constant_values=jnp.inf)
    return (own - rival)[..., None]


def _later_or_better(a: Any, b: Any) -> Any:
  first = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] > b[1]))
  return jax.tree.map(lambda x, y: jnp.where(first, x, y), a, b)
