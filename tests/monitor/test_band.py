"""From a ratio to a sentence: the edges of the band, and bad input."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.monitor import RatioBand, band


@pytest.mark.parametrize(
  ("ratio", "expected"),
  [
    (0.0, RatioBand.TOO_SMALL),
    (math.nextafter(1e-4, 0), RatioBand.TOO_SMALL),
    (1e-4, RatioBand.HEALTHY),
    (1e-3, RatioBand.HEALTHY),
    (1e-2, RatioBand.HEALTHY),
    (math.nextafter(1e-2, 1), RatioBand.TOO_LARGE),
    (1e30, RatioBand.TOO_LARGE),
    (math.inf, RatioBand.ZERO_PARAMETERS),
    (math.nan, RatioBand.NOT_FINITE),
  ],
)
def test_the_default_band_is_the_notes_target_and_a_factor_of_ten(ratio, expected):
  assert band(ratio) is expected
  assert band(np.float64(ratio)) is expected
  assert band(jnp.float64(ratio)) is expected


def test_target_and_width_move_the_band():
  assert band(0.05, target=0.1, width=2.0) is RatioBand.HEALTHY
  assert band(0.2, target=0.1, width=2) is RatioBand.HEALTHY
  assert band(0.049, target=0.1, width=2.0) is RatioBand.TOO_SMALL
  assert band(0.201, target=0.1, width=2.0) is RatioBand.TOO_LARGE
  assert band(1, target=1) is RatioBand.HEALTHY


@pytest.mark.parametrize(
  ("outcome", "gist"),
  [
    (RatioBand.TOO_SMALL, r"small beside the parameters, or zero.*larger learning rate"),
    (RatioBand.HEALTHY, r"a usual size"),
    (RatioBand.TOO_LARGE, r"large beside the parameters.*smaller learning rate or clipping"),
    (RatioBand.ZERO_PARAMETERS, r"parameters are zero and the updates are not.*after some steps"),
    (RatioBand.NOT_FINITE, r"not finite, or so large that their squares.*Look for the step"),
  ],
)
def test_each_outcome_is_a_sentence(outcome, gist):
  with pytest.raises(AssertionError, match=gist):
    raise AssertionError(outcome.value)
  assert outcome.value.endswith(".")


def test_every_outcome_has_its_row_above():
  assert len(RatioBand) == 5


@pytest.mark.parametrize(
  ("arguments", "error", "message"),
  [
    ({"target": 0.0}, ValueError, r"`band\(target=0\)` is out of range.*\(0, inf\).*try 1e-3"),
    ({"target": -1e-3}, ValueError, r"`band\(target=-0\.001\)` is out of range"),
    ({"target": math.nan}, ValueError, r"`band\(target=nan\)`"),
    ({"width": 1.0}, ValueError, r"`band\(width=1\)` is out of range.*\(1, inf\).*a factor on"),
    ({"width": math.inf}, ValueError, r"`band\(width=inf\)`"),
    ({"width": "10"}, TypeError, r"`band\(width='10'\)` is not a real number"),
    ({"ratio": -0.5}, ValueError, r"`band\(ratio=-0\.5\)` is negative.*0 at the least"),
    ({"ratio": "1e-3"}, TypeError, r"`band\(ratio='1e-3'\)` is not a real number.*two norms"),
    ({"ratio": 1j}, TypeError, r"`band\(ratio=1j\)` is not a real number"),
    ({"ratio": None}, TypeError, r"`band\(ratio=None\)` is not a real number"),
    ({"ratio": {"w": 1e-3, "b": 0.0}}, ValueError, r"a dict of 2\. .*`\{name: band\(ratio\) for"),
    ({"ratio": jnp.ones(3)}, ValueError, r"judges one ratio, but was given a \w+ of 3"),
  ],
)
def test_bad_input_is_named(arguments, error, message):
  with pytest.raises(error, match=message):
    band(**{"ratio": 1e-3, **arguments})


def test_under_jit_the_choice_is_left_to_the_host():
  with pytest.raises(TypeError, match=r"ratio is a traced ~?float64\[\]\. Return the ratio from"):
    jax.jit(lambda ratio: band(ratio))(1e-3)
