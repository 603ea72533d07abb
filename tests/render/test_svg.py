import dataclasses
import math
import re

import pytest

from kinkopt.render import Band, Chart, Series
from kinkopt.render._svg import to_figure


def _curve(*y: float, x: tuple[float, ...] = (), **axes) -> Chart:
  return Chart("c", "x", "y", (Series("s", x or tuple(map(float, range(len(y)))), y),), **axes)


def _points(chart: Chart) -> list[tuple[float, float]]:
  drawn = re.findall(
    r'<circle class="kinkopt-point" cx="([\d.]+)" cy="([\d.]+)"', to_figure(chart, chart.title)
  )
  return [(float(x), float(y)) for x, y in drawn]


def _labels(chart: Chart, anchor: str) -> list[str]:
  return re.findall(rf'text-anchor="{anchor}">([-\d.e+]+)</text>', to_figure(chart, chart.title))


def test_up_is_more_and_right_is_later():
  (x0, y0), (x1, y1), (x2, y2) = _points(_curve(1.0, 3.0, 2.0))
  assert x0 < x1 < x2
  assert y1 < y2 < y0, "pixels count from the top"


def test_equal_factors_are_equal_steps_on_a_logarithmic_axis_only():
  def steps(log):
    (_, y0), (_, y1), (_, y2) = _points(_curve(1e-6, 1e-3, 1.0, log_y=log))
    return y0 - y1, y1 - y2

  assert steps(True)[0] == pytest.approx(steps(True)[1], abs=0.2)
  assert steps(False)[0] < 1 < steps(False)[1]


def test_x_may_be_logarithmic_too():
  (x0, _), (x1, _), (x2, _) = _points(_curve(1.0, 2.0, 3.0, x=(1e-8, 1e-4, 1.0), log_x=True))
  assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)


@pytest.mark.parametrize(
  ("chart", "labels"),
  [
    (_curve(0.0, 10.0), ["0", "2", "4", "6", "8", "10"]),
    (_curve(1e-6, 1e-3, log_y=True), ["1e-06", "1e-05", "0.0001", "0.001"]),
    (_curve(1e-12, 1.0, log_y=True), ["1e-12", "1e-10", "1e-08", "1e-06", "0.0001", "0.01", "1"]),
    (_curve(1.0, 9.0, log_y=True), ["1", "2", "5"]),
    (_curve(1.0001, 1.0002, 1.0003), ["1.0001", "1.00015", "1.0002", "1.00025", "1.0003"]),
  ],
)
def test_ticks_are_round_and_told_apart(chart, labels):
  assert _labels(chart, "end") == labels


def test_there_is_no_step_between_whole_ones():
  assert _labels(_curve(1.0, 2.0, 3.0), "middle") == ["0", "1", "2"]


@pytest.mark.parametrize("log", [False, True])
def test_points_that_cannot_be_drawn_leave_a_gap(log):
  chart = _curve(1.0, 2.0, math.nan, 3.0, math.inf, 4.0, -1.0 if log else -math.inf, log_y=log)
  pieces = re.findall(r'points="([^"]*)"', to_figure(chart, chart.title))
  assert [len(piece.split()) for piece in pieces] == [2, 1, 1]
  assert (
    re.search(r"nan|inf", re.sub('aria-label="[^"]*"', "", to_figure(chart, chart.title))) is None
  )


def test_a_long_curve_has_no_dots_but_a_point_alone_is_seen():
  assert _points(_curve(*map(float, range(40)))) == []
  assert len(_points(_curve(*map(float, range(40)), math.nan, 7.0))) == 1


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
  "ys", [(), (0.0,), (1.0, 1.0), (5e-324, 1e-323), (1e299, 1e299), (-9e299, 9e299), (1e-300, 9e299)]
)
def test_no_range_of_floats_is_too_much(ys, log):
  drawn = re.sub('aria-label="[^"]*"', "", to_figure(_curve(*ys, log_y=log), ""))
  assert re.search(r"nan|inf", drawn) is None
  assert all(0 <= y <= 360 for _, y in _points(_curve(*ys, log_y=log)))


def test_bands_are_shaded_where_they_are(chart):
  (y, height), *rest = re.findall(
    r'<rect class="kinkopt-band" x=[^>]* y="(.*?)" height="(.*?)"/>', to_figure(chart, chart.title)
  )
  assert rest == []
  # From 1e-4 to 1e-2 of an axis from 1e-4 to 2, with a little room at both ends.
  share = 2 / (1.08 * (math.log10(2) + 4))
  assert float(height) == pytest.approx(share * (306 - 12), abs=0.2)
  assert float(y) + float(height) == pytest.approx(306 - 0.04 / 1.08 * 294, abs=0.2)


@pytest.mark.parametrize("log", [False, True])
def test_a_band_without_an_end_goes_on_to_the_edge(log):
  chart = dataclasses.replace(
    _curve(1.0, 2.0, log_y=log), bands=(Band(-math.inf, math.inf, "all"),)
  )
  assert re.search(r'kinkopt-band" x=[^>]* y="12.0" height="294.0"', to_figure(chart, chart.title))


def test_curves_differ_by_dashes_and_are_named_in_the_legend(chart):
  figure = to_figure(chart, chart.title)
  legend = figure[figure.index("<ul") :]
  assert re.findall(r"</svg>([^<]*)</li>", legend) == ["sgd", "lost", "empty", "healthy"]
  dashes = re.findall('stroke-dasharray="([^"]*)"', legend)
  assert len(set(dashes)) == 3
  assert re.findall('stroke-dasharray="([^"]*)"', figure[: figure.index("<ul")]) == dashes


def test_a_lone_curve_has_no_legend():
  assert "<ul" not in to_figure(_curve(1.0, 2.0), "")


def test_who_cannot_see_the_picture_is_told_its_curves(chart):
  assert (
    "sgd    2 -&gt; 0.5, 3 points"
    in re.search('aria-label="(Losses \\([^"]*)"', to_figure(chart, chart.title))[1]
  )
