"""Parameters laid end to end are trained, measured and checked as their tree."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import kinkopt
from kinkopt import monitor, rules
from kinkopt.flat import Flat, flatten
from tests.conformance.catalogue import TRANSFORMS


def a_tree():
  rng = np.random.default_rng(0)
  shapes = {"w": (3, 4), "b": (4,), "out": (4, 3), "empty": (0, 2), "scale": ()}
  tree = {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}
  half = {"w": jnp.asarray(rng.normal(size=(2, 2)), jnp.bfloat16)}
  return {"layer": tree, "half": half, "z": jnp.array([1.0 + 2.0j, -1.0j], jnp.complex64)}


def loss(tree):
  parts = [jnp.abs(x.astype(jnp.complex64)) for x in jax.tree.leaves(tree)]
  return sum(jnp.sum(i * x**2 + x**4 / 8) for i, x in enumerate(parts, 1))


def assert_equal(a, b):
  chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
  chex.assert_trees_all_equal(a, b)


def test_it_shows_what_it_holds():
  flat = flatten({"a": jnp.ones(3, jnp.float32), "b": jnp.ones(2, jnp.bfloat16)})
  assert repr(flat) == "Flat(2 leaves; bfloat16[2], float32[3])"
  assert repr(jax.tree.map(jnp.ndim, flat)) == "Flat(2 leaves; bfloat16: 1, float32: 1)"


def test_the_tree_comes_back_bit_for_bit():
  tree = a_tree()
  flat = flatten(tree)
  assert_equal(flat.tree, tree)
  assert {k: v.shape for k, v in flat.buffers.items()} == {
    "bfloat16": (4,), "complex64": (2,), "float32": (29,)
  }  # fmt: skip
  assert_equal(jax.jit(lambda flat: flat.tree)(flat), tree)
  assert flat.layout == flatten(tree).layout


def test_leaves_of_one_size_lie_together_and_small_ones_first():
  flat = flatten({"a": jnp.full(3, 1.0), "b": jnp.array(2.0), "c": jnp.full(3, 3.0)})
  np.testing.assert_array_equal(flat.buffers[str(flat.tree["a"].dtype)], [2, 1, 1, 1, 3, 3, 3])


def test_zeros_fill_a_buffer_up():
  flat = flatten(a_tree(), multiple_of=8)
  assert {k: v.shape for k, v in flat.buffers.items()} == {
    "bfloat16": (8,), "complex64": (8,), "float32": (32,)
  }  # fmt: skip
  assert_equal(flat.tree, a_tree())
  np.testing.assert_array_equal(flat.buffers["float32"][29:], 0)


def test_the_gradient_is_the_tree_s_laid_out_alike():
  tree = a_tree()
  flat = flatten(tree, multiple_of=8)
  grads = jax.grad(lambda flat: loss(flat.tree))(flat)
  assert isinstance(grads, Flat)
  assert_equal(grads, flat.like(jax.grad(loss)(tree)))


def test_the_transpose_is_one_concatenation():
  flat = flatten([jnp.ones(n) for n in range(1, 9)])
  program = jax.make_jaxpr(jax.grad(lambda flat: sum(map(jnp.sum, flat.tree))))(flat)
  names = [eqn.primitive.name for eqn in program.eqns]
  assert names.count("concatenate") == 1
  assert "pad" not in names
  assert "add_any" not in names


@pytest.mark.parametrize("name", [n for n in TRANSFORMS if n.startswith("rules.")])
def test_rules_take_the_steps_that_they_take_on_the_tree(name):
  tx = TRANSFORMS[name].make()

  @functools.partial(jax.jit, static_argnums=0)
  def step(fun, params, state):
    updates, state = tx.update(jax.grad(fun)(params), state, params)
    return optax.apply_updates(params, updates), state

  tree = {"w": a_tree()["layer"]["w"], "b": a_tree()["half"]["w"]}
  fun, flat_fun = loss, lambda flat: loss(flat.tree)
  flat, state, flat_state = flatten(tree), tx.init(tree), tx.init(flatten(tree))
  for _ in range(3):
    tree, state = step(fun, tree, state)
    flat, flat_state = step(flat_fun, flat, flat_state)
  # How products are contracted into sums is XLA's choice.
  chex.assert_trees_all_close(flat.tree, tree, rtol=2e-6)


def test_newton_and_the_checks_see_nothing_but_arrays():
  tree = a_tree()["layer"]
  flat = flatten(tree)
  fun = lambda flat: loss(flat.tree)  # noqa: E731
  found = kinkopt.minimize(fun, flat)
  assert found.reason.name == "CONVERGED"
  np.testing.assert_allclose(found.params.tree["w"], 0, atol=1e-3)
  assert kinkopt.check_gradient(fun, flat).ok
  wrong = lambda flat: jax.tree.map(lambda g: 1.01 * g, jax.grad(fun)(flat))  # noqa: E731
  report = kinkopt.check_gradient(fun, flat, gradient=wrong)
  assert not report.ok
  assert report.leaves[0].name == "['float32']"


def test_the_monitor_tells_the_leaves_apart():
  tree = a_tree()["layer"]
  tree["b"] = tree["b"].at[0].set(jnp.nan)
  tx = monitor.record(
    optax.chain(monitor.leaf_stats(), rules.momentum(0.1, 0.9), monitor.update_ratio()), length=2
  )

  @jax.jit
  def measured(params):
    _, state = tx.update(params, tx.init(params), params)
    return state

  flat = flatten(tree, multiple_of=8)
  expected, found = monitor.history(measured(tree), tree), monitor.history(measured(flat), flat)
  assert found.names == expected.names
  chex.assert_trees_all_close(found.rows, expected.rows, rtol=1e-6)
  assert np.isnan(found.ratio[:, found.names.index("['b']")]).all()


def test_a_flat_part_of_a_tree_is_named_within_it():
  params = {"head": flatten({"w": jnp.ones(2), "b": jnp.ones(1)}), "x": flatten(jnp.ones(3))}
  tx = optax.chain(rules.sgd(0.5), monitor.update_ratio())
  updates, state = tx.update(params, tx.init(params), params)
  ratios = monitor.read_update_ratios(state, params)
  assert ratios == {"['head']['b']": 0.5, "['head']['w']": 0.5, "['x']": 0.5}
  chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)


def test_many_at_once():
  trees = {"w": jnp.arange(24.0).reshape(4, 2, 3), "b": jnp.arange(4.0)}
  flat = jax.vmap(flatten)(trees)
  assert [x.shape for x in jax.tree.leaves(flat)] == [(4, 7)]
  assert_equal(flat.tree, trees)
  grads = jax.vmap(jax.grad(lambda flat: jnp.sum(flat.tree["w"] ** 2)))(flat)
  np.testing.assert_array_equal(grads.tree["w"], 2 * trees["w"])


def test_rules_on_eight_devices_send_nothing():
  mesh = jax.make_mesh((8,), ("data",))
  flat = flatten(a_tree()["layer"], multiple_of=8)
  flat = jax.device_put(flat, NamedSharding(mesh, PartitionSpec("data")))
  tx = rules.adam(0.1)
  state = tx.init(flat)
  step = jax.jit(lambda g, s, p: tx.update(g, s, p)).lower(flat, state, flat).compile()
  assert not any(word in step.as_text() for word in ("all-reduce", "all-gather", "all-to-all"))
  updates, _ = step(flat, state, flat)
  assert updates.buffers["float32"].sharding == flat.buffers["float32"].sharding


def test_it_goes_through_a_scan_and_donation():
  flat = flatten(a_tree()["layer"])
  tx = rules.adam(0.1)

  def step(carry, _):
    params, state = carry
    updates, state = tx.update(jax.grad(lambda f: loss(f.tree))(params), state, params)
    return (optax.apply_updates(params, updates), state), loss(params.tree)

  run = jax.jit(lambda carry: jax.lax.scan(step, carry, length=5), donate_argnums=0)
  copied = jax.tree.map(jnp.copy, flat)
  (last, _), losses = run((copied, tx.init(flat)))
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(copied))
  assert losses[-1] < losses[0]
  assert repr(last) == "Flat(5 leaves; float32[29])"


def test_an_empty_tree_is_flat():
  flat = flatten({})
  assert (flat.tree, repr(flat)) == ({}, "Flat(0 leaves; empty)")
  tx = monitor.update_ratio()
  assert tx.update(flat, tx.init(flat), flat)[1].ratio.shape == (0,)


@pytest.mark.parametrize(
  ("call", "error", "message"),
  [
    (
      lambda: flatten({"n": jnp.arange(3)}),
      TypeError,
      r"`flatten` needs floating-point parame.*'n'",
    ),
    (lambda: flatten(jnp.ones(2), multiple_of=0), ValueError, r"`multiple_of`.*rounded up to"),
    (lambda: flatten(jnp.ones(2), multiple_of=1.5), TypeError, "multiple_of=1.5.*not an integer"),
    (lambda: flatten({"a": jnp.ones(2)}).like({"b": jnp.ones(2)}), ValueError, "`Flat.like`.*'a'"),
    (lambda: flatten(jnp.ones(2)).like(jnp.ones(3)), ValueError, r"`Flat.like`.*\(2,\)|\[2\]"),
  ],
)
def test_errors_say_what_and_where(call, error, message):
  with pytest.raises(error, match=message):
    call()
