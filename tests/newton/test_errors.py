"""Every mistake has its own sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt.newton import newton, outcome, scale_by_newton
from kinkopt.newton._curvature import dense_hessian

X = jnp.arange(1.0, 4.0)


def square(x):
  return jnp.sum(x**2)


def update(grads=X, params=X, value_fn=square, tx=None, state=None, **extra_args):
  tx = scale_by_newton() if tx is None else tx
  state = tx.init(X) if state is None else state
  return tx.update(grads, state, params, value_fn=value_fn, **extra_args)


@pytest.mark.parametrize(
  ("make", "error", "message"),
  [
    (
      lambda: scale_by_newton(-0.5),
      ValueError,
      r"scale_by_newton\(damping=-0.5\)` is out of range",
    ),
    (
      lambda: newton(damping=-2.0),
      ValueError,
      r"damping=-2\)` is out of range: `damping` must lie in \[0, inf\)",
    ),
    (lambda: newton(damping=np.nan), ValueError, r"damping=nan\)` is out of range"),
    (
      lambda: newton(-1.0),
      ValueError,
      r"newton\(learning_rate=-1\)` is out of range.*share of the Newton step",
    ),
    (lambda: newton("1"), TypeError, r"newton\(learning_rate='1'\)` is not a real number"),
    (
      lambda: scale_by_newton(None),
      TypeError,
      r"damping=None\)` is not a real number.*0 is Newton's method",
    ),
    (lambda: scale_by_newton(jnp.ones(2)), ValueError, r"must be a scalar, but has shape \(2,\)"),
    (
      lambda: newton().init({"w": X, "n": jnp.arange(2)}),
      TypeError,
      r"parameters, but the leaf `\['n'\]` is int64",
    ),
  ],
)
def test_bad_hyperparameters_and_parameters_are_named(make, error, message):
  with pytest.raises(error, match=message):
    make()


@pytest.mark.parametrize(
  ("changes", "error", "message"),
  [
    (
      {"params": None},
      ValueError,
      r"needs `params`.*`tx.update\(grads, state, params, value_fn=loss\)`",
    ),
    (
      {"value_fn": None},
      ValueError,
      r"needs `value_fn`.*`tx.update\(grads, state, params, value_fn=loss\)`",
    ),
    ({"value_fn": lambda x: x**2}, TypeError, r"returned an array of shape \(3,\). Sum or average"),
    (
      {"value_fn": lambda x: (square(x), x)},
      TypeError,
      "returned a tuple.*without auxiliary output",
    ),
    ({"value_fn": lambda x: None}, TypeError, "returned a NoneType"),
    ({"value_fn": lambda x: square(x) * 1j}, TypeError, "returned complex128. Return a real"),
    ({"value_fn": lambda x: jnp.argmax(x)}, TypeError, "returned int64. Return a real"),
    ({"grads": {"w": X}}, ValueError, r"gradient has no leaf `\(root\)`; it has `\['w'\]` instead"),
    (
      {"grads": X[:2]},
      ValueError,
      r"gradient leaf `\(root\)` is float64\[2\], but float64\[3\] in the parameters",
    ),
    ({"grads": jnp.arange(3)}, TypeError, r"gradients, but the leaf `\(root\)` is int64"),
    ({"params": jnp.arange(3)}, TypeError, r"parameters, but the leaf `\(root\)` is int64"),
    (
      {"grads": X + 0j},
      TypeError,
      r"gradient leaf `\(root\)` is complex128, but the parameter is float64",
    ),
  ],
)
def test_bad_calls_of_update_are_named(changes, error, message):
  with pytest.raises(error, match=message):
    update(**changes)


def test_an_empty_tree_does_not_hide_a_loss_that_is_not_scalar():
  with pytest.raises(TypeError, match=r"returned an array of shape \(0, 2\)"):
    update(jnp.zeros((0, 2)), jnp.zeros((0, 2)), value_fn=lambda x: x)


@pytest.mark.parametrize(
  "wrap",
  [
    lambda tx: optax.masked(tx, {"w": True, "b": False}),
    lambda tx: optax.partition({"n": tx, "s": optax.set_to_zero()}, {"w": "n", "b": "s"}),
  ],
)
def test_a_mask_is_named_as_what_breaks_the_loss(wrap):
  params = {"w": X, "b": X}
  tx = wrap(newton())
  with pytest.raises(ValueError, match=r"without `\['b'\]`: `optax.masked` or `optax.partition`"):
    tx.update(params, tx.init(params), params, value_fn=lambda p: square(p["w"]) + square(p["b"]))


def test_a_state_without_newton_or_with_two_is_refused():
  with pytest.raises(ValueError, match="state of one `scale_by_newton`, but found 0 in a tuple"):
    outcome(optax.sgd(0.1).init(X))
  with pytest.raises(ValueError, match="but found 2 in a tuple"):
    outcome((newton().init(X), newton().init(X)))


def test_a_traced_outcome_is_refused():
  with pytest.raises(ValueError, match=r"no value yet inside `jit`.*state.outcome =="):
    jax.jit(lambda state: outcome(state).code)(newton().init(X))


def test_a_batch_of_outcomes_is_refused():
  states = jax.vmap(newton().init)(jnp.ones((5, 3)))
  with pytest.raises(ValueError, match=r"an array of them, of shape \(5,\). Take one member first"):
    outcome(states)


def test_the_hessian_of_integers_is_refused():
  with pytest.raises(TypeError, match=r"`dense_hessian` needs floating-point parameters"):
    dense_hessian(square, jnp.arange(3))
