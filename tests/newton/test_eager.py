"""Outside of `jit`, an update compiles itself once, and does what it would do otherwise."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt import _jax
from kinkopt.newton import newton, scale_by_newton

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
  jax.tree.map(np.testing.assert_array_almost_equal_nulp, eager, compiled)


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


class Scale:
  """Equal to others of its value, so without a hash; and no array."""

  def __init__(self, value):
    self.value = value

  def __eq__(self, other):
    return self.value == other.value


def test_what_has_no_hash_is_handed_on_as_it_is(compilations):
  scale = Scale(3.0)
  value_fn = lambda p, scale: scale.value * jnp.sum(p**2)  # noqa: E731
  p = jnp.array([1.0, 2.0])
  tx = newton()
  updates, _ = tx.update(6 * p, tx.init(p), p, value_fn=value_fn, scale=scale)
  np.testing.assert_allclose(updates, -p)
  assert compilations("newton_update") == 0


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


def test_losses_that_are_made_anew_are_let_go():
  tx, p = scale_by_newton(), jnp.array([1.0, 2.0])
  held = []
  for k in range(1, 11):
    value_fn = lambda p, k=k: k * jnp.sum(p**2)  # noqa: E731
    held.append(weakref.ref(value_fn))
    tx.update(2 * k * p, tx.init(p), p, value_fn=value_fn)
  del value_fn
  gc.collect()
  assert sum(ref() is not None for ref in held) <= 8


def test_errors_are_those_of_the_update():
  tx = newton()
  with pytest.raises(TypeError, match="`value_fn` must return one real number"):
    tx.update(START, tx.init(START), START, value_fn=lambda p: p["a"])
