import dataclasses
import math
import sys

import matplotlib.image
import matplotlib.pyplot
import pytest

from kinkopt.render import Chart, MissingExtraError, Series, save_chart


def test_a_chart_becomes_a_picture_and_leaves_pyplot_alone(chart, tmp_path):
  save_chart(chart, tmp_path / "chart.png")
  picture = matplotlib.image.imread(tmp_path / "chart.png")
  assert picture.shape[:2] == (675, 1200)
  assert picture[..., :3].std() > 0.05, "there is something on it"
  assert matplotlib.pyplot.get_fignums() == []


def test_titles_labels_bands_and_curves_are_in_the_picture(chart, tmp_path):
  save_chart(chart, tmp_path / "chart.svg")
  drawn = (tmp_path / "chart.svg").read_text(encoding="utf-8")
  # matplotlib writes each text as a comment beside its outline.
  for text in ("Losses", "step", "loss [nats]", "sgd", "lost", "healthy"):
    assert f"<!-- {text} -->" in drawn


@pytest.mark.parametrize("log", [False, True])
def test_points_that_cannot_be_drawn_leave_a_gap(log, tmp_path):
  series = Series("s", (0.0, 1.0, 2.0, 3.0), (1.0, math.nan, math.inf, -1.0))
  save_chart(Chart("c", "x", "y", (series,), log_x=log, log_y=log), tmp_path / "chart.png")
  assert (tmp_path / "chart.png").stat().st_size > 0


def test_a_lone_curve_has_no_legend(chart, tmp_path):
  alone = dataclasses.replace(chart, series=chart.series[:1], bands=())
  save_chart(alone, tmp_path / "chart.svg")
  assert "<!-- sgd -->" not in (tmp_path / "chart.svg").read_text(encoding="utf-8")


def test_without_matplotlib_the_way_out_is_named(chart, tmp_path, monkeypatch):
  for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  message = r'Pictures need the package `matplotlib`.*pip install "kinkopt\[cli\]"'
  with pytest.raises(MissingExtraError, match=message):
    save_chart(chart, tmp_path / "chart.png")
