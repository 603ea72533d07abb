"""The printer of pictures: a Chart as a file, through matplotlib.

Curves get colours that the colour-blind can tell apart, and dashes that show where two lie on each
other; the legend stands beside the axes, so that it covers nothing.
"""

import math
import os

from kinkopt.render._document import Chart
from kinkopt.render._optional import require

# Okabe and Ito, "Color Universal Design" (2008); its yellow is left out, too pale on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")


def save_chart(chart: Chart, path: str | os.PathLike[str]) -> None:
  """Draws a chart into a file.

  Args:
    chart: what to draw; points that are not finite, or not positive on a logarithmic axis, leave a
      gap.
    path: the file; its ending gives the form, such as `.png` or `.svg`.

  Raises:
    MissingExtraError: if matplotlib is not installed.
    OSError: if the file cannot be written.
  """
  # `Figure`, not pyplot: no global state, no window, and safe beside the user's own figures.
  figure = require("matplotlib.figure", "Pictures").Figure(
    figsize=(8, 4.5), dpi=150, layout="constrained"
  )
  axes = figure.add_subplot()
  axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
  axes.set_xscale(_scale(chart.log_x, [x for series in chart.series for x in series.x]))
  axes.set_yscale(_scale(chart.log_y, [y for series in chart.series for y in series.y]))
  for band in chart.bands:
    axes.axhspan(band.low, band.high, color="#009E73", alpha=0.15, lw=0, label=band.label)
  for index, series in enumerate(chart.series):
    axes.plot(
      [_drawable(x, chart.log_x) for x in series.x],
      [_drawable(y, chart.log_y) for y in series.y],
      color=COLOURS[index % len(COLOURS)],
      linestyle=_DASHES[index % len(_DASHES)],
      marker="o" if len(series.x) < 20 else None,
      markersize=4,
      linewidth=1.6,
      label=series.label,
    )
  axes.grid(visible=True, which="major", alpha=0.25)
  axes.spines[["top", "right"]].set_visible(False)
  if all(float(x).is_integer() for series in chart.series for x in series.x) and not chart.log_x:
    axes.xaxis.get_major_locator().set_params(integer=True)  # there is no step 2.5
  if len(chart.series) + len(chart.bands) > 1:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, frameon=False)
  figure.savefig(path)


def _drawable(value: float, log: bool) -> float:
  return value if math.isfinite(value) and (value > 0 or not log) else math.nan


def _scale(log: bool, values: list[float]) -> str:
  # matplotlib warns of a logarithmic axis that nothing lies on.
  has_any = any(math.isfinite(_drawable(value, log)) for value in values)
  return "log" if log and has_any else "linear"
