"""Winners in windows: pooling, its derivative, and its derivative's transpose."""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kinkopt.trace._registry import Call, Winner, winner

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


# Up to so many entries a window is taken apart into slices, one an entry, which XLA fuses; beyond
# that the program would grow too long. On a 2 x 2 pooling slices took a third of a gather's time.
_MOST_SLICES = 64


def _slices(call: Call, operand: Any, fill: Any) -> list[jax.Array]:
  """Takes windows apart: for each entry of a window, that entry of every window."""
  window, strides, padding, base, dilation = _window(call, operand.ndim)
  inner = [(low, high, b - 1) for (low, high), b in zip(padding, base)]
  padded = lax.pad(operand, jnp.asarray(fill, operand.dtype), inner)
  spans = [(w - 1) * d + 1 for w, d in zip(window, dilation)]
  ends = [n - span for n, span in zip(padded.shape, spans)]
  slices = []
  for entry in itertools.product(*map(range, window)):
    start = [e * d for e, d in zip(entry, dilation)]
    stop = [s + end + 1 for s, end in zip(start, ends)]
    slices.append(lax.slice(padded, start, stop, strides))
  return slices


class _Pool(Winner):
  """Pooling: each window's winner, by its number in the window or, of many, in the operand."""

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    is_max = call.name.endswith("max")
    if not self._is_small(call):
      return _winners(call, point[0], rates and rates[0], is_max)
    sign = 1 if is_max else -1
    entries = _slices(call, sign * point[0], -jnp.inf)
    # Without a direction the rates decide nothing, and XLA drops them.
    moves = _slices(
      call, sign * (jnp.zeros_like(point[0]) if rates is None else rates[0]), -jnp.inf
    )
    best, leading, winner = entries[0], moves[0], jnp.zeros(entries[0].shape, jnp.int8)
    for number, (entry, move) in enumerate(zip(entries[1:], moves[1:]), 1):
      is_better = entry > best
      if rates is not None:
        is_better = is_better | ((entry == best) & (move > leading))
      best, leading = jnp.where(is_better, entry, best), jnp.where(is_better, move, leading)
      winner = jnp.where(is_better, jnp.int8(number), winner)
    return winner

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    (out,) = call.bind(point)
    if self._is_small(call):
      found = out  # a window of padding alone
      for number, entry in enumerate(_slices(call, moved[0], 0)):
        found = jnp.where(decision == number, entry, found)
      return [jnp.where(jnp.isnan(out) | jnp.isinf(out), out, found)]
    return [jnp.where(jnp.isnan(out), out, _looked_up(moved[0], decision, out))]

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    places = jnp.asarray(_members(point[0].shape, *_window(call, point[0].ndim)))
    entries = _looked_up(point[0], places, jnp.inf)
    if self._is_small(call):
      is_winner = jnp.arange(entries.shape[-1]) == decision[..., None]
    else:
      is_winner = places == decision[..., None]
    best = jnp.where(is_winner, entries, 0).sum(-1, keepdims=True)
    return jnp.where((places >= 0) & ~is_winner, best - entries, jnp.inf)

  def _is_small(self, call: Call) -> bool:
    return math.prod(call.params["window_dimensions"]) <= _MOST_SLICES


winner("reduce_window_max", "reduce_window_min")(_Pool)


class _Selected(Winner):
  """The derivative of pooling: one operand decides, the other is what is taken."""

  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    is_max = call.params["select_prim"].name == "ge"
    return _winners(call, point[1], rates and rates[1], is_max)

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    return [_looked_up(moved[0], decision, 0)]


winner("select_and_gather_add")(_Selected)


@winner("select_and_scatter_add")
class _Credited(_Selected):
  """The transpose of pooling: each window's number is added to its winner."""

  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    shape = point[1].shape
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
