import math

import pytest

from kinkopt.cli._results import HEALTHY, charts, closing, table
from kinkopt.cli._training import Run
from kinkopt.monitor import RatioBand, band
from kinkopt.render import Tone, to_text

DONE = Run("adam", [0, 2, 4], [2.0, 1.0, 0.5], [0.1, 0.3, 5e-4, 7e-4], 0.9, 1.5, 0.25, "done")
LOST = Run("sgd", [0, 2], [2.0, math.nan], [0.1, math.nan], 0.1, 1.0, 0.1, "diverged")
STOPPED = Run("momentum")
NEWTON = Run("newton", [0, 1], [2.0, 0.1], [0.7], 0.8, 1.0, 2.0, "done")


def test_the_shaded_band_is_the_monitors():
  low, high = HEALTHY
  assert band(low) is band(high) is RatioBand.HEALTHY
  assert band(0.99 * low) is RatioBand.TOO_SMALL
  assert band(1.01 * high) is RatioBand.TOO_LARGE


def test_each_run_is_a_row_and_tells_how_it_ended():
  rows = table([DONE, LOST, STOPPED, NEWTON]).rows
  assert rows[0] == ("adam", 0.5, 0.9, 4, pytest.approx(0.05035), "too large", 0.25, "done")
  assert rows[1][0] == "sgd"
  assert rows[1][4:] == (None, "not finite", 0.1, "diverged")
  assert rows[2] == ("momentum", None, None, None, None, None, None, "stopped")
  assert rows[3][4:6] == (0.7, None), "no band judges a full Newton step"
  assert table([DONE, LOST, STOPPED, NEWTON]).tones == (
    Tone.PLAIN,
    Tone.BAD,
    Tone.WARN,
    Tone.PLAIN,
  )
  assert "compiling took another 3.5 s in all" in to_text(table([DONE, LOST, NEWTON]), width=1000)
  assert "Newton" not in table([DONE]).caption


@pytest.mark.parametrize(
  ("runs", "gradient_ok", "interrupted", "text", "tone"),
  [
    ([DONE], True, False, "The gradient was right, and every rule stayed finite.", Tone.GOOD),
    ([DONE], False, False, "The gradient check failed.", Tone.BAD),
    ([DONE, LOST], True, False, "Sgd diverged at step 2.", Tone.BAD),
    ([LOST], False, False, "The gradient check failed; sgd diverged at step 2.", Tone.BAD),
    ([DONE, STOPPED], True, True, "Interrupted, with 1 rule done.", Tone.WARN),
    ([], None, True, "Interrupted, with 0 rules done.", Tone.WARN),
  ],
)
def test_the_closing_sentence_says_how_the_whole_went(runs, gradient_ok, interrupted, text, tone):
  closed = closing(runs, gradient_ok, interrupted)
  assert (closed.text, closed.tone) == (text, tone)


def test_a_chart_is_drawn_of_what_there_is():
  drawn = charts([DONE, STOPPED, NEWTON], [1.0, 1e-3])
  assert list(drawn) == ["learning-curves", "update-ratios", "newton"]
  ratios = drawn["update-ratios"].series
  assert [series.label for series in ratios] == ["adam"]
  assert ratios[0].x == (1.5, 3.5), "the middle of steps 1 and 2, and of steps 3 and 4"
  assert ratios[0].y == pytest.approx((0.2, 6e-4))
  assert charts([STOPPED], []) == {}
