"""What the docstrings of the rules say in numbers, and of Optax, is measured here."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt import rules
from kinkopt._numerics import machine_eps
from kinkopt.rules._common import bias_correction, keep_and_add

GRADIENT = {"w": jnp.array([[3.0, -0.5], [1e-3, 40.0]]), "b": jnp.array(-2.0)}


def run(tx: optax.GradientTransformation, gradient: optax.Params, steps: int) -> tuple:
  """Takes `steps` steps from 0 on a steady slope; gives displacement, state and updates."""
  params = jax.tree.map(jnp.zeros_like, gradient)

  def step(carry, _):
    params, state = carry
    updates, state = tx.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), updates

  (params, state), updates = jax.lax.scan(step, (params, tx.init(params)), length=steps)
  return params, state, updates


def falling(count: jax.Array) -> jax.Array:
  return 0.1 * 0.96**count


def wobbling(tx: optax.GradientTransformation) -> optax.Params:
  """Takes 20 steps whose gradient changes sign and size."""
  params = jax.tree.map(jnp.zeros_like, GRADIENT)
  state = tx.init(params)
  for t in range(20):
    gradient = jax.tree.map(lambda g: g * jnp.sin(1.0 + t), GRADIENT)  # noqa: B023
    updates, state = tx.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  return params


def test_momentum_of_optax_goes_26_percent_less_far_under_a_falling_rate():
  ours, _, _ = run(rules.momentum(falling, momentum=0.9), jnp.array(1.0), 500)
  theirs, _, _ = run(optax.sgd(falling, momentum=0.9), jnp.array(1.0), 500)
  # Every step a_t ends 1 / (1 - mu) times as long: 0.1 / 0.04 * 10.
  np.testing.assert_allclose(ours, -25.0, rtol=1e-8)
  np.testing.assert_allclose(1 - theirs / ours, 0.2647, atol=1e-4)


@pytest.mark.parametrize(
  ("ours", "theirs"),
  [
    (rules.sgd(falling), optax.sgd(falling)),
    (
      rules.momentum(falling, 0.9),
      optax.chain(optax.scale_by_learning_rate(falling), optax.trace(0.9)),
    ),
    (
      rules.nesterov(falling, 0.9),
      optax.chain(optax.scale_by_learning_rate(falling), optax.trace(0.9, nesterov=True)),
    ),
    (rules.momentum(0.1, 0.9), optax.sgd(0.1, momentum=0.9)),
    (rules.nesterov(0.1, 0.9), optax.sgd(0.1, momentum=0.9, nesterov=True)),
    (rules.scale_by_momentum(0.9), optax.trace(0.9)),
    (rules.scale_by_nesterov(0.9), optax.trace(0.9, nesterov=True)),
    # eps stands elsewhere in the two; with neither eps nor start they agree.
    (
      rules.adagrad(0.1, eps=0.0),
      optax.adagrad(0.1, initial_accumulator_value=0.0, eps=0.0),
    ),
    (rules.rmsprop(0.1, 0.9, 1e-3), optax.rmsprop(0.1, 0.9, 1e-3, eps_in_sqrt=False)),
    (rules.scale_by_rmsprop(0.9, 1e-3), optax.scale_by_rms(0.9, 1e-3, eps_in_sqrt=False)),
    (rules.adam(0.1, 0.8, 0.99, 1e-3, bias_correction=True), optax.adam(0.1, 0.8, 0.99, 1e-3)),
    (rules.scale_by_adam(bias_correction=True), optax.scale_by_adam()),
  ],
)
def test_rule_equals_what_its_docstring_names_in_optax(ours, theirs):
  # Twenty steps of about ten roundings each; 1 - b2**t in optax.adam is worth up to 1e3 more.
  chex.assert_trees_all_close(wobbling(ours), wobbling(theirs), rtol=1e-12)


@pytest.mark.parametrize(
  ("ours", "theirs"),
  [
    (rules.momentum(falling, 0.9), optax.sgd(falling, momentum=0.9)),
    (rules.nesterov(falling, 0.9), optax.sgd(falling, momentum=0.9, nesterov=True)),
    (rules.adagrad(0.1), optax.adagrad(0.1)),
    (rules.rmsprop(0.1), optax.rmsprop(0.1)),
    (rules.adam(0.1), optax.adam(0.1)),
  ],
)
def test_rule_differs_from_the_namesake_in_optax_where_its_docstring_says_so(ours, theirs):
  gaps = jax.tree.map(lambda a, b: jnp.max(jnp.abs(1 - b / a)), wobbling(ours), wobbling(theirs))
  assert max(jax.tree.leaves(gaps)) > 0.01


def test_rate_of_zero_lets_momentum_coast_and_stops_sgd():
  stopping = lambda count: jnp.where(count < 1, 1.0, 0.0)  # noqa: E731
  updates = run(rules.momentum(stopping, momentum=0.5), jnp.array(1.0), 4)[2]
  np.testing.assert_array_equal(updates, [-1.0, -0.5, -0.25, -0.125])
  np.testing.assert_array_equal(run(rules.sgd(stopping), jnp.array(1.0), 4)[2], [-1, 0, 0, 0])


@pytest.mark.parametrize(("gradient", "shorter"), [(1.0, 0.05), (0.3, 0.31), (0.1, 0.70)])
def test_first_step_of_adagrad_in_optax_is_shorter(gradient, shorter):
  ours, _, _ = run(rules.adagrad(0.1), jnp.array(gradient), 1)
  theirs, _, _ = run(optax.adagrad(0.1), jnp.array(gradient), 1)
  np.testing.assert_allclose(1 - theirs / ours, shorter, atol=5e-3)


def test_rmsprop_of_optax_bounds_the_root_from_below():
  tiny = jnp.array(1e-9)
  ours, _, _ = run(rules.rmsprop(0.1), tiny, 1)
  theirs, _, _ = run(optax.rmsprop(0.1), tiny, 1)
  np.testing.assert_allclose(theirs, -0.1 * 1e-9 / 1e-4, rtol=1e-3)
  np.testing.assert_allclose(ours, -0.1 * 1e-9 / (np.sqrt(0.1) * 1e-9 + 1e-8), rtol=1e-12)


def test_adam_without_correction_takes_long_steps_for_a_long_time():
  lengths = np.asarray(-run(rules.adam(1.0), jnp.array(1.0), 4000)[2])
  np.testing.assert_allclose(lengths[0], 3.162, atol=1e-3)
  assert lengths.argmax() == 11
  np.testing.assert_allclose(lengths[11], 6.57, atol=1e-2)
  assert lengths[1740] > 1.1 > lengths[1760]


def test_rmsprop_starts_with_a_long_step():
  lengths = -run(rules.rmsprop(1.0), jnp.array(1.0), 1)[2]
  np.testing.assert_allclose(lengths, 3.162, atol=1e-3)


def test_bias_correction_keeps_the_digits_that_cancellation_loses():
  counts = np.unique(np.logspace(0, 5, 300).astype(np.int32))
  with jax.enable_x64(False):
    ours = np.asarray(jax.jit(lambda t: bias_correction(0.999, t))(counts), np.float64)
    naive = np.asarray(1 - jnp.float32(0.999) ** jnp.asarray(counts), np.float64)
  exact = -np.expm1(counts * np.log(0.999))
  assert np.abs(ours / exact - 1).max() < 4e-7
  assert 1e-5 < np.abs(naive / exact - 1).max() < 3e-5


def test_weight_of_the_new_loses_digits_in_float32_only():
  assert keep_and_add(0.999) == (0.999, 1 - 0.999)
  _, add = keep_and_add(jnp.float32(0.999))
  np.testing.assert_allclose(1 - float(add) / 0.001, 1.29e-5, rtol=1e-2)


def test_array_rate_of_optax_widens_the_update_and_ours_does_not():
  gradient = jnp.ones(2, jnp.bfloat16)
  rate = jnp.float32(0.1)
  theirs, _ = optax.sgd(rate).update(gradient, optax.sgd(rate).init(gradient))
  ours, _ = rules.sgd(rate).update(gradient, rules.sgd(rate).init(gradient))
  assert (theirs.dtype, ours.dtype) == (jnp.float32, jnp.bfloat16)


@pytest.mark.parametrize(
  ("rule", "field", "threshold"),
  [
    # Half of float16's least number, 2**-25, over the weight of a new square; then the root.
    (rules.adagrad(0.1), "sum_of_squares", 1.7e-4),
    (rules.rmsprop(0.1), "nu", 5.4e-4),
    (rules.adam(0.1), "nu", 5.4e-3),
  ],
)
def test_float16_loses_the_squares_of_small_gradients(rule, field, threshold):
  def cache(gradient: float, dtype: jnp.dtype | None = None) -> jax.Array:
    tx = rule if dtype is None else wide[field]
    return optax.tree.get(tx.update(jnp.float16(gradient), tx.init(jnp.float16(0)))[1], field)

  wide = {
    "sum_of_squares": rules.adagrad(0.1, accumulator_dtype=jnp.float32),
    "nu": rules.adam(0.1, nu_dtype=jnp.float32),
  }
  assert cache(0.99 * threshold) == 0
  assert cache(1.05 * threshold) > 0
  assert cache(0.99 * threshold, jnp.float32) > 0


def test_float16_sum_of_adagrad_overflows_past_65504():
  tx = rules.adagrad(0.1)
  _, state = tx.update(jnp.float16(256.0), tx.init(jnp.float16(0)))
  assert jnp.isinf(optax.tree.get(state, "sum_of_squares"))
  _, state = tx.update(jnp.float16(255.0), tx.init(jnp.float16(0)))
  assert jnp.isfinite(optax.tree.get(state, "sum_of_squares"))


@pytest.mark.parametrize("kept", [1.0, 1.25, 1.5, 1.9921875])
def test_bfloat16_loses_an_addend_below_one_512th(kept):
  below, above = kept / 514, kept / 250
  for addend, is_lost in ((below, True), (above, False)):
    tx = rules.scale_by_momentum(0.5)
    state = tx.init(jnp.bfloat16(0))._replace(velocity=jnp.bfloat16(2 * kept))
    _, state = tx.update(jnp.float32(addend), state)
    assert (state.velocity == jnp.bfloat16(kept)) == is_lost
    tx = rules.scale_by_adagrad()
    state = tx.init(jnp.bfloat16(0))._replace(sum_of_squares=jnp.bfloat16(kept))
    _, state = tx.update(jnp.sqrt(jnp.float32(addend)), state)
    assert (state.sum_of_squares == jnp.bfloat16(kept)) == is_lost


def test_bfloat16_freezes_the_second_moment_of_adam():
  gradient = jnp.bfloat16(1.0)
  assert optax.tree.get(run(rules.adam(0.1), gradient, 20_000)[1], "nu") == 0.25
  wide = run(rules.adam(0.1, nu_dtype=jnp.float32), gradient, 20_000)[1]
  np.testing.assert_allclose(optax.tree.get(wide, "nu"), 1.0, rtol=1e-4)
  tx = rules.scale_by_adam()
  falls = tx.init(gradient)._replace(nu=jnp.bfloat16(100.0))
  assert tx.update(gradient, falls)[1].nu == 100.0


def test_decay_that_rounds_to_one_is_taken_as_the_number_below():
  kept, add = keep_and_add(jnp.bfloat16(0.999))
  assert (kept, add) == (1 - machine_eps("bfloat16") / 2, machine_eps("bfloat16") / 2)
  np.testing.assert_allclose(float(kept), 0.996, atol=2e-4)
