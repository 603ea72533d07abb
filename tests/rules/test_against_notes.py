"""Every rule takes, to rounding, the steps that the class notes write."""

import functools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from kinkopt import rules
from tests import notes

STEPS = 200
# 200 steps of some ten roundings each; none of the rules amplifies them on these gradients.
RTOL = 1e-12

# (array module, iteration) -> rate; NumPy's for the reference, JAX's as the schedule.
RATES = {
  "constant": lambda xp, t: 0.05,
  "step": lambda xp, t: 0.05 * 0.5 ** (t // 40),
  "exponential": lambda xp, t: 0.05 * xp.exp(-0.02 * t),
  "inverse_time": lambda xp, t: 0.05 / (1 + 0.1 * t),
}
# name: (our rule of a rate, the notes' loop)
RULES = {
  "sgd": (rules.sgd, notes.sgd),
  "momentum": (
    lambda rate: rules.momentum(rate, momentum=0.9),
    lambda *args: notes.momentum(*args, mu=0.9),
  ),
  "nesterov": (
    lambda rate: rules.nesterov(rate, momentum=0.9),
    lambda *args: notes.nesterov(*args, mu=0.9),
  ),
  "nesterov_lookahead": (
    lambda rate: rules.nesterov_lookahead(rate, momentum=0.9),
    lambda *args: (x for x, _ in notes.nesterov_lookahead(*args, mu=0.9)),
  ),
  "adagrad": (
    lambda rate: rules.adagrad(rate, eps=1e-4),
    lambda *args: notes.adagrad(*args, eps=1e-4),
  ),
  "adagrad with the default eps": (
    rules.adagrad,
    lambda *args: notes.adagrad(*args, eps=1e-8),
  ),
  "rmsprop": (
    lambda rate: rules.rmsprop(rate, decay=0.95, eps=1e-5),
    lambda *args: notes.rmsprop(*args, decay_rate=0.95, eps=1e-5),
  ),
  "adam": (rules.adam, lambda *args: notes.adam(*args, beta1=0.9, beta2=0.999, eps=1e-8)),
  "adam with a large eps": (
    lambda rate: rules.adam(rate, b1=0.8, b2=0.99, eps=1e-2),
    lambda *args: notes.adam(*args, beta1=0.8, beta2=0.99, eps=1e-2),
  ),
  "adam with bias correction": (
    lambda rate: rules.adam(rate, bias_correction=True),
    lambda *args: notes.adam_of_the_paper(*args, beta1=0.9, beta2=0.999, eps=1e-8),
  ),
  "adam with bias correction and a large eps": (
    lambda rate: rules.adam(rate, b1=0.8, b2=0.99, eps=1e-2, bias_correction=True),
    lambda *args: notes.adam_of_the_paper(*args, beta1=0.8, beta2=0.99, eps=1e-2),
  ),
}
POINT = {
  "dense": {"w": jnp.linspace(-2, 3, 12).reshape(3, 4), "b": jnp.array([0.5, -0.25, 4.0])},
  "scale": jnp.array(1.5),
}
COUPLING = np.random.default_rng(0).normal(size=(16, 16)) / 4
CURVATURE = COUPLING @ COUPLING.T + np.diag(np.linspace(0.1, 2, 16))
NOISE = np.random.default_rng(1).normal(size=(STEPS, 16))


def gradient(x: np.ndarray, t: int) -> np.ndarray:
  """Couples all coordinates and never dies out, so that no step of a rule is a small one."""
  return CURVATURE @ x + np.sin(x) + 0.3 * NOISE[t]


def iterates(make: Callable[[optax.ScalarOrSchedule], optax.GradientTransformation]) -> dict:
  """Gives, for each decay, the parameters after every step and where the next gradient is taken.

  All decays share one compiled step, which is most of the time that this file takes.
  """
  txs = {decay: make(rate_of(decay)) for decay in RATES}
  x, unravel = ravel_pytree(POINT)
  states = {decay: tx.init(POINT) for decay, tx in txs.items()}
  is_ahead = bool(optax.tree.get_all_with_path(states["step"], "NesterovLookaheadState"))

  def step_one(tx, dx, params, state):
    updates, state = tx.update(unravel(dx), state, params)
    params = optax.apply_updates(params, updates)
    ahead = rules.lookahead_params(params, state) if is_ahead else params
    return params, state, ravel_pytree(params)[0], ravel_pytree(ahead)[0]

  step = jax.jit(lambda *args: {d: step_one(tx, *(a[d] for a in args)) for d, tx in txs.items()})
  params, at = dict.fromkeys(RATES, POINT), dict.fromkeys(RATES, x)
  rows = {decay: [] for decay in RATES}
  for t in range(STEPS):
    moved = step({d: gradient(np.asarray(x), t) for d, x in at.items()}, params, states)
    for decay, (new_params, new_state, x, x_ahead) in moved.items():
      params[decay], states[decay], at[decay] = new_params, new_state, x_ahead
      rows[decay].append((np.asarray(x), np.asarray(x_ahead)))
  return {decay: np.array(row).swapaxes(0, 1) for decay, row in rows.items()}


def rate_of(decay: str) -> optax.ScalarOrSchedule:
  return 0.05 if decay == "constant" else lambda count: RATES[decay](jnp, count)


@functools.cache
def iterates_of(rule: str) -> dict:
  return iterates(RULES[rule][0])


def reference(loop: Callable[..., Iterable], decay: str) -> np.ndarray:
  rates = [float(RATES[decay](np, t)) for t in range(STEPS)]
  return np.array(list(loop(np.asarray(ravel_pytree(POINT)[0]), gradient, rates)))


def assert_same_iterates(actual: np.ndarray, expected: np.ndarray) -> None:
  assert actual.shape == expected.shape == (STEPS, 16)
  difference = np.abs(actual - expected).max(axis=1) / np.abs(expected).max(axis=1)
  assert difference.max() <= RTOL


@pytest.mark.parametrize("decay", RATES)
@pytest.mark.parametrize("rule", RULES)
def test_rule_takes_the_steps_of_the_notes(rule, decay):
  assert_same_iterates(iterates_of(rule)[decay][0], reference(RULES[rule][1], decay))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
def test_both_forms_of_nesterov_meet_at_the_lookahead_point(momentum):
  rewritten = iterates(lambda rate: rules.nesterov(rate, momentum))
  ahead = iterates(lambda rate: rules.nesterov_lookahead(rate, momentum))
  for decay in RATES:
    assert_same_iterates(rewritten[decay][0], ahead[decay][1])


@pytest.mark.parametrize("decay", RATES)
def test_lookahead_params_are_the_x_ahead_of_the_notes(decay):
  x_ahead = reference(lambda *args: notes.nesterov_lookahead(*args, mu=0.9), decay)[:, 1]
  assert_same_iterates(iterates_of("nesterov_lookahead")[decay][1], x_ahead)


@pytest.mark.parametrize("rule", RULES)
def test_first_step_has_the_size_that_one_computes_by_hand(rule):
  rate, g = 0.5, 4.0
  expected = {
    "sgd": -2.0,
    "momentum": -2.0,
    "nesterov": -2.0 * 1.9,
    "nesterov_lookahead": -2.0,
    "adagrad": -0.5 * 4 / (4 + 1e-4),
    "adagrad with the default eps": -0.5,
    "rmsprop": -0.5 * 4 / (np.sqrt(0.05) * 4 + 1e-5),
    "adam": -0.5 * 0.1 / np.sqrt(0.001),
    "adam with a large eps": -0.5 * 0.2 * 4 / (np.sqrt(0.01) * 4 + 1e-2),
    "adam with bias correction": -0.5,
    "adam with bias correction and a large eps": -0.5 * 4 / (4 + 1e-2),
  }[rule]
  tx = RULES[rule][0](rate)
  update, _ = tx.update(jnp.array(g), tx.init(jnp.array(1.0)))
  # 1e-7: the hand leaves out the default eps of 1e-8 beside a root of 0.1 to 4.
  np.testing.assert_allclose(update, expected, rtol=1e-7)
