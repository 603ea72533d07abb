"""A part of the parameters is optimised as if the loss took no more."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt.newton import newton, restricted, scale_by_newton

PARAMS = {"w": jnp.array([1.0, -0.5]), "b": jnp.array(0.3), "n": jnp.array(3, jnp.int32)}
MASK = {"w": True, "b": False, "n": False}


def loss(params, batch=2.0):
  coupled = jnp.sum(jnp.cosh(params["w"] - params["b"])) + batch * params["b"] ** 2
  return coupled * params["n"] + batch * jnp.sum(params["w"]) ** 2


def gradient(params, batch=2.0):
  return jax.grad(loss, allow_int=True)(params, batch)


def with_line_search(first, search):
  return optax.chain(first, optax.scale(-1.0), search)


CHAINS = {
  "newton": newton,
  "newton, backtracking": lambda: with_line_search(
    scale_by_newton(), optax.scale_by_backtracking_linesearch(20)
  ),
  "lbfgs": lambda: optax.lbfgs(
    linesearch=optax.scale_by_zoom_linesearch(20, initial_guess_strategy="one")
  ),
  "sgd, zoom": lambda: with_line_search(optax.identity(), optax.scale_by_zoom_linesearch(20)),
  "adam": lambda: optax.adam(0.1),
}


def run(tx, params, fun, grad_fn, steps=5):
  def step(carry, _):
    params, state = carry
    grads = grad_fn(params)
    updates, state = tx.update(
      grads, state, params, value=fun(params, 1.5), grad=grads, value_fn=fun, batch=1.5
    )
    return (optax.apply_updates(params, updates), state), params

  return jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=steps))(params)[1]


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_the_chosen_leaves_go_as_if_they_were_all(make):
  path = run(restricted(make(), MASK), PARAMS, loss, lambda p: gradient(p, 1.5))

  def own(w, batch):
    return loss({**PARAMS, "w": w}, batch)

  alone = run(make(), PARAMS["w"], own, lambda w: jax.grad(own)(w, 1.5))
  np.testing.assert_allclose(path["w"], alone, rtol=1e-12, atol=1e-13)
  assert abs(alone[-1] - alone[0]).max() > 0.1
  assert (path["b"] == PARAMS["b"]).all()
  assert (path["n"] == 3).all()
  assert path["n"].dtype == np.int32


def test_what_is_not_chosen_gets_zero_and_not_its_gradient():
  tx = restricted(optax.scale(-1.0), lambda params: {**MASK, "b": False})
  updates, _ = tx.update(gradient(PARAMS), tx.init(PARAMS))
  assert updates["b"] == 0
  np.testing.assert_array_equal(updates["w"], -gradient(PARAMS)["w"])


def test_a_mask_may_be_a_prefix_and_choose_nothing():
  params = {"net": {"w": jnp.ones(2), "b": jnp.ones(1)}, "rest": jnp.ones(3)}
  fun = lambda p: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))  # noqa: E731
  for mask, moved in (({"net": True, "rest": False}, 1.0), (False, 0.0)):
    tx = restricted(newton(), mask)
    updates, _ = tx.update(jax.grad(fun)(params), tx.init(params), params, value_fn=fun)
    np.testing.assert_allclose(updates["net"]["w"], -moved, rtol=1e-14)
    np.testing.assert_allclose(updates["net"]["b"], -moved, rtol=1e-14)
    assert (updates["rest"] == 0).all()


@pytest.mark.parametrize(
  ("mask", "error", "gist"),
  [
    (
      {"w": True},
      ValueError,
      r"a prefix of it, but has the leaves \[\"\['w'\]\"\] for the parameters",
    ),
    ({**MASK, "b": 1.0}, TypeError, r"tree of bools, but is 1.0 for the leaf `\['b'\]`. True choo"),
  ],
)
def test_a_mask_that_does_not_fit_is_named(mask, error, gist):
  with pytest.raises(error, match=gist):
    restricted(newton(), mask).init(PARAMS)


def test_a_gradient_of_another_tree_is_named():
  tx = restricted(newton(), MASK)
  with pytest.raises(ValueError, match=r"`restricted`.*gradient has no leaf `\['n'\]`"):
    tx.update({"w": PARAMS["w"], "b": 0.0}, tx.init(PARAMS), PARAMS, value_fn=loss)
