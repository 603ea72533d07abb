"""Winners in windows: pooling, its derivative, and its derivative's transpose."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kinkopt.kinks._registry import Call, Winner, winner

_WINDOW = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")


def _window(call: Call, rank: int) -> list[Any]:
  """Gives the window's parameters; the transpose of pooling knows no dilation."""
  ones = (1,) * rank
  return [call.params.get(name, ones) for name in _WINDOW]


def _winners(call: Call, p: Any, rate: Any, is_max: bool) -> jax.Array:
  """Finds each window's winner, as its number in the flat operand; -1 in a window of padding."""
  places = lax.iota(jnp.int32, p.size).reshape(p.shape)
  worst = jnp.asarray(-jnp.inf if is_max else jnp.inf, p.dtype)
  operands, start = (p, places), (worst, jnp.int32(-1))
  if rate is not None:
    operands, start = (p, rate, places), (worst, worst, jnp.int32(-1))

  def better(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    first = a[0] >= b[0] if is_max else a[0] <= b[0]
    if rate is not None:
      first = first & ((a[0] != b[0]) | (a[1] >= b[1] if is_max else a[1] <= b[1]))
    # Padding and the start lose against an entry that is as bad.
    first = (first & (a[-1] >= 0)) | (b[-1] < 0)
    return tuple(lax.select(first, x, y) for x, y in zip(a, b, strict=True))

  return lax.reduce_window(operands, start, better, *_window(call, p.ndim))[-1]


def _looked_up(value: Any, places: Any, else_value: Any) -> Any:
  return jnp.where(places < 0, else_value, jnp.ravel(value)[jnp.maximum(places, 0)])


class _Pool(Winner):
  """Pooling. Operands that are infinite as padding is lose against it by index only."""

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    return _winners(call, self._judged(point), rates and self._judged(rates), self._is_max(call))

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    (out,) = call.bind(point)
    found = _looked_up(moved[0], decision, out)
    return [jnp.where(jnp.isnan(out), out, found)]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    judged = self._judged(point)
    best = _looked_up(judged, decision, jnp.inf)[..., None]
    places = jnp.asarray(_members(judged.shape, *_window(call, judged.ndim)))
    rivals = _looked_up(judged, places, jnp.inf)
    is_rival = (places >= 0) & (places != decision[..., None])
    return jnp.where(is_rival, best - rivals, jnp.inf)

  def _judged(self, operands: list[Any]) -> Any:
    return operands[0]

  def _is_max(self, call: Call) -> bool:
    return call.name.endswith("max")


winner("reduce_window_max", "reduce_window_min")(_Pool)


class _Selected(_Pool):
  """The derivative of pooling: one operand decides, the other is what is taken."""

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [_looked_up(moved[0], decision, 0)]

  def _judged(self, operands: list[Any]) -> Any:
    return operands[1]

  def _is_max(self, call: Call) -> bool:
    return call.params["select_prim"].name == "ge"


winner("select_and_gather_add")(_Selected)


@winner("select_and_scatter_add")
class _Credited(_Selected):
  """The transpose of pooling: each window's number is added to its winner."""

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    shape = self._judged(point).shape
    empty = jnp.zeros(int(np.prod(shape)), moved[0].dtype)
    places = jnp.where(decision < 0, empty.size, decision).ravel()  # out of bounds: dropped
    return [empty.at[places].add(jnp.ravel(moved[0]), mode="drop").reshape(shape)]


def _members(shape: Any, window: Any, strides: Any, padding: Any, base: Any, dilation: Any) -> Any:
  """Numbers the entries of each window, `(*windows, entries)`; -1 is padding."""
  per_axis = []
  for n, w, s, (low, high), b, d in zip(shape, window, strides, padding, base, dilation):
    stretched = (n - 1) * b + 1
    count = (stretched + low + high - ((w - 1) * d + 1)) // s + 1
    place = np.arange(count)[:, None] * s - low + np.arange(w)[None] * d
    is_entry = (place >= 0) & (place < stretched) & (place % b == 0)
    per_axis.append(np.where(is_entry, place // b, -1))
  grids = []
  for entry in itertools.product(*(range(w) for w in window)):
    axes = np.ix_(*(places[:, e] for places, e in zip(per_axis, entry)))
    flat = np.zeros((1,) * len(axes), np.int64)
    for i, a in enumerate(axes):
      flat = flat + a * int(np.prod(shape[i + 1 :]))
    is_entry = functools.reduce(np.logical_and, (a >= 0 for a in axes))
    grids.append(np.where(is_entry, flat, -1))
  return np.stack(grids, axis=-1).astype(np.int32)
