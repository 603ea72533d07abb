"""Outside of `jit`, an update compiles itself once, and does what it would do otherwise."""

import gc
import weakref

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from kinkopt import _jax
from kinkopt.newton import _eager, newton, scale_by_newton

START = {"a": jnp.array([0.3, 0.4]), "b": jnp.ones(())}
each_transform = pytest.mark.parametrize("make", [newton, scale_by_newton])


def loss(p, scale=1.0):
  return jnp.sum(jnp.cos(p["a"])) + scale * p["b"] ** 2


def step(tx, p, state, **named):
  value, grads = jax.value_and_grad(lambda p: loss(p, **named))(p)
  updates, state = tx.update(grads, state, p, value=value, value_fn=loss, **named)
  return optax.apply_updates(p, updates), state


@each_transform
def test_it_compiles_once_whatever_number_changes(make, compilations):
  tx = make()
  p, state = START, tx.init(START)
  for scale in (1.0, 2.0, 3.0):
    p, state = step(tx, p, state, scale=scale)
  assert compilations("newton_update") == 1
  assert state.count == 3


@each_transform
def test_it_is_the_update_that_jit_compiles(make):
  tx = make()
  eager, _ = step(tx, START, tx.init(START), scale=2.0)
  compiled, _ = jax.jit(lambda p, state, scale: step(tx, p, state, scale=scale))(
    START, tx.init(START), 2.0
  )
  chex.assert_trees_all_close_ulp(eager, compiled, maxulp=1)


def test_what_a_loss_branches_on_stays_what_it_is():
  def branching(p, power, is_even, name):
    assert isinstance(name, str)
    return jnp.sum((p**power if is_even else p) ** 2)

  tx, p = newton(), jnp.array([1.0, 2.0])
  found = {}
  for power, is_even in ((1, True), (True, 1), (2, True), (2, False)):
    named = {"power": power, "is_even": is_even, "name": "x"}
    grads = jax.grad(branching)(p, **named)
    updates, _ = tx.update(grads, tx.init(p), p, value_fn=branching, **named)
    found[type(power), power, is_even] = updates
  np.testing.assert_allclose(found[int, 1, True], -p)
  np.testing.assert_allclose(found[int, 2, True], -p / 3, rtol=1e-6)
  np.testing.assert_allclose(found[int, 2, False], -p)


@each_transform
def test_a_loss_that_has_changed_is_seen(make, compilations):
  data = {"scale": jnp.array([1.0, 2.0])}
  value_fn = lambda p: jnp.sum(jnp.cos(p - data["scale"]))  # noqa: E731
  tx, p = make(), jnp.array([0.3, 0.4])
  for scale in ([1.0, 2.0], [3.0, -1.0], [0.5, 0.5]):
    data["scale"] = jnp.array(scale)
    grads = jax.grad(value_fn)(p)
    eager, _ = tx.update(grads, tx.init(p), p, value_fn=value_fn)
    expected, _ = jax.jit(lambda g: tx.update(g, tx.init(p), p, value_fn=value_fn))(grads)
    np.testing.assert_allclose(eager, expected, rtol=1e-12)
  assert compilations("newton_update") == 1  # what a loss closes over is handed to the program
  data["scale"] = jnp.ones((3, 2))
  tx.update(jax.grad(value_fn)(p), tx.init(p), p, value_fn=value_fn)
  assert compilations("newton_update") == 2


@pytest.mark.parametrize("transformation", [jax.jit, jax.vmap, jax.grad, jax.eval_shape])
def test_under_a_transformation_it_leaves_compiling_to_that(transformation, compilations):
  tx, state = newton(), newton().init(jnp.array(1.0))

  def moved(p):
    assert _jax.is_traced()
    return tx.update(2 * p, state, p, value_fn=lambda p: p**2)[0]

  p = jnp.ones(3) if transformation is jax.vmap else jnp.array(1.0)
  if transformation is jax.grad:  # the search is a `while`, which has no backward pass
    jax.jvp(moved, (p,), (p,))
  elif transformation is jax.eval_shape:
    jax.eval_shape(moved, p)
  else:
    np.testing.assert_allclose(transformation(moved)(p), -p)
  assert compilations("newton_update") == 0
  assert not _jax.is_traced()


def test_losses_that_are_made_anew_are_let_go_and_compile_once(compilations):
  tx, p = scale_by_newton(), jnp.array([1.0, 2.0])
  held = []
  for k in range(1, 4):
    data = jnp.full(2, k)
    value_fn = lambda p, data=data: jnp.sum(data * p**2)  # noqa: E731
    held.append(weakref.ref(value_fn))
    updates, _ = tx.update(2 * k * p, tx.init(p), p, value_fn=value_fn)
    np.testing.assert_allclose(updates, p)
  del value_fn
  gc.collect()
  assert [ref() for ref in held] == [None] * 3
  assert compilations("newton_update") == 1


def test_only_so_many_programs_are_kept(monkeypatch, compilations):
  monkeypatch.setattr(_eager, "_kept", _jax.kept(2)(lambda text, shardings: {}))
  tx = scale_by_newton()
  for n in (1, 2, 1, 3, 1, 2):  # the last 2 was let go
    p = jnp.ones(n)
    tx.update(2 * p, tx.init(p), p, value_fn=lambda p: jnp.sum(p**2))
  assert compilations("newton_update") == 4


def test_shards_and_devices_have_programs_of_their_own():
  tx, value_fn = newton(), lambda p: jnp.sum(jnp.cosh(p - 1))
  mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
  split, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("x"), PartitionSpec()))
  found = []
  for place, place_of_state in [(device, device) for device in jax.devices()[:2]] + [
    (split, whole)
  ]:
    p = jax.device_put(jnp.linspace(0, 2, 8), place)
    state = jax.device_put(tx.init(p), place_of_state)
    updates, _ = tx.update(jax.grad(value_fn)(p), state, p, value_fn=value_fn)
    assert updates.devices() == p.devices()
    found.append(np.asarray(updates))
  np.testing.assert_allclose(found[1], found[0])
  np.testing.assert_allclose(found[2], found[0])


def test_errors_are_those_of_the_update():
  tx = newton()
  with pytest.raises(TypeError, match="`value_fn` must return one real number"):
    tx.update(START, tx.init(START), START, value_fn=lambda p: p["a"])


@each_transform
def test_a_transform_made_anew_finds_what_was_compiled_until_the_caches_are_cleared(
  make, compilations
):
  for _ in range(2):
    tx = make()
    step(tx, START, tx.init(START))
  assert compilations("newton_update") == 1
  jax.clear_caches()
  step(tx, START, tx.init(START))
  assert compilations("newton_update") == 2


@each_transform
@pytest.mark.parametrize("around", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_loss_is_traced_once(make, around):
  calls, tx = [], make()

  def counted(p, scale):
    calls.append(p)
    return loss(p, scale)

  grads = jax.grad(loss)(START)
  update = around(lambda p: tx.update(grads, tx.init(p), p, value_fn=counted, scale=1.0))
  update(START)
  assert len(calls) == 1
