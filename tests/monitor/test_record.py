"""A ring on the device that goes wherever a state goes, and what is read from it."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt.monitor import (
  every,
  everything,
  find_update_ratio,
  history,
  leaf_stats,
  read_update_ratios,
  record,
  update_ratio,
)

PARAMS = {"b": jnp.array([0.5, -1.0]), "w": jnp.array([[1.0, 2.0], [-3.0, 4.0]])}


def gradient(params):
  return jax.tree.map(jnp.sin, params)


def watched(length=4, **options):
  inner = optax.chain(leaf_stats(), optax.sgd(0.1), update_ratio())
  return record(inner, length, **options)


def run(tx, steps, params=PARAMS, state=None):
  """Takes steps one by one; gives the state, and the ratios of the steps as they were."""
  state = tx.init(params) if state is None else state
  step, ratios = jax.jit(tx.update), []
  for _ in range(steps):
    updates, state = step(gradient(params), state, params)
    params = optax.apply_updates(params, updates)
    ratios.append(find_update_ratio(state.inner_state).ratio)
  return state, np.array(ratios)


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 5, 8, 11])
def test_the_last_steps_are_kept_oldest_first(steps):
  state, ratios = run(watched(length=4), steps)
  found = history(state, PARAMS)
  np.testing.assert_array_equal(found.steps, range(max(steps - 4, 0) + 1, steps + 1))
  np.testing.assert_array_equal(found.ratio, ratios[-4:].reshape(-1, 2))
  assert found.names == ("['b']", "['w']")
  assert found.overall.shape == found.steps.shape


def test_it_steps_as_what_it_records():
  inner = optax.chain(leaf_stats(), optax.sgd(0.1), update_ratio())
  grads, tx = gradient(PARAMS), record(inner, 3)
  expected, _ = inner.update(grads, inner.init(PARAMS), PARAMS)
  found, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
  chex.assert_trees_all_equal(found, expected)


def test_extra_arguments_reach_the_inside():
  tx = record(optax.chain(optax.scale_by_backtracking_linesearch(3), update_ratio()), 2)
  loss = lambda p: jnp.sum(p["b"] ** 2) + jnp.sum(p["w"] ** 2)  # noqa: E731
  grads = jax.tree.map(jnp.negative, jax.grad(loss)(PARAMS))
  arguments = {"value": loss(PARAMS), "grad": grads, "value_fn": loss}
  _, state = tx.update(grads, tx.init(PARAMS), PARAMS, **arguments)
  assert history(state, PARAMS).ratio.shape == (1, 2)


def scanned(tx, steps):
  def step(carry, _):
    params, state = carry
    updates, state = tx.update(gradient(params), state, params)
    return (optax.apply_updates(params, updates), state), None

  return jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), length=steps)[0]


def test_in_a_scan():
  _, state = scanned(watched(), 6)
  expected, ratios = run(watched(), 6)
  found = history(state, PARAMS)
  np.testing.assert_allclose(found.ratio, ratios[-4:], rtol=1e-13)
  np.testing.assert_array_equal(found.steps, [3, 4, 5, 6])
  chex.assert_trees_all_equal_shapes_and_dtypes(state, expected)


def test_inside_multi_steps_each_row_is_a_step_that_is_taken():
  tx = optax.MultiSteps(watched(), 3, accumulator_dtype=jnp.float64)
  _, state = scanned(tx, 7)
  assert history(state, PARAMS).steps.tolist() == [1, 2]


def test_inside_apply_if_finite_a_bad_step_leaves_no_row():
  tx = optax.apply_if_finite(watched(), 5)
  state, step = tx.init(PARAMS), jax.jit(tx.update)
  for factor in (1, np.nan, 2):
    grads = jax.tree.map(lambda g: g * factor, gradient(PARAMS))  # noqa: B023
    _, state = step(grads, state, PARAMS)
  found = history(state, PARAMS)
  assert found.steps.tolist() == [1, 2]
  np.testing.assert_allclose(found.ratio[1], 2 * found.ratio[0], rtol=1e-13)


def test_outside_apply_if_finite_the_bad_step_is_seen():
  tx = record(optax.chain(leaf_stats(), optax.apply_if_finite(optax.sgd(0.1), 5)), 3)
  state = tx.init(PARAMS)
  for factor in (1, np.nan):
    grads = jax.tree.map(lambda g: g * factor, gradient(PARAMS))  # noqa: B023
    _, state = tx.update(grads, state, PARAMS)
  np.testing.assert_array_equal(history(state, PARAMS).rows["leaf_stats"].not_finite[:, 0], [0, 1])


def test_a_donated_state_is_written_in_place():
  tx = watched(length=1000)
  step = jax.jit(tx.update, donate_argnums=1)
  compiled = step.lower(gradient(PARAMS), tx.init(PARAMS), PARAMS).compile()
  state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(tx.init(PARAMS)))
  memory = compiled.memory_analysis()
  assert memory.temp_size_in_bytes < 0.1 * state_bytes
  assert memory.alias_size_in_bytes >= 0.9 * state_bytes


def test_sharded_parameters_are_measured_as_whole_ones():
  mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
  params = {"w": jnp.arange(1.0, 65).reshape(16, 4)}
  expected, _ = run(watched(), 5, params)
  found, _ = run(watched(), 5, jax.device_put(params, split))
  np.testing.assert_allclose(
    history(found, params).ratio, history(expected, params).ratio, rtol=1e-13
  )


def test_a_population_is_read_member_by_member():
  population = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), PARAMS)
  tx = watched()
  state = jax.vmap(tx.init)(population)
  _, state = jax.jit(jax.vmap(tx.update))(gradient(population), state, population)
  with pytest.raises(ValueError, match=r"population of shape \(2,\).*Take one member"):
    history(state, PARAMS)
  second = jax.tree.map(lambda leaf: leaf[1], state)
  assert history(second, PARAMS).ratio.shape == (1, 2)


def test_what_is_read_can_be_chosen():
  tx = watched(read=lambda state: {"overall": find_update_ratio(state).overall})
  state, _ = run(tx, 3)
  found = history(state, PARAMS)
  assert found.rows["overall"].shape == (3,)
  assert list(found.values()) == ["overall"]
  with pytest.raises(ValueError, match="no ratios, because `record` kept none"):
    found.ratio  # noqa: B018


def test_everything_finds_links_and_the_rate():
  schedule = optax.linear_schedule(0.5, 0.0, 10)
  tx = optax.chain(
    leaf_stats(), optax.inject_hyperparams(optax.sgd)(schedule), leaf_stats(), update_ratio()
  )
  state, _ = run(record(tx, 5), 3)
  found = history(state, PARAMS)
  assert set(found.rows) == {"leaf_stats", "leaf_stats_2", "learning_rate", "update_ratio"}
  np.testing.assert_allclose(found.rows["learning_rate"], [0.5, 0.45, 0.4])
  np.testing.assert_allclose(
    found.rows["leaf_stats_2"].scale, found.rows["update_ratio"].update_scale
  )
  assert everything(optax.sgd(0.1).init(PARAMS)) == {}


def test_only_every_other_step_is_measured():
  def make_step(measure):
    inner = optax.chain(leaf_stats(measure), optax.sgd(0.1), update_ratio(measure))
    tx = record(inner, 8, measure=measure)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
      updates, state = tx.update(gradient(params), state, params)
      return optax.apply_updates(params, updates), state

    return step

  step, seen = every(2, make_step), []
  params, state = jax.tree.map(jnp.copy, PARAMS), watched(8).init(PARAMS)
  for _ in range(7):
    params, state = step(params, state)
    seen.append(step.is_measured)
  assert seen == [False, True, False, True, False, True, False]
  _, ratios = run(watched(8), 7)
  found = history(state, PARAMS)
  np.testing.assert_array_equal(found.steps, [2, 4, 6])
  np.testing.assert_allclose(found.ratio, ratios[[1, 3, 5]], rtol=1e-13)


def test_the_unmeasured_step_is_the_bare_one():
  def program(tx, state):
    text = jax.jit(tx.update).lower(gradient(PARAMS), state, PARAMS).as_text()
    return text.count("stablehlo.reduce"), text.count("stablehlo.multiply")

  bare = optax.chain(optax.identity(), optax.sgd(0.1), optax.identity())
  off = optax.chain(leaf_stats(False), optax.sgd(0.1), update_ratio(False))
  assert program(off, off.init(PARAMS)) == program(bare, bare.init(PARAMS))


def test_training_goes_on_from_a_checkpoint():
  step = every(3, lambda measure: lambda: measure, start=2)
  assert [step() for _ in range(4)] == [True, False, False, True]
  assert step.count == 6


@pytest.mark.parametrize(
  ("make", "error", "message"),
  [
    (lambda: every(0, lambda m: print), ValueError, r"every\(k=0\)` is out of range"),
    (lambda: every(2.5, lambda m: print), TypeError, r"every\(k=2.5\)` is not an integer"),
    (lambda: every(2, lambda m: print, start=-1), ValueError, r"every\(start=-1\)` is out of"),
    (lambda: every(2, lambda m: None), TypeError, "must give a function.*gave a NoneType"),
    (lambda: record(update_ratio(), 0), ValueError, r"record\(length=0\)` is out of range"),
    (lambda: record(update_ratio(), 2.0), TypeError, r"record\(length=2.0\)` is not an integer"),
    (lambda: record(optax.sgd(1), 3).init(PARAMS), ValueError, "found nothing to remember"),
    (lambda: history(optax.sgd(1).init(PARAMS), PARAMS), ValueError, "but 0 are in the tuple"),
    (lambda: history((watched().init(PARAMS),) * 2, PARAMS), ValueError, "but 2 are in the tuple"),
    (
      lambda: jax.jit(lambda s: history(s, PARAMS).ratio)(watched().init(PARAMS)),
      TypeError,
      "state is being traced and has none yet",
    ),
    (
      lambda: leaf_stats().update({"a": jnp.ones(2)}, leaf_stats().init(PARAMS)),
      ValueError,
      r"`leaf_stats`: the state holds norms of shape \(2,\), but the updates have 1 leaves",
    ),
    (lambda: leaf_stats().init({"a": jnp.arange(3)}), TypeError, "`leaf_stats`"),
    (
      lambda: leaf_stats().update({"a": jnp.arange(3)}, leaf_stats().init({"a": jnp.ones(3)})),
      TypeError,
      "`leaf_stats`",
    ),
  ],
)
def test_what_is_wrong_is_said(make, error, message):
  with pytest.raises(error, match=message):
    make()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64, jnp.complex64])
@pytest.mark.parametrize("devices", [1, 8])
def test_leaf_stats_count_what_is_there(dtype, devices, monkeypatch):
  monkeypatch.setattr(jax, "device_count", lambda: devices)
  grads = {
    "a": jnp.array([3, 0, -4, -0.0, 0], dtype),
    "b": jnp.array([[jnp.inf, 1, jnp.nan, 0]], dtype),
    "none": jnp.zeros((0, 3), dtype),
    "one": jnp.asarray(2, dtype),
  }
  tx = leaf_stats()
  passed, state = jax.jit(tx.update)(grads, tx.init(grads))
  for name, leaf in grads.items():
    assert np.asarray(passed[name]).tobytes() == np.asarray(leaf).tobytes()
  np.testing.assert_allclose(state.zeros, [0.6, 0.25, 0, 0], rtol=1e-6)
  np.testing.assert_array_equal(state.not_finite, [0, 0.5, 0, 0])
  np.testing.assert_array_equal(state.scale[jnp.array([0, 2, 3])], [5, 0, 2])
  assert not np.isfinite(state.scale[1])
  assert state.overall.shape == ()
  chex.assert_trees_all_equal_shapes_and_dtypes(state, tx.init(grads))


@pytest.mark.parametrize("link", [leaf_stats, update_ratio])
def test_shards_are_added_up_by_one_all_reduce(link):
  mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
  split, whole = jax.sharding.PartitionSpec("d"), jax.sharding.PartitionSpec()
  rng = np.random.default_rng(0)
  params = {f"p{k}": jnp.asarray(rng.normal(size=(16, k + 1))) for k in range(9)}
  params["p3"] = params["p3"].at[5, 1].set(0)
  tx = link(axis_name="d")

  def measured(params):
    grads = gradient(params)
    return tx.update(grads, tx.init(params), params)[1]

  sharded = jax.jit(jax.shard_map(measured, mesh=mesh, in_specs=split, out_specs=whole))
  with jax.set_mesh(mesh):
    placed = jax.device_put(params, jax.sharding.NamedSharding(mesh, split))
    found, text = sharded(placed), sharded.lower(placed).compile().as_text()
  expected = link().update(gradient(params), link().init(params), params)[1]
  chex.assert_trees_all_close(found, expected, rtol=1e-13)
  assert text.count(" all-reduce(") + text.count(" all-reduce-start(") == 1
  assert "all-gather" not in text


@pytest.mark.parametrize("leaves", [1, 12])
def test_sharded_leaves_take_one_all_reduce_whatever_their_number(leaves):
  mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
  params = jax.device_put({f"p{k}": jnp.ones((16, 8)) for k in range(leaves)}, split)
  tx = optax.chain(leaf_stats(), optax.adam(0.1), update_ratio())
  text = jax.jit(tx.update).lower(params, tx.init(params), params).compile().as_text()
  assert text.count(" all-reduce(") + text.count(" all-reduce-start(") == 1
  assert "all-gather" not in text


def test_groups_are_measured_together():
  params = {"a": {"b": jnp.ones(2), "w": 3 * jnp.ones(4)}, "c": {"w": jnp.ones(3)}}
  tx = update_ratio()
  _, state = tx.update(jax.tree.map(lambda p: 0.1 * p**2, params), tx.init(params), params)
  found = read_update_ratios(state, params, group=lambda path: path.split("'")[1])
  everything_in_a = np.sqrt(2 * 0.01 + 4 * 0.81) / np.sqrt(2 + 36)
  assert found == pytest.approx({"a": everything_in_a, "c": 0.1})
  overall = read_update_ratios(state, params, group=lambda path: "all")["all"]
  assert overall == pytest.approx(float(state.overall))
  stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), state)
  assert read_update_ratios(stacked, params, group=lambda path: "all")["all"].shape == (2,)
