"""What the rules do at the edges of floating point: short dtypes, complex ones, weak ones."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt import rules

RULES = {
  name: getattr(rules, name)
  for name in rules.__all__
  if "learning_rate" in inspect.signature(getattr(rules, name)).parameters
} | {"corrected_adam": functools.partial(rules.adam, bias_correction=True)}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
MIXED = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones((), jnp.float32)}


@each_rule
def test_float32_gradients_leave_a_bfloat16_state_as_it_is(rule):
  tx = rule(0.1)
  state = tx.init(MIXED)
  gradient = jax.tree.map(lambda p: p.astype(jnp.float32), MIXED)
  _, new_state = tx.update(gradient, state, MIXED)
  chex.assert_trees_all_equal_dtypes(new_state, state)
  jax.lax.scan(lambda s, _: (tx.update(gradient, s, MIXED)[1], None), state, length=2)


@pytest.mark.parametrize(
  "theirs", [optax.sgd(0.1, momentum=0.9), optax.rmsprop(0.1), optax.adagrad(0.1), optax.adam(0.1)]
)
def test_optax_widens_its_state_there(theirs):
  params = jnp.ones(2, jnp.bfloat16)
  state = theirs.init(params)
  _, new_state = theirs.update(params.astype(jnp.float32), state, params)
  with pytest.raises(AssertionError, match="types: float32 != bfloat16"):
    chex.assert_trees_all_equal_dtypes(new_state, state)


@pytest.mark.parametrize(
  ("make", "field"),
  [
    (lambda dtype: rules.momentum(0.1, accumulator_dtype=dtype), "velocity"),
    (lambda dtype: rules.nesterov(0.1, accumulator_dtype=dtype), "velocity"),
    (lambda dtype: rules.nesterov_lookahead(0.1, accumulator_dtype=dtype), "velocity"),
    (lambda dtype: rules.adagrad(0.1, accumulator_dtype=dtype), "sum_of_squares"),
    (lambda dtype: rules.rmsprop(0.1, accumulator_dtype=dtype), "nu"),
    (lambda dtype: rules.adam(0.1, mu_dtype=dtype), "mu"),
    (lambda dtype: rules.adam(0.1, nu_dtype=dtype), "nu"),
  ],
)
def test_accumulator_dtype_holds_from_init_on(make, field):
  for dtype in ("float32", "bfloat16", jnp.float64):
    tx = make(dtype)
    state = tx.init(MIXED)
    updates, new_state = tx.update(MIXED, state, MIXED)
    for s in (state, new_state):
      assert {leaf.dtype for leaf in optax.tree.get(s, field).values()} == {jnp.dtype(dtype)}
    chex.assert_trees_all_equal_dtypes(updates, MIXED)


@each_rule
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("compiled", [False, True])
def test_injected_hyperparams_in_short_dtypes_are_finite(rule, dtype, compiled):
  params = jnp.array([1.0, 0.0], dtype)
  tx = optax.inject_hyperparams(rule)(0.1)
  update = jax.jit(tx.update) if compiled else tx.update
  state = tx.init(params)
  for _ in range(3):
    updates, state = update(params, state, params)
    chex.assert_tree_all_finite((updates, state))


def test_injected_adam_of_optax_is_nan_in_bfloat16():
  params = jnp.ones(2, jnp.bfloat16)
  tx = optax.inject_hyperparams(optax.adam)(0.1)
  updates, _ = tx.update(params, tx.init(params), params)
  assert jnp.all(jnp.isnan(updates))


@each_rule
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
@pytest.mark.parametrize("eps", [None, 0.0])
def test_zero_gradient_gives_a_zero_update(rule, dtype, eps):
  if eps is not None and "eps" not in inspect.signature(rule).parameters:
    rule = functools.partial(rule)  # has no eps: the case is the one above, and must hold alike
  elif eps is not None:
    rule = functools.partial(rule, eps=eps)
  params = jnp.ones(2, dtype)
  updates, _ = rule(0.1).update(jnp.zeros_like(params), rule(0.1).init(params), params)
  np.testing.assert_array_equal(updates, jnp.zeros_like(params))


def test_zero_gradient_makes_adam_of_optax_nan_in_float16():
  params = jnp.ones(2, jnp.float16)
  tx = optax.adam(0.1)
  updates, _ = tx.update(jnp.zeros_like(params), tx.init(params), params)
  assert jnp.all(jnp.isnan(updates))


@each_rule
def test_complex_gradient_on_an_axis_is_the_real_rule_there(rule):
  real = jnp.array([1.0, -2.0, 0.0])
  expected, _ = steps(rule, real)
  for unit in (1, 1j, -1j):
    updates, _ = steps(rule, real * unit)
    np.testing.assert_allclose(updates, expected * unit, rtol=1e-14, atol=1e-16)


def steps(rule, gradient: jax.Array) -> tuple:
  tx = rule(0.1)
  state = tx.init(gradient)
  for _ in range(3):
    updates, state = tx.update(gradient, state, gradient)
  return updates, state


@each_rule
def test_turning_a_complex_gradient_turns_the_update(rule):
  """The modulus alone decides on the length of a step, so no axis of the plane is special."""
  gradient = jnp.array([1.0 + 2.0j, -0.5 + 0.1j])
  turn = jnp.exp(0.7j)
  updates, _ = steps(rule, gradient)
  turned, _ = steps(rule, gradient * turn)
  np.testing.assert_allclose(turned, updates * turn, rtol=1e-13)


@pytest.mark.parametrize("rule", [rules.adagrad, rules.rmsprop, rules.adam])
def test_second_moments_of_complex_parameters_are_real(rule):
  _, state = steps(rule, jnp.array([1.0 + 2.0j], jnp.complex64))
  second = optax.tree.get(state, "nu", optax.tree.get(state, "sum_of_squares"))
  assert second.dtype == jnp.float32
  assert jnp.all(second > 0)


def test_real_gradient_may_have_a_complex_accumulator():
  tx = rules.momentum(0.1, accumulator_dtype=jnp.complex64)
  params = jnp.ones(2, jnp.float32)
  updates, state = tx.update(params, tx.init(params), params)
  assert updates.dtype == jnp.float32
  assert optax.tree.get(state, "velocity").dtype == jnp.complex64


@each_rule
@pytest.mark.parametrize("params", [1.0, np.float32(1.0), np.ones(3), jnp.asarray(1.0)])
def test_numbers_numpy_arrays_and_weak_types_are_parameters_too(rule, params):
  tx = rule(0.1)
  state = tx.init(params)
  assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
  updates, new_state = tx.update(params, state, params)
  chex.assert_trees_all_equal_dtypes(new_state, state)
  expected, _ = tx.update(jnp.array(params), tx.init(jnp.array(params)), jnp.array(params))
  np.testing.assert_array_equal(updates, expected)


@pytest.mark.parametrize("zero", [0, np.float64(0.0), jnp.int32(0), jnp.float32(0)])
@pytest.mark.parametrize("rule", [rules.momentum, rules.nesterov, rules.nesterov_lookahead])
def test_momentum_of_zero_is_sgd_whatever_its_type(rule, zero):
  params = jnp.array([1.0, -2.0])
  for update in (rule(0.1, zero).update, jax.jit(rule(0.1, zero).update)):
    updates, _ = update(params, rule(0.1, zero).init(params), params)
    np.testing.assert_allclose(updates, -0.1 * params, rtol=1e-15)


@pytest.mark.parametrize(("b1", "b2"), [(0.0, 0.0), (0, 0.999), (0.9, 0)])
def test_adam_without_memory_is_finite(b1, b2):
  tx = rules.adam(0.1, b1, b2, bias_correction=True)
  params = jnp.array([1.0, -2.0, 0.0])
  updates, _ = tx.update(params, tx.init(params), params)
  np.testing.assert_allclose(updates, [-0.1, 0.1, 0.0], rtol=1e-7)


def test_float64_runs_in_float64():
  tx = rules.adam(0.1, bias_correction=True)
  params = jnp.array([1.0 + 1e-12])
  updates, _ = tx.update(params, tx.init(params), params)
  np.testing.assert_allclose(updates, -0.1 / (1 + 1e-8), rtol=1e-14)
