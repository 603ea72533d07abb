"""A Chart as an inline picture, for the HTML printer.

It draws what `save_chart` draws, in the same colours, without matplotlib: curves in colours and
dashes, gaps where a point cannot be drawn, shaded bands, and a legend beneath. The ink is the
page's, so the picture is light or dark with it.
"""

import dataclasses
import html
import itertools
import math

from kinkopt.render._document import Chart, Series
from kinkopt.render._plot import COLOURS
from kinkopt.render._text import to_text

_WIDTH, _HEIGHT = 760, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 748, 12, 306
_DASHES = ("", "7 4", "9 3 2 3", "2 3")
# Beyond, a difference of two overflows, and no axis can be laid out; nor is there one for ratios of
# numbers below its inverse.
_LARGEST = 1e300


@dataclasses.dataclass(frozen=True)
class _Axis:
  """From a value to a place in the picture; `low` and `high` are powers of 10 if `is_log`."""

  low: float
  high: float
  is_log: bool
  start: float
  stop: float

  def place(self, value: float) -> float:
    """Gives the pixel of a value; what lies beyond either end is put there."""
    if self.is_log:
      value = math.log10(value) if value > 0 else -math.inf
    share = (value - self.low) / (self.high - self.low)
    return round(self.start + (self.stop - self.start) * min(max(share, 0.0), 1.0), 1)


def to_figure(chart: Chart, title: str) -> str:
  """Draws a chart as a `<figure>` with an inline `<svg>`, told in words to who cannot see it.

  `title` is HTML already.
  """
  xs = [x for series in chart.series for x in series.x]
  ys = [y for series in chart.series for y in series.y]
  edges = [edge for band in chart.bands for edge in (band.low, band.high)]
  x_axis = _axis(xs, chart.log_x, _LEFT, _RIGHT)
  y_axis = _axis([*ys, *edges], chart.log_y, _BOTTOM, _TOP)
  steps = all(float(x).is_integer() for x in xs) and not chart.log_x
  return "\n".join(
    [
      "<figure>",
      f'<figcaption class="kinkopt-title">{title}</figcaption>',
      '<div class="kinkopt-scroll" tabindex="0" role="region" '
      f'aria-label="{html.escape(chart.title)}">',
      f'<svg class="kinkopt-chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
      f'aria-label="{html.escape(to_text(chart))}">',
      *(_band(y_axis.place(band.low), y_axis.place(band.high)) for band in chart.bands),
      *(_x_tick(x_axis.place(x), label) for x, label in _ticks(x_axis, steps)),
      *(_y_tick(y_axis.place(y), label) for y, label in _ticks(y_axis)),
      *_titles(chart),
      *(_curve(series, index, x_axis, y_axis) for index, series in enumerate(chart.series)),
      "</svg>",
      "</div>",
      *_legend(chart),
      "</figure>",
    ]
  )


def _is_drawable(value: float, is_log: bool) -> bool:
  return abs(value) < _LARGEST and (value > 1 / _LARGEST or not is_log)


def _axis(values: list[float], is_log: bool, start: float, stop: float) -> _Axis:
  values = [value for value in values if _is_drawable(value, is_log)]
  is_log = is_log and bool(values)
  places = [math.log10(value) if is_log else value for value in values] or [0.0, 1.0]
  low, high = min(places), max(places)
  # Values no further apart than rounding, or than the smallest floats, are one, in the middle.
  is_one = high - low <= max(1e-12 * max(abs(low), abs(high)), 1 / _LARGEST)
  alone = 0.5 if is_log or abs(low) < 1 / _LARGEST else 0.5 * abs(low)
  room = alone if is_one else 0.04 * (high - low)
  return _Axis(low - room, high + room, is_log, start, stop)


def _ticks(axis: _Axis, steps: bool = False) -> list[tuple[float, str]]:
  if not axis.is_log:
    return _even(axis.low, axis.high, steps)
  powers = _multiples(axis.low, axis.high, max(1, math.ceil((axis.high - axis.low) / 8)))
  if len(powers) > 2:
    return [(10.0**power, f"{10.0**power:g}") for power in powers if abs(power) < 308]
  low, high = 10.0**axis.low, 10.0**axis.high
  around = range(math.floor(axis.low), math.ceil(axis.high))
  values = [factor * 10.0**power for power in around for factor in (1, 2, 5)]
  values = [value for value in values if low <= value <= high]
  return [(x, f"{x:g}") for x in values] if len(values) > 1 else _even(low, high, steps)


def _even(low: float, high: float, steps: bool) -> list[tuple[float, str]]:
  """About six round numbers, each written with as many digits as tell it from the others."""
  rough = (high - low) / 6
  power = 10.0 ** math.floor(math.log10(rough))
  step = next((power * factor for factor in (1, 2, 5) if power * factor >= rough), 10 * power)
  if steps:
    step = max(1.0, step)  # there is no step 2.5
  values = [multiple * step for multiple in _multiples(low / step, high / step, 1)]
  for digits in range(3, 17):
    labels = [f"{value:.{digits}g}" for value in values]
    if len(set(labels)) == len(values):
      break
  return list(zip(values, labels))


def _multiples(low: float, high: float, step: int) -> range:
  return range(math.ceil(low / step) * step, math.floor(high) + 1, step)


def _x_tick(x: float, label: str) -> str:
  return (
    f'<line class="kinkopt-grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{_BOTTOM}"/>'
    f'<text x="{x}" y="{_BOTTOM + 20}" text-anchor="middle">{label}</text>'
  )


def _y_tick(y: float, label: str) -> str:
  return (
    f'<line class="kinkopt-grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>'
    f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
  )


def _band(low: float, high: float) -> str:
  return (
    f'<rect class="kinkopt-band" x="{_LEFT}" width="{_RIGHT - _LEFT}" y="{high}" '
    f'height="{max(low - high, 0.0):.1f}"/>'
  )


def _titles(chart: Chart) -> list[str]:
  x, y = (_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2
  return [
    f'<text x="{x}" y="{_HEIGHT - 8}" text-anchor="middle">{html.escape(chart.x_label)}</text>',
    f'<text transform="translate(16 {y}) rotate(-90)" text-anchor="middle">'
    f"{html.escape(chart.y_label)}</text>",
  ]


def _look(index: int) -> str:
  colour = COLOURS[index % len(COLOURS)]
  # Black would be lost on a dark page, and so would dark blue, but for a share of the page's ink.
  share = 100 if colour == "#000000" else 15
  colour = f"color-mix(in srgb, {colour}, var(--ink) {share}%)"
  return f'style="color: {colour}" stroke-dasharray="{_DASHES[index % len(_DASHES)] or "none"}"'


def _curve(series: Series, index: int, x_axis: _Axis, y_axis: _Axis) -> str:
  def is_drawable(point: tuple[float, float]) -> bool:
    return _is_drawable(point[0], x_axis.is_log) and _is_drawable(point[1], y_axis.is_log)

  pieces = []
  for drawable, group in itertools.groupby(zip(series.x, series.y), key=is_drawable):
    if drawable:
      points = [(x_axis.place(x), y_axis.place(y)) for x, y in group]
      corners = " ".join(f"{x},{y}" for x, y in points)
      pieces.append(f'<polyline class="kinkopt-curve" points="{corners}"/>')
      if len(series.x) < 20 or len(points) == 1:
        pieces += [f'<circle class="kinkopt-point" cx="{x}" cy="{y}" r="3"/>' for x, y in points]
  return f"<g {_look(index)}>{''.join(pieces)}</g>"


def _legend(chart: Chart) -> list[str]:
  if len(chart.series) + len(chart.bands) < 2:
    return []
  line = '<line class="kinkopt-curve" x1="0" x2="34" y1="5" y2="5"/>'
  rect = '<rect class="kinkopt-band" width="34" height="10"/>'
  items = [(f"<g {_look(index)}>{line}</g>", x.label) for index, x in enumerate(chart.series)]
  items += [(rect, band.label) for band in chart.bands]
  return [
    '<ul class="kinkopt-legend">',
    *(
      f'<li><svg viewBox="0 0 34 10" aria-hidden="true">{sign}</svg>{html.escape(label)}</li>'
      for sign, label in items
    ),
    "</ul>",
  ]
