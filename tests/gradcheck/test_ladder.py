"""Extrapolated differences: what they know, and that they know how well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.gradcheck._differences import RATIO, extrapolate, extrapolate_from_one_side

STEPS = jnp.asarray(2.0**-6 / RATIO ** np.arange(6.0))

LONG = jnp.asarray(2.0**-6 / RATIO ** np.arange(11.0))


def estimate(fun):
  return extrapolate(jax.vmap(fun)(STEPS), jax.vmap(fun)(-STEPS), STEPS)


SMOOTH = {
  "exp": (jnp.exp, 1.0),
  "sine": (lambda t: jnp.sin(3 * t + 1), 3 * np.cos(1)),
  "pole nearby": (lambda t: 1 / (0.1 + t), -100.0),
  "large offset": (lambda t: 1e6 + jnp.tanh(t), 1.0),
  "stiff": (lambda t: jnp.exp(-100 * t), -100.0),
  "fast": (lambda t: jnp.sin(300 * t), 300.0),
  "constant": (lambda t: 0 * t + 7, 0.0),
  "even": (jnp.cos, 0.0),
  "tiny": (lambda t: 1e-200 * jnp.exp(t), 1e-200),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_bound_holds_and_says_something(name):
  fun, truth = SMOOTH[name]
  value, error = estimate(fun)
  size = max(abs(truth), float(jnp.max(jnp.abs(jax.vmap(fun)(STEPS)))))
  assert abs(value - truth) <= error
  assert error <= 1e-8 * size


def test_three_steps_are_exact_for_a_polynomial_of_degree_six():
  steps = np.array([1 / 4, 1 / 16, 1 / 64])
  f = np.polynomial.Polynomial([2, 3, -1, 5, 0.5, 7, -2])
  value, error = extrapolate(*map(jnp.asarray, (f(steps), f(-steps), steps)))
  assert value == pytest.approx(3, abs=1e-12)
  assert abs(value - 3) <= error < 1


def test_one_side_that_is_not_finite_is_nothing_known_and_a_few_steps_are_left_out():
  assert np.isnan(estimate(jnp.sqrt)).all()
  value, error = estimate(lambda t: jnp.where(jnp.abs(t) > 0.01, jnp.nan, jnp.exp(t)))
  assert abs(value - 1) <= error
  assert error <= 1e-9


AT_AN_EDGE = {
  "smooth": (jnp.exp, 1.0),
  "x^1.5": (lambda t: t**1.5, 0.0),
  "x^1.5 and more": (lambda t: 2 * t + t**1.5 - 3 * t**2, 2.0),
  "x log x and a line": (lambda t: 3 * t + t**2 * jnp.log(t + (t == 0)), 3.0),
  "constant": (lambda t: 0 * t + 7, 0.0),
}


@pytest.mark.parametrize("name", AT_AN_EDGE)
@pytest.mark.parametrize("sign", [1, -1])
def test_one_side_is_enough_at_an_edge(name, sign):
  fun, truth = AT_AN_EDGE[name]
  values, center = jax.vmap(fun)(LONG), fun(jnp.zeros(()))
  value, error = extrapolate_from_one_side(values, center, sign * LONG)
  assert abs(sign * value - truth) <= error <= 1e-4


def test_an_infinite_slope_at_an_edge_is_not_believed():
  value, error = extrapolate_from_one_side(jnp.sqrt(STEPS), jnp.zeros(()), STEPS)
  assert not error < 0.1 * abs(value)


def test_a_jump_is_not_believed():
  value, error = estimate(lambda t: jnp.where(t > 0, 1.0, 0.0))
  assert abs(error) >= 0.1 * abs(value)


def test_many_at_once_are_each_alone():
  rates = jnp.array([1.0, -2.0, 30.0])

  def at(t):
    return jnp.exp(rates * t)

  together = extrapolate(jax.vmap(at)(STEPS), jax.vmap(at)(-STEPS), STEPS[:, None])
  for i, rate in enumerate(rates):
    alone = estimate(lambda t, rate=rate: jnp.exp(rate * t))
    np.testing.assert_allclose(together.value[i], alone.value, rtol=1e-12)
    np.testing.assert_allclose(together.error[i], alone.error, rtol=1e-2)
