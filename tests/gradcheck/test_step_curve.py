"""The picture of differences by their step: a wrong gradient keeps its distance."""

import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.gradcheck import GradientReport, check_gradient
from kinkopt.gradcheck._pictures import Ladder, step_curve
from kinkopt.render import to_text


def loss(x):
  return jnp.sum(jnp.sin(3 * x["a"])) + jnp.sum(jnp.sin(x["b"]))


@pytest.mark.parametrize("size", [7, 700], ids=["swept", "along directions"])
def test_a_wrong_gradient_keeps_its_distance_and_the_derivative_comes_nearer(size):
  x = {"a": jnp.linspace(0.1, 1.0, size), "b": jnp.ones(2)}
  wrong = {"a": 3.3 * jnp.cos(3 * x["a"]), "b": jnp.cos(x["b"])}
  report = check_gradient(loss, x, gradient=wrong)
  a, b = report.leaves
  assert b.curve is None
  steps, far, near = map(np.array, (a.curve.steps, a.curve.from_gradient, a.curve.from_derivative))
  assert len(steps) >= 5
  np.testing.assert_allclose(steps[1:] / steps[:-1], 0.25, rtol=0.02)
  np.testing.assert_allclose(far, 0.1 / 1.1, rtol=0.02)
  np.testing.assert_allclose(near[1:3] / near[:2], 1 / 16, rtol=0.1)
  assert near.min() < 1e-7
  assert GradientReport.from_json(report.to_json()).leaves[0].curve == a.curve


def test_a_coordinate_that_only_the_sweep_sees_has_its_own_curve():
  x = {"a": jnp.ones(3), "b": jnp.ones(2)}
  right = {"a": 3 * jnp.cos(3 * x["a"]), "b": jnp.cos(x["b"])}
  scaled = lambda x: loss({**x, "a": x["a"].at[1].multiply(3e-8)})  # noqa: E731
  right["a"] = right["a"].at[1].set(1.8e-7)  # twice the right one, of a leaf with entries of 3
  (a, _) = check_gradient(scaled, x, gradient=right).leaves
  assert "`['a'][1]` 1.8e-07 for 9e-08" in a.detail
  assert a.curve.from_gradient[2] == pytest.approx(0.5, rel=0.01)
  assert a.curve.from_derivative[2] < 0.01


def test_the_page_draws_it_and_text_leaves_it_out():
  x = {"a": jnp.linspace(0.1, 1.0, 7), "b": jnp.ones(2)}
  wrong = {"a": jnp.cos(3 * x["a"]), "b": jnp.cos(x["b"])}
  report = check_gradient(loss, x, gradient=wrong)
  assert "from the derivative" in report._repr_html_()
  assert "from the derivative" not in to_text(report.to_document())


def test_two_ladders_are_one_curve_measured_by_the_better():
  coarse = Ladder(np.array([1.0, 0.25]), np.array([3.0, 2.5]), 4.0, 2.2, 0.3)
  fine = Ladder(np.array([0.1, 0.025]), np.array([2.1, np.nan]), 4.0, 2.0, 0.1)
  curve = step_curve([coarse, fine])
  assert curve.steps == (1.0, 0.25, 0.1)
  assert curve.from_gradient == (0.25, 0.375, 0.475)
  assert curve.from_derivative == (0.25, 0.125, 0.025)


def test_nothing_known_is_no_curve():
  assert step_curve([]) is None
  unknown = Ladder(np.array([1.0]), np.array([np.nan]), 4.0, np.nan, np.nan)
  assert step_curve([unknown]) is None
