"""`update_ratio` inside what users put around it; and where `optax.monitor` cannot go."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import NamedSharding, PartitionSpec

import kinkopt
from kinkopt.monitor import UpdateRatioState, find_update_ratio, read_update_ratios, update_ratio

PARAMS = {"b": jnp.array([0.5, -1.0]), "w": jnp.array([[1.0, 2.0], [-3.0, 4.0]])}


def _gradient(params):
  return jax.tree.map(jnp.sin, params)


def _run(tx, params, steps, gradient=_gradient):
  """Takes steps in a Python loop; gives the parameters, the state and the history of ratios."""
  state, history = tx.init(params), []
  for _ in range(steps):
    updates, state = tx.update(gradient(params), state, params)
    params = optax.apply_updates(params, updates)
    history.append(find_update_ratio(state).ratio)
  return params, state, jnp.stack(history)


def _scan(tx, params, steps):
  def step(carry, _):
    params, state = carry
    updates, state = tx.update(_gradient(params), state, params)
    return (optax.apply_updates(params, updates), state), find_update_ratio(state)

  return jax.lax.scan(step, (params, tx.init(params)), length=steps)


def _watched(rule=None):
  return optax.chain(kinkopt.rules.adam(0.01) if rule is None else rule, update_ratio())


def _by_optax(measure=None):
  return optax.chain(optax.adam(0.01), optax.monitor({"norm": measure or optax.tree.norm}))


def test_scan_stacks_a_history():
  (_, state), history = _scan(_watched(), PARAMS, 20)
  assert history.ratio.shape == (20, 2)
  assert history.overall.shape == (20,)
  _, expected_state, expected = _run(_watched(), PARAMS, 20)
  # The same operations, fused otherwise: some roundings a step.
  np.testing.assert_allclose(history.ratio, expected, rtol=1e-13)
  np.testing.assert_allclose(
    find_update_ratio(state).overall, find_update_ratio(expected_state).overall, rtol=1e-13
  )
  by_name = read_update_ratios(history, PARAMS)
  np.testing.assert_array_equal(by_name["['w']"], history.ratio[:, 1])


def test_optax_monitor_fails_in_scan():
  tx = _by_optax()

  def step(carry, _):
    params, state = carry
    updates, state = tx.update(_gradient(params), state, params)
    return (optax.apply_updates(params, updates), state), None

  with pytest.raises(TypeError, match="carry"):
    jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), length=3)


def test_multi_steps_measures_the_steps_that_are_taken():
  tx = optax.MultiSteps(_watched(), 3, accumulator_dtype=jnp.float64)
  params, state = PARAMS, tx.init(PARAMS)
  step, history = jax.jit(tx.update), []
  for _ in range(6):
    updates, state = step(_gradient(params), state, params)
    params = optax.apply_updates(params, updates)
    history.append(find_update_ratio(state).ratio)
  # The parameters rest while gradients gather, so their mean is the gradient: two plain steps.
  _, _, expected = _run(_watched(), PARAMS, 2)
  nothing = jnp.zeros(2)
  in_turn = [nothing, nothing, expected[0], expected[0], expected[0], expected[1]]
  np.testing.assert_allclose(history, in_turn, rtol=1e-13)


def test_behind_multi_steps_the_waiting_is_measured_too():
  tx = optax.chain(optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(), update_ratio())
  _, _, history = _run(tx, PARAMS, 4)
  np.testing.assert_array_equal(history > 0, [[False] * 2, [True] * 2] * 2)


def test_optax_monitor_fails_in_multi_steps():
  tx = optax.MultiSteps(_by_optax(), 3)
  with pytest.raises(
    ValueError,
    match=r"different numbers of pytree children at key path\s+tree_map tree\[1\]\.measure",
  ):
    tx.update(_gradient(PARAMS), tx.init(PARAMS), PARAMS)


def test_apply_if_finite_keeps_the_last_good_measurement():
  tx = optax.apply_if_finite(_watched(), max_consecutive_errors=2)
  state = tx.init(PARAMS)
  _, good = jax.jit(tx.update)(_gradient(PARAMS), state, PARAMS)
  bad_gradient = jax.tree.map(lambda p: p * jnp.nan, PARAMS)
  _, after_bad = jax.jit(tx.update)(bad_gradient, good, PARAMS)
  assert read_update_ratios(good, PARAMS) == read_update_ratios(after_bad, PARAMS)
  assert all(ratio > 0 for ratio in read_update_ratios(good, PARAMS).values())


def test_optax_monitor_fails_in_apply_if_finite():
  tx = optax.apply_if_finite(_by_optax(), max_consecutive_errors=2)
  with pytest.raises(TypeError, match="cond"):
    tx.update(_gradient(PARAMS), tx.init(PARAMS), PARAMS)


@pytest.mark.parametrize(
  "wrap",
  [
    lambda tx: optax.named_chain(("clip", optax.clip(10.0)), ("watched", tx)),
    lambda tx: optax.chain(optax.identity(), optax.chain(tx)),
    lambda tx: optax.inject_hyperparams(lambda learning_rate: _watched(optax.adam(learning_rate)))(
      learning_rate=0.01
    ),
    lambda tx: optax.masked(tx, {"b": True, "w": True}),
    lambda tx: optax.masked(tx, True),
    lambda tx: optax.partition({"all": tx}, {"b": "all", "w": "all"}),
    lambda tx: optax.with_extra_args_support(tx),
    lambda tx: optax.conditionally_transform(tx, lambda step: step >= 0),
  ],
  ids=["named", "nested", "inject", "masked", "mask-prefix", "partition", "extra-args", "cond"],
)
def test_is_found_with_the_same_numbers_inside(wrap):
  tx = _watched(optax.adam(0.01))
  _, _, expected = _run(tx, PARAMS, 3)
  _, state, history = _run(wrap(tx), PARAMS, 3)
  np.testing.assert_allclose(history, expected, rtol=1e-13)
  assert list(read_update_ratios(state, PARAMS)) == ["['b']", "['w']"]


def test_lookahead_measures_the_fast_parameters_and_its_reset_leaves_no_nan():
  tx = optax.lookahead(_watched(), sync_period=2, slow_step_size=0.5, reset_state=True)
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)  # ratios of infinity, in which 0 * inf would be NaN
  params = optax.LookaheadParams.init_synced(zeros)
  state = tx.init(params)
  ones = jax.tree.map(jnp.ones_like, PARAMS)
  updates, state = tx.update(ones, state, params)
  assert read_update_ratios(state, params.fast) == {"['b']": np.inf, "['w']": np.inf}
  params = optax.apply_updates(params, updates)
  _, state = tx.update(ones, state, params)
  assert read_update_ratios(state, params.fast) == {"['b']": 0, "['w']": 0}


def test_flatten_measures_the_whole_as_one_leaf():
  _, state, _ = _run(optax.flatten(_watched()), PARAMS, 1)
  _, expected, _ = _run(_watched(), PARAMS, 1)
  np.testing.assert_allclose(
    find_update_ratio(state).ratio[0], find_update_ratio(expected).overall, rtol=1e-13
  )


@pytest.mark.parametrize("donate", [(), (0, 1)], ids=["kept", "donated"])
def test_jit_compiles_once(donate, compilations):
  tx = _watched()

  @functools.partial(jax.jit, donate_argnums=donate)
  def step(params, state):
    updates, state = tx.update(_gradient(params), state, params)
    return optax.apply_updates(params, updates), state

  params, state = jax.tree.map(jnp.copy, PARAMS), tx.init(PARAMS)
  first = params
  for _ in range(3):
    params, state = step(params, state)
  assert compilations("step") == 1
  assert first["w"].is_deleted() == bool(donate)
  _, expected, _ = _run(tx, PARAMS, 3)
  np.testing.assert_allclose(
    find_update_ratio(state).ratio, find_update_ratio(expected).ratio, rtol=1e-13
  )


def test_a_population_is_measured_member_by_member():
  rates = jnp.array([0.1, 0.01, 0.001])
  keys = jax.random.split(jax.random.key(1), 3)
  population = jax.vmap(lambda key: jax.tree.map(lambda p: p + jax.random.normal(key), PARAMS))(
    keys
  )

  def train(params, rate):
    (_, state), _ = _scan(_watched(kinkopt.rules.sgd(rate)), params, 5)
    return state

  states = jax.vmap(train)(population, rates)
  measured = find_update_ratio(states)
  assert measured.ratio.shape == (3, 2)
  assert measured.overall.shape == (3,)
  by_name = read_update_ratios(states, PARAMS)
  for member in range(3):
    lone = train(jax.tree.map(lambda p, m=member: p[m], population), rates[member])
    alone = find_update_ratio(lone)
    np.testing.assert_allclose(measured.ratio[member], alone.ratio, rtol=1e-14)
    np.testing.assert_allclose(measured.overall[member], alone.overall, rtol=1e-14)
    np.testing.assert_array_equal(by_name["['w']"][member], measured.ratio[member, 1])


@pytest.mark.parametrize("axis_type", list(jax.sharding.AxisType)[:2], ids=lambda t: t.name)
def test_eight_devices_measure_what_one_does(axis_type):
  mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type,) * 2)
  keys = jax.random.split(jax.random.key(2), 3)
  params = {
    "b": jax.random.normal(keys[0], (8,)),
    "scale": jax.random.normal(keys[1], ()),
    "w": jax.random.normal(keys[2], (16, 8)),
  }
  specs = {"b": PartitionSpec("y"), "scale": PartitionSpec(), "w": PartitionSpec("x", "y")}
  sharded = jax.tree.map(lambda p, s: jax.device_put(p, NamedSharding(mesh, s)), params, specs)

  @jax.jit
  def step(params, state):
    updates, state = tx.update(_gradient(params), state, params)
    return optax.apply_updates(params, updates), state

  tx = _watched(kinkopt.rules.sgd(0.01))
  single, state = step(params, tx.init(params))
  with jax.set_mesh(mesh):
    many, sharded_state = step(sharded, tx.init(sharded))
    many, sharded_state = step(many, sharded_state)
  single, state = step(single, state)
  # The squares are summed in another order.
  np.testing.assert_allclose(
    find_update_ratio(sharded_state).ratio, find_update_ratio(state).ratio, rtol=1e-14
  )
  assert many["w"].sharding.is_equivalent_to(sharded["w"].sharding, 2)
  by_name = read_update_ratios(sharded_state, sharded)
  assert by_name == pytest.approx(read_update_ratios(state, params), rel=1e-14)


def test_nothing_larger_than_a_scalar_travels_between_devices():
  mesh = jax.make_mesh((8,), ("x",))
  leaf = jax.device_put(jnp.ones((64, 16)), NamedSharding(mesh, PartitionSpec("x")))
  tx = update_ratio()
  text = jax.jit(tx.update).lower(leaf, tx.init(leaf), leaf).compile().as_text()
  assert "all-reduce" in text
  assert "all-gather" not in text


def test_works_with_flax_and_equinox():
  tx = _watched()
  train_state = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
  train_state = train_state.apply_gradients(grads=_gradient(PARAMS))
  _, expected, _ = _run(tx, PARAMS, 1)
  assert read_update_ratios(train_state, PARAMS) == read_update_ratios(expected, PARAMS)

  model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  gradient = nnx.grad(lambda model: jnp.sum(model(jnp.ones((1, 2))) ** 2))(model)
  params = nnx.state(model, nnx.Param)
  optimizer.update(model, gradient)
  ratios = read_update_ratios(optimizer.opt_state, params)
  assert len(ratios) == 2
  assert sorted(ratio for ratio in ratios.values())[0] > 0

  network = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
  params = eqx.filter(network, eqx.is_inexact_array)  # None for what is no array
  state = tx.init(params)
  _, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
  assert ".layers[0].weight" in read_update_ratios(state, params)
  assert isinstance(find_update_ratio(state), UpdateRatioState)
