"""What the rules do with trees, devices, counters, populations and derivatives of their own."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt import rules

NAMES = [
  name
  for name in rules.__all__
  if "learning_rate" in inspect.signature(getattr(rules, name)).parameters
]
RULES = {name: getattr(rules, name) for name in NAMES}
RULES["corrected_adam"] = functools.partial(rules.adam, bias_correction=True)
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@each_rule
def test_init_can_be_evaluated_abstractly(rule):
  params = {"w": jax.ShapeDtypeStruct((3, 4), jnp.bfloat16), "b": jax.ShapeDtypeStruct((), "c8")}
  state = jax.eval_shape(rule(0.1).init, params)
  real = rule(0.1).init(jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), params))
  chex.assert_trees_all_equal_shapes_and_dtypes(state, real)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
@each_rule
def test_eager_init_and_update_keep_the_sharding(rule, dtype):
  kinds = (jax.sharding.AxisType.Auto,)
  mesh = jax.make_mesh((8,), ("data",), axis_types=kinds)
  rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
  params = jax.device_put(jnp.ones((16, 4)), rows)
  key = "accumulator_dtype" if "accumulator_dtype" in inspect.signature(rule).parameters else None
  tx = rule(0.1, **({key: dtype} if key else {}))
  state = tx.init(params)
  assert all(leaf.sharding == rows for leaf in jax.tree.leaves(state) if leaf.ndim)
  updates, state = jax.jit(tx.update)(params, state, params)
  assert all(leaf.sharding == rows for leaf in jax.tree.leaves((updates, state)) if leaf.ndim)


def test_compiled_init_needs_out_shardings():
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
  params = jax.device_put(jnp.ones((16, 4)), rows)
  tx = rules.momentum(0.1)
  everywhere = jax.sharding.NamedSharding(mesh, jax.P())
  abstract = jax.eval_shape(tx.init, params)
  shardings = jax.tree.map(lambda leaf: rows if leaf.ndim else everywhere, abstract)
  velocity = optax.tree.get(jax.jit(tx.init, out_shardings=shardings)(params), "velocity")
  assert velocity.sharding == rows
  # What the docstring of the wing warns of; should JAX learn better, the warning may go.
  assert optax.tree.get(jax.jit(tx.init)(params), "velocity").sharding != rows


@each_rule
@pytest.mark.parametrize(
  "params",
  [
    {},
    (),
    None,
    {"a": None, "b": jnp.ones(2)},
    {"a": {}, "b": [jnp.ones(2), ()]},
    jnp.ones((0, 3)),
    {"none": jnp.ones((2, 0)), "some": jnp.ones(2)},
    optax.MaskedNode(),
    {"masked": optax.MaskedNode(), "b": jnp.ones(2)},
  ],
)
def test_empty_none_masked_and_zero_size_leaves_pass_through(rule, params):
  tx = rule(0.1)
  state = tx.init(params)
  for update in (tx.update, jax.jit(tx.update)):
    updates, new_state = update(params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
    for u in jax.tree.leaves(updates):
      np.testing.assert_array_less(u, 0)


@each_rule
def test_counters_stay_at_their_largest(rule):
  largest = jnp.iinfo(jnp.int32).max
  tx = rule(lambda count: 0.1 / (1 + count.astype(float)))
  params = jnp.ones(2)
  state = optax.tree.set(tx.init(params), count=jnp.int32(largest))
  updates, state = tx.update(params, state, params)
  assert jnp.all(jnp.isfinite(updates))
  assert {int(count) for _, count in optax.tree.get_all_with_path(state, "count")} == {largest}


def lone_run(rule, hyperparams: dict, params: jax.Array) -> tuple:
  tx = rule(**hyperparams)

  def step(carry, t):
    params, state = carry
    gradient = jnp.sin(params) * (1 + 0.1 * t) + 0.3
    updates, state = tx.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), None

  return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(10.0))[0]


@pytest.mark.parametrize("name", RULES)
def test_population_under_vmap_is_its_members_alone(name):
  """Rounding: XLA may fuse the two programs differently; each step is good to a few units."""
  rule = RULES[name]
  names = inspect.signature(rule).parameters
  sampled = {
    "learning_rate": (0.01, 0.2),
    "momentum": (0.0, 0.95),
    "decay": (0.5, 0.99),
    "b1": (0.0, 0.95),
    "b2": (0.9, 0.999),
    "eps": (1e-8, 1e-2),
    "initial_accumulator_value": (0.0, 1.0),
  }
  members = 4
  population = {key: jnp.linspace(*ends, members) for key, ends in sampled.items() if key in names}
  params = jax.random.normal(jax.random.key(0), (members, 3))
  together = jax.jit(jax.vmap(functools.partial(lone_run, rule)))(population, params)
  for member in range(members):
    numbers = {key: float(values[member]) for key, values in population.items()}
    alone = jax.jit(functools.partial(lone_run, rule, numbers))(params[member])
    ours = jax.tree.map(lambda leaf: leaf[member], together)  # noqa: B023
    chex.assert_trees_all_close(ours, alone, rtol=1e-12)


@each_rule
def test_one_transform_serves_a_population_of_parameters(rule):
  tx, params = rule(0.1), jax.random.normal(jax.random.key(0), (4, 3))
  state = jax.vmap(tx.init)(params)
  updates, _ = jax.vmap(tx.update)(params, state, params)
  expected, _ = tx.update(params, tx.init(params), params)
  np.testing.assert_allclose(updates, expected, rtol=1e-14)


@each_rule
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32, jnp.float64, jnp.complex64])
def test_meta_gradients_pass_through_zero_gradients(rule, dtype):
  if dtype == jnp.float16 and "eps" in inspect.signature(rule).parameters:
    rule = functools.partial(rule, eps=1e-3)  # the derivative at 0, rate / eps, must be below 65504

  def after_training(learning_rate, start):
    tx = rule(learning_rate)
    params, state = start, tx.init(start)
    for _ in range(3):
      gradient = params * jnp.array([1, 0, 0], dtype)  # two coordinates that the loss ignores
      updates, state = tx.update(gradient, state, params)
      params = optax.apply_updates(params, updates)
    return jnp.sum(jnp.abs(params) ** 2).astype(jnp.real(params).dtype)

  start = jnp.array([1.0, 2.0, 0.5], dtype)
  by_rate, by_start = jax.jit(jax.grad(after_training, argnums=(0, 1)))(0.1, start)
  chex.assert_tree_all_finite((by_rate, by_start))
  assert by_rate != 0
  np.testing.assert_array_equal(by_start[1:], 2 * start[1:])


def test_meta_gradient_of_the_rate_is_the_derivative():
  def after_training(rate):
    return lone_run(rules.adam, {"learning_rate": rate}, jnp.array([1.0, -0.5]))[0].sum()

  h = 1e-5
  numerical = (after_training(0.1 + h) - after_training(0.1 - h)) / (2 * h)
  # h**2 of truncation and machine_eps / h of rounding, both near 1e-10.
  np.testing.assert_allclose(jax.grad(after_training)(0.1), numerical, rtol=1e-7)


def test_lookahead_uses_the_momentum_that_its_point_was_made_with():
  """Under an injected schedule of `mu`, x_ahead and the velocity update share one value."""
  rising = lambda count: 0.5 + 0.1 * count  # noqa: E731
  tx = optax.inject_hyperparams(rules.nesterov_lookahead)(0.1, momentum=rising)
  params = jnp.array(1.0)
  state = tx.init(params)
  x, v = 1.0, 0.0
  mus = [0.5, 0.5, 0.6, 0.7]  # what `init` held, and then what each `update` left for the next
  for mu in mus:
    ahead = rules.lookahead_params(params, state)
    np.testing.assert_allclose(ahead, x + mu * v, rtol=1e-14)
    updates, state = tx.update(2 * ahead, state, params)
    params = optax.apply_updates(params, updates)
    v = mu * v - 0.1 * 2 * (x + mu * v)
    x = x + v
    np.testing.assert_allclose(params, x, rtol=1e-14)


def test_lookahead_reads_through_wrappers_and_leaves_the_rest():
  params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
  inner = rules.nesterov_lookahead(0.1, momentum=0.5)
  labels = {"a": "ahead", "b": "plain"}
  for tx in (
    optax.partition({"ahead": inner, "plain": rules.sgd(0.1)}, labels),
    optax.masked(inner, {"a": True, "b": False}),
    optax.chain(optax.clip(1.0), optax.masked(inner, {"a": True, "b": False})),
    optax.MultiSteps(optax.masked(inner, {"a": True, "b": False}), 1).gradient_transformation(),
  ):
    _, state = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    ahead = rules.lookahead_params(params, state)
    np.testing.assert_allclose(ahead["a"], params["a"] - 0.5 * 0.1, rtol=1e-14)
    assert ahead["b"] == params["b"]
  whole = {"ahead": inner, "too": rules.nesterov_lookahead(0.1, momentum=0.25)}
  tx = optax.partition(whole, {"a": "ahead", "b": "too"})
  _, state = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
  ahead = rules.lookahead_params(params, state)
  np.testing.assert_allclose(ahead["b"], params["b"] - 0.25 * 0.1, rtol=1e-14)


def test_donated_state_does_not_take_the_users_array_along():
  with jax.enable_x64(False):
    momentum, params = jnp.float32(0.5), jnp.ones(2)
    tx = rules.nesterov_lookahead(0.1, momentum)
    state = tx.init(params)
    assert optax.tree.get(state, "momentum") is not momentum
    jax.jit(tx.update, donate_argnums=1)(params, state, params)
    assert not momentum.is_deleted()
