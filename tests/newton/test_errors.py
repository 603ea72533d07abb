"""Every mistake has its own sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt import newton as wing
from kinkopt.newton import newton, outcome, scale_by_newton

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
      lambda: scale_by_newton(np.nan),
      ValueError,
      r"damping=nan\)` is out of range: `damping` must lie in \[0, inf\)",
    ),
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
    (
      lambda: newton(curvature="exact"),
      TypeError,
      r"newton\(curvature=...\)` must be a `Curvature`, but is 'exact'. Pass, say, `kinkopt.n",
    ),
    (
      lambda: newton(globalization=wing.TrustRegion),
      TypeError,
      r"must be a `Globalization`, but is <class .*>. Write `TrustRegion\(\)`",
    ),
    (
      lambda: scale_by_newton(solver=wing.Hessian()),
      TypeError,
      r"scale_by_newton\(solver=...\)` must be a `Solver`, but is Hessian\(.*Cholesky\(\)`",
    ),
    (
      lambda: wing.AdaptiveDamping(-1.0),
      ValueError,
      r"AdaptiveDamping\(initial=-1\)` is out of range.*0 tries the Newton step first",
    ),
    (
      lambda: wing.TrustRegion(0.0),
      ValueError,
      r"TrustRegion\(initial_radius=0\)` is out of range.*None takes the length",
    ),
    (
      lambda: wing.CubicRegularization(np.inf),
      ValueError,
      r"CubicRegularization\(initial_weight=inf\)` is out of range",
    ),
    (
      lambda: wing.SteihaugTrustRegion(-1),
      ValueError,
      r"SteihaugTrustRegion\(initial_radius=-1\)` is out of range.*unit of the parameters",
    ),
    (
      lambda: wing.SteihaugTrustRegion(max_steps=2.5),
      TypeError,
      r"SteihaugTrustRegion\(max_steps=2.5\)` is not an integer. It counts products",
    ),
    (
      lambda: wing.ConjugateGradients(rtol=1.0),
      ValueError,
      r"ConjugateGradients\(rtol=1\)` is out of range.*share of the gradient",
    ),
    (
      lambda: wing.Eigenvalues(floor=-0.1),
      ValueError,
      r"Eigenvalues\(floor=-0.1\)` is out of range.*share of the largest magnitude",
    ),
    (
      lambda: wing.Hessian(batch_size=0),
      ValueError,
      r"Hessian\(batch_size=0\)` is out of range.*how many columns are made at once",
    ),
    (
      lambda: wing.BandedHessian(-1),
      ValueError,
      r"BandedHessian\(bandwidth=-1\)` is out of range.*far from the diagonal",
    ),
    (
      lambda: wing.GaussNewton(square, batch_size=True),
      TypeError,
      r"GaussNewton\(batch_size=True\)` is not an integer",
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
  with pytest.raises(
    ValueError, match="state of one `newton` or `scale_by_newton`, but found 0 in a tuple"
  ):
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


@pytest.mark.parametrize(
  ("found", "gist"),
  [
    (jnp.ones((2, 2)), r"one array of shape \(3, 3\) over all real coordinates; this did not fit"),
    ({"w": {"w": jnp.ones((3, 3))}}, r"must return what `jax.hessian\(value_fn\)\(params\)` gives"),
  ],
)
def test_a_hessian_that_does_not_fit_is_refused(found, gist):
  with pytest.raises(ValueError, match=gist):
    update(tx=scale_by_newton(curvature=wing.Hessian(hessian_fn=lambda x: found)))


def test_a_product_that_does_not_fit_is_refused():
  tx = scale_by_newton(curvature=wing.Hessian(hvp_fn=lambda x, v: v[:2]))
  with pytest.raises(ValueError, match=r"product leaf `\(root\)` is float64\[2\], but"):
    update(tx=tx)


def test_a_loss_of_outputs_that_is_not_scalar_is_refused():
  tx = scale_by_newton(curvature=wing.GaussNewton(lambda x: x, loss_fn=lambda r: r))
  with pytest.raises(TypeError, match=r"`loss_fn` must return one real number.*shape \(3,\)"):
    update(tx=tx)
