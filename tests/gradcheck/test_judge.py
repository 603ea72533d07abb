"""From numbers to a verdict: each bound at both of its sides."""

import numpy as np
import pytest

from kinkopt.gradcheck._judge import (
  SLACK,
  Evidence,
  Judgement,
  judge,
  judge_swept,
  wrong_coordinates,
)
from kinkopt.gradcheck._run import _as_rough
from kinkopt.gradcheck._verdict import Verdict


def seen(claim, estimate, error, norm=1.0, nothing=0.0):
  return Evidence(*map(np.atleast_1d, (claim, estimate, error)), norm, nothing)


@pytest.mark.parametrize(
  ("claim", "estimate", "error", "verdict"),
  [
    (1.0, 1 + 2e-8, np.nan, Verdict.HAPPY),  # agrees as it stands
    (1.0, 1 + 4e-8, np.nan, Verdict.UNDECIDED),  # not quite, and nothing is known
    (1.0, 1 + 4e-8, 2e-8, Verdict.HAPPY),  # within slack and bound together
    (1.0, 1 + 6e-8, 2e-8, Verdict.HAPPY),  # beyond them, but the notes call that happy
    (1.0, 1 + 2e-7, 2e-8, Verdict.TOO_HIGH),
    (1.0, 1 + 2e-7, 2e-7, Verdict.HAPPY),  # within the bound
    (1.0, 1.001, 1e-9, Verdict.UNCOMFORTABLE),
    (1.0, 1.1, 1e-9, Verdict.WRONG),
    (1.0, 1.1, 0.2, Verdict.UNDECIDED),  # too coarse to tell
    (1.0, -1.0, 1e-9, Verdict.WRONG),
    (np.nan, 1.0, 1e-9, Verdict.NOT_FINITE),
    (np.inf, 1.0, 1e-9, Verdict.NOT_FINITE),
  ],
)
def test_a_leaf_is_judged_by_gap_slack_and_bound(claim, estimate, error, verdict):
  assert judge(seen(claim, estimate, error), SLACK).verdict is verdict


def test_a_value_that_is_not_finite_decides_nothing():
  assert judge(seen(1.0, 1.0, 1e-9), SLACK, value=np.inf).verdict is Verdict.NOT_FINITE
  assert judge(seen(1.0, 1.0, 1e-9, norm=np.inf), SLACK).verdict is Verdict.NOT_FINITE


def test_errors_are_relative_to_the_norm_where_a_direction_cancels():
  found = judge(seen([1e-6, 1.0], [2e-6, 1.0], [1e-12, 1e-12]), SLACK)
  assert found.relative_error == pytest.approx(1e-5)  # of a tenth of the norm, not of 2e-6
  assert found.verdict is Verdict.TOO_HIGH


def test_what_is_not_seen_into_is_undecided_below_a_hundredth_and_wrong_above():
  verdicts = [judge(seen(1.0, 1 + x, 1e-9), SLACK, is_opaque=True).verdict for x in (5e-3, 0.05)]
  assert verdicts == [Verdict.UNDECIDED, Verdict.WRONG]


def test_a_gradient_of_nothing_is_right_where_moving_moves_nothing():
  rounding = seen(0.0, 1e-17, 1e-16, norm=0.0, nothing=1e-15)
  assert judge(rounding, SLACK).verdict is Verdict.HAPPY
  blind = seen(0.0, 1e-17, 1e-3, norm=1e-16, nothing=1e-15)
  assert judge(blind, SLACK).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(
  ("gap", "error", "is_wrong"),
  [(5e-7, 1e-12, False), (2e-6, 1e-12, True), (2e-6, 3e-6, False), (2e-6, 5e-7, True)],
)
def test_a_coordinate_is_wrong_beyond_bound_and_slack_together(gap, error, is_wrong):
  swept = seen([10.0], [10.0 + gap], [error])
  assert wrong_coordinates(swept, 1e-7).tolist() == [is_wrong]


def test_a_sweep_makes_a_verdict_worse_and_never_better():
  happy = Judgement(Verdict.HAPPY, 1e-9, SLACK)
  right, wrong = seen([1.0, 2.0], [1.0, 2.0], 1e-12), seen([1.0, -2.0], [1.0, 2.0], 1e-12)
  assert judge_swept(happy, right, SLACK).verdict is Verdict.HAPPY
  found = judge_swept(happy, wrong, SLACK)
  assert (found.verdict, found.relative_error, found.power) == (Verdict.WRONG, 2.0, SLACK)
  for left in (Verdict.UNDECIDED, Verdict.NOT_FINITE):
    assert judge_swept(Judgement(left), wrong, SLACK).verdict is left
  assert judge_swept(happy, None, SLACK) == happy


@pytest.mark.parametrize("gap", [np.nan, 0.0])
def test_a_coordinate_beyond_the_roughness_is_wrong_whatever_is_not_known_beside_it(gap):
  happy, wrong = Judgement(Verdict.HAPPY, 1e-9, SLACK), Judgement(Verdict.WRONG, 2.0, SLACK)
  far = seen([1.0, 5.0], [1.0 + gap, 0.0], 1e-12)
  assert _as_rough(wrong, happy, far, 1e-3, 0.1) == wrong
  near = seen([1.0, 5.0], [1.0 + gap, 4.7], 1e-12)
  assert _as_rough(wrong, happy, near, 1e-3, 0.1).verdict is Verdict.OKAY
