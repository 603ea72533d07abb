"""Newton inside what Optax and JAX wrap around a transform."""

import functools
import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt.newton import Outcome, newton, outcome, scale_by_newton
from tests.conformance.checks import assert_same_signature

PARAMS = {"w": jnp.array([1.0, -0.5]), "b": jnp.array(0.3, float)}
assert_trees_close = functools.partial(chex.assert_trees_all_close, rtol=1e-14)


def loss(params, batch=2.0):
  return jnp.sum(jnp.cosh(params["w"])) + batch * params["b"] ** 2 + jnp.sum(params["w"]) ** 2


def updated(tx, params=PARAMS, state=None, grads=None, **extra_args):
  grads = jax.grad(loss)(params) if grads is None else grads
  state = tx.init(params) if state is None else state
  return tx.update(grads, state, params, **{"value_fn": loss, **extra_args})


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, np.float32, np.complex64])
def test_the_state_keeps_its_tree_and_dtypes(dtype, x64):
  with jax.enable_x64(x64):
    params = {"w": jnp.ones(3, dtype), "empty": jnp.zeros((0, 2), dtype)}

    def square(p):
      return jnp.sum(jnp.abs(p["w"]) ** 2)

    tx = newton()
    state = tx.init(params)
    updates, new_state = jax.jit(lambda g, s, p: tx.update(g, s, p, value_fn=square))(
      params, state, params
    )
    assert_same_signature(new_state, state)
    assert_same_signature(updates, params)
    assert jax.eval_shape(tx.init, params) == jax.eval_shape(lambda: state)
    chex.assert_tree_all_finite(state)


def test_the_state_hides_nothing_from_the_readers_of_line_searches():
  fields = scale_by_newton().init(PARAMS)._fields
  assert fields == ("count", "outcome", "shift")
  assert not {"value", "grad", "learning_rate"} & set(fields)


@pytest.mark.parametrize("store_grad", [False, True])
def test_value_and_grad_from_state_finds_those_of_the_line_search(store_grad):
  search = optax.scale_by_backtracking_linesearch(20, store_grad=store_grad)
  tx = optax.chain(scale_by_newton(), optax.scale(-1), search)
  params, state = PARAMS, tx.init(PARAMS)
  for _ in range(6):
    if store_grad:
      value, grads = optax.value_and_grad_from_state(loss)(params, state=state)
    else:
      value, grads = jax.value_and_grad(loss)(params)
    updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)
    params = optax.apply_updates(params, updates)
  # The search compares values, which say nothing closer than sqrt(machine_eps) to a minimum.
  assert optax.tree.norm(params) < 1e-8


def test_it_takes_the_place_of_lbfgs_in_optaxs_own_chain():
  tx = optax.chain(
    scale_by_newton(),
    optax.scale_by_learning_rate(1.0),
    optax.scale_by_zoom_linesearch(20, initial_guess_strategy="one"),
  )
  value, grads = jax.value_and_grad(loss)(PARAMS)
  updates, state = updated(tx, value=value, grad=grads)
  assert loss(optax.apply_updates(PARAMS, updates)) < value
  assert outcome(state) is Outcome.NEWTON


def test_extra_arguments_reach_value_fn_by_name_and_others_are_left_alone():
  tx = scale_by_newton()
  grads = jax.grad(loss)(PARAMS, 5.0)
  got, _ = updated(tx, grads=grads, batch=5.0, other="not an argument of loss")
  want, _ = updated(tx, grads=grads, value_fn=lambda params: loss(params, 5.0))
  without, _ = updated(tx, grads=grads)
  assert_trees_close(got, want)
  assert abs(got["b"] - without["b"]) > 0.1  # the default, 2, is another Hessian


def test_named_arguments_reach_a_jitted_and_a_partial_value_fn():
  want, _ = updated(scale_by_newton(), batch=5.0)
  for value_fn in (jax.jit(loss), jax.tree_util.Partial(loss)):
    assert_trees_close(updated(scale_by_newton(), value_fn=value_fn, batch=5.0)[0], want)


def test_a_jitted_step_is_compiled_once_and_its_buffers_can_be_donated(compilations):
  tx = newton()

  @jax.jit
  def init(params):
    return tx.init(params)

  def step(params, state):
    updates, state = updated(tx, params, state)
    return optax.apply_updates(params, updates), state

  step = jax.jit(step, donate_argnums=(0, 1))
  params = jax.tree.map(jnp.copy, PARAMS)
  state = init(params)
  for _ in range(3):
    params, state = step(params, state)
  assert compilations("step") == 1
  assert state.count == 3


def test_scan_takes_the_steps_of_a_loop():
  tx = newton()

  def step(carry, _):
    params, state = carry
    updates, state = updated(tx, params, state)
    return (optax.apply_updates(params, updates), state), None

  start = PARAMS, tx.init(PARAMS)
  scanned, _ = jax.jit(lambda c: jax.lax.scan(step, c, length=4))(start)
  looped = start
  for _ in range(4):
    looped, _ = step(looped, None)
  assert_trees_close(scanned, looped, rtol=1e-12)


def test_inject_hyperparams_holds_the_damping():
  tx = optax.inject_hyperparams(scale_by_newton)(damping=0.5)
  got, state = updated(tx)
  want, _ = updated(scale_by_newton(0.5))
  assert_trees_close(got, want)
  state.hyperparams["damping"] = jnp.array(3.0)
  assert_trees_close(updated(tx, state=state)[0], updated(scale_by_newton(3.0))[0])
  assert outcome(state) is Outcome.NEWTON
  assert_trees_close(updated(optax.inject_hyperparams(newton)())[0], updated(newton())[0])


def test_damping_may_be_a_schedule():
  tx = scale_by_newton(lambda count: 1.0 + count)
  got, state = updated(tx)
  assert_trees_close(got, updated(scale_by_newton(1.0))[0])
  assert_trees_close(updated(tx, state=state)[0], updated(scale_by_newton(2.0))[0])


def test_vmap_over_damping_and_parameters_gives_what_lone_runs_give():
  dampings = jnp.array([0.0, 0.1, 10.0])
  population = jax.tree.map(lambda p: jnp.stack([p, 2 * p, -p]), PARAMS)

  def one(damping, params):
    return updated(scale_by_newton(damping), params)

  updates, state = jax.vmap(one)(dampings, population)
  for member in range(3):
    pick = operator.itemgetter(member)
    lone, _ = one(float(dampings[member]), jax.tree.map(pick, population))
    assert_trees_close(jax.tree.map(pick, updates), lone, rtol=1e-13)
    assert outcome(jax.tree.map(pick, state)) is Outcome.NEWTON


def test_a_batch_of_ten_thousand_finishes():
  # jaxlib 0.10.2 hangs for ever in some batched linear algebra of this size under `cond`.
  points = jax.random.normal(jax.random.key(0), (10_000, 4), np.float32) * 3

  def value(x):
    return jnp.sum(jnp.cos(x)) + 0.01 * x @ x

  tx = newton()

  def step(x):
    return tx.update(jax.grad(value)(x), tx.init(x), x, value_fn=value)

  updates, state = jax.jit(jax.vmap(step))(points)
  assert jnp.isfinite(updates).all()
  slopes = jnp.sum(updates * jax.vmap(jax.grad(value))(points), axis=1)
  assert (slopes < 0).all()
  assert set(np.unique(state.outcome)) <= {
    code.code for code in (Outcome.NEWTON, Outcome.SHIFTED, Outcome.DAMPED)
  }


def test_multi_steps_takes_the_hessian_of_the_last_call():
  tx = optax.MultiSteps(newton(), every_k_schedule=2)
  first, state = updated(tx, grads=jax.grad(loss)(PARAMS, 1.0), batch=1.0)
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(first))
  second, state = updated(tx, grads=jax.grad(loss)(PARAMS, 3.0), state=state, batch=3.0)
  want, _ = updated(newton(), grads=jax.grad(loss)(PARAMS, 2.0), batch=3.0)
  assert_trees_close(second, want, rtol=1e-6)  # MultiSteps averages in float32
  assert outcome(state) is Outcome.NEWTON


def test_apply_if_finite_skips_and_counts_a_nan_gradient():
  tx = optax.apply_if_finite(newton(), max_consecutive_errors=3)
  nan = jax.tree.map(lambda p: p * jnp.nan, PARAMS)
  updates, state = updated(tx, grads=nan)
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(updates))
  assert state.total_notfinite == 1
  assert outcome(state) is Outcome.NOT_STARTED
  assert outcome(updated(tx, state=state)[1]) is Outcome.NEWTON


def test_flatten_hands_value_fn_one_vector():
  tx = optax.flatten(newton())
  unravel = jax.flatten_util.ravel_pytree(PARAMS)[1]
  updates, _ = updated(tx, value_fn=lambda vector: loss(unravel(vector)))
  assert_trees_close(updates, updated(newton())[0])


@pytest.mark.parametrize("params", [{}, {"a": None}, {"a": jnp.zeros((0, 3))}])
def test_trees_without_coordinates_pass_through(params):
  tx = newton()
  updates, state = updated(tx, params, grads=params, value_fn=lambda p: 0.0)
  chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
  assert state.count == 1
  assert outcome(state) is Outcome.NEWTON


def test_none_leaves_and_python_numbers_are_parameters_too():
  params = {"a": None, "b": 2.0}
  updates, _ = updated(
    newton(), params, grads={"a": None, "b": 8.0}, value_fn=lambda p: 2 * p["b"] ** 2
  )
  assert updates["a"] is None
  assert updates["b"] == -2


def test_the_outcome_is_found_in_any_chain():
  tx = optax.chain(
    optax.clip(1.0), optax.named_chain(("newton", newton()), ("last", optax.scale(1.0)))
  )
  assert outcome(tx.init(PARAMS)) is Outcome.NOT_STARTED
  assert outcome(updated(tx)[1]) is Outcome.NEWTON
