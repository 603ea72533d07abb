"""No configuration takes a step that climbs or is not finite, whatever the Hessian."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt import newton
from kinkopt.newton import Outcome
from tests.newton._matrices import random_problems

each_size = pytest.mark.parametrize(
  ("n", "dtype"), [(1, np.float32), (5, np.float32), (5, np.float64)]
)
ITERATIVE = [newton.ConjugateGradients()]
SOLVERS = [
  newton.Cholesky(),
  newton.Eigenvalues(),
  newton.LU(),
  *ITERATIVE,
]
GLOBALIZATIONS = [
  newton.AdaptiveDamping(),
  newton.TrustRegion(),
  newton.CubicRegularization(),
  newton.SteihaugTrustRegion(),
]
CURVATURES = {
  "Hessian": lambda hvp: newton.Hessian(hvp_fn=hvp),
  "BlockDiagonal": lambda hvp: newton.BlockDiagonal(),
  "DiagonalHessian": lambda hvp: newton.DiagonalHessian(),
}


def names(strategies):
  return [type(strategy).__name__ for strategy in strategies]


@functools.cache
def problems(n, dtype, draws):
  """Draws 90 Hessians with gradients, `draws` times."""
  kinds, hessians, gradients = zip(*random_problems(n, dtype, draws))
  # XLA takes subnormal numbers for 0.
  flushed = lambda x: np.where(np.abs(x) < np.finfo(dtype).tiny, dtype(0), x)  # noqa: E731
  return kinds, flushed(np.stack(hessians)), flushed(np.stack(gradients))


def assert_descends(direction, gradient, *where):
  """Of directions that are subtracted: all finite, none climbs, zero only where it must be."""
  where = (*where, gradient, direction)
  assert np.isfinite(direction).all(), where
  if not direction.any() or not gradient.any():
    return  # no direction climbs from a saddle by its slope
  # Longdouble: neither the product of two large nor that of two small numbers is lost in it.
  slope = np.sum(gradient.astype(np.longdouble) * direction.astype(np.longdouble))
  assert slope > 0 or np.array_equal(direction, gradient), where


@pytest.mark.parametrize("solver", SOLVERS, ids=names(SOLVERS))
def test_a_slope_that_rounding_may_have_turned_is_not_trusted(solver):
  # Indefinite, and the solution of the Newton equation is orthogonal to the gradient but for 1e-7.
  hessian = jnp.diag(jnp.array([1.0, -1.0], np.float32))
  gradient = jnp.array([1.0, 1 - 2.0**-24 * 3], np.float32)
  curvature = newton.Hessian(hessian_fn=lambda x: hessian)
  tx = newton.scale_by_newton(curvature=curvature, solver=solver)
  found, _ = tx.update(gradient, tx.init(gradient), gradient, value_fn=jnp.sum)
  slope = np.sum(np.asarray(gradient, float) * np.asarray(found, float))
  assert slope > 1e-3 * np.linalg.norm(gradient) * np.linalg.norm(found)


@pytest.mark.parametrize("solver", SOLVERS, ids=names(SOLVERS))
def test_a_direction_of_which_the_descending_part_underflows_is_not_trusted(solver):
  # The solution is (1e-47, -7e-36): what is left of it is along the other coordinate, by no slope.
  hessian = jnp.array([[1e10, 5e-3], [5e-3, 1e-14]], np.float32)
  gradient = jnp.array([1e-37, 0.0], np.float32)
  curvature = newton.Hessian(hessian_fn=lambda x: hessian)
  tx = newton.scale_by_newton(curvature=curvature, solver=solver)
  found, _ = tx.update(gradient, tx.init(gradient), gradient, value_fn=jnp.sum)
  assert_descends(np.asarray(found), np.asarray(gradient))


@each_size
@pytest.mark.parametrize("solver", SOLVERS, ids=names(SOLVERS))
def test_no_solver_climbs(solver, n, dtype):
  kinds, hessians, gradients = problems(n, dtype, draws=112 if n == 5 else 6)

  def step(hessian, gradient):
    curvature = newton.Hessian(hessian_fn=lambda x: hessian)
    tx = newton.scale_by_newton(curvature=curvature, solver=solver)
    x = jnp.ones_like(gradient)
    return tx.update(gradient, tx.init(x), x, value_fn=jnp.sum)

  directions, states = jax.jit(jax.vmap(step))(hessians, gradients)
  assert len(kinds) == (10_080 if n == 5 else 540)
  outcomes = [list(Outcome)[code] for code in np.asarray(states.outcome)]
  for kind, hessian, gradient, direction, outcome in zip(
    kinds, hessians, gradients, np.asarray(directions), outcomes
  ):
    where = (kind, outcome.name, hessian)
    assert_descends(direction, gradient, *where)
    is_finite = np.isfinite(gradient).all()
    is_zero = np.abs(gradient).max() < np.finfo(dtype).tiny
    assert (outcome is Outcome.GRADIENT_NOT_FINITE) == (not is_finite), where
    if not is_finite:
      assert not direction.any(), where
    elif np.isfinite(hessian).all():
      assert outcome is not Outcome.HESSIAN_NOT_FINITE, where
    elif not is_zero:
      told = Outcome.PRODUCT_NOT_FINITE if solver in ITERATIVE else Outcome.HESSIAN_NOT_FINITE
      assert outcome is told, where
      assert solver in ITERATIVE or np.array_equal(direction, gradient), where


@each_size
@pytest.mark.parametrize("globalization", GLOBALIZATIONS, ids=names(GLOBALIZATIONS))
def test_no_globalization_raises_the_loss(globalization, n, dtype):
  kinds, hessians, gradients = problems(n, dtype, draws=8)

  def loss(x, hessian, gradient):
    # Bounded below by the last term, so that there is a minimum; its slope at 0 is 0.
    quadratic = x @ hessian @ x / 2 + gradient @ x
    return quadratic + jnp.abs(gradient).max() * jnp.sum(x**4)

  def step(hessian, gradient):
    symmetric = hessian / 2 + hessian.T / 2
    tx = newton.newton(
      curvature=newton.Hessian(hvp_fn=lambda x, v: symmetric @ v), globalization=globalization
    )
    x = jnp.zeros_like(gradient)
    fun = functools.partial(loss, hessian=symmetric, gradient=gradient)
    updates, state = tx.update(gradient, tx.init(x), x, value_fn=fun)
    again, state2 = tx.update(
      jax.grad(fun)(updates), state, optax.apply_updates(x, updates), value_fn=fun
    )
    return updates, state, again, state2, fun(x), fun(updates), fun(updates + again)

  found = jax.tree.map(np.asarray, jax.jit(jax.vmap(step))(hessians, gradients))
  updates, state, again, _, before, after, last = found
  assert np.isfinite(updates).all()
  assert np.isfinite(again).all()
  for index, kind in enumerate(kinds):
    outcome = list(Outcome)[state.outcome[index]]
    where = (kind, outcome.name, hessians[index])
    assert_descends(-updates[index], gradients[index], *where)
    assert state.accepted[index] or not updates[index].any(), where
    if state.accepted[index]:
      reach = np.maximum(np.abs(updates[index]), np.abs(updates[index] + again[index]))
      with np.errstate(all="ignore"):
        largest = reach @ np.abs(hessians[index]) @ reach + np.abs(gradients[index]) @ reach
        noise = 64 * np.finfo(dtype).eps * (largest + np.abs(after[index]))
        noise += 4 * np.finfo(dtype).tiny  # differences below are 0 for XLA
      assert after[index] <= before[index] + noise, where
      assert last[index] <= after[index] + noise, where
    if not np.isfinite(gradients[index]).all():
      assert outcome in (Outcome.GRADIENT_NOT_FINITE, Outcome.VALUE_NOT_FINITE), where
  # Most of them can be stepped on: what never steps could not climb either.
  plain = np.isin(kinds, ["definite", "indefinite", "negative", "singular", "barely indefinite"])
  ordinary = plain & (np.abs(hessians).max((1, 2)) < 10) & (np.abs(gradients).max(1) > 1e-3)
  ordinary &= (np.abs(hessians).max((1, 2)) > 0.1) & (np.abs(gradients).max(1) < 1e3)
  assert ordinary.sum() >= 2
  assert state.accepted[ordinary].all()


@pytest.mark.parametrize("curvature", CURVATURES.values(), ids=CURVATURES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308])
def test_no_curvature_brings_what_is_not_finite_into_the_update(curvature, value):
  def loss(p):
    return jnp.sum(jnp.cos(p["a"])) + p["b"] ** 2 + value * p["a"][0] * p["a"][1]

  params = {"a": jnp.array([0.3, 0.4]), "b": jnp.array(1.0)}

  def hvp(p, v):
    return jax.jvp(jax.grad(loss), (p,), (v,))[1]

  grads = {"a": jnp.array([1.0, -1.0]), "b": jnp.array(2.0)}
  for tx in (
    newton.newton(curvature=curvature(hvp)),
    newton.scale_by_newton(curvature=curvature(hvp)),
  ):
    updates, _ = tx.update(grads, tx.init(params), params, value_fn=loss)
    chex.assert_tree_all_finite(updates)


def test_a_lone_run_is_as_safe_as_a_batch():
  kinds, hessians, gradients = problems(5, np.float32, draws=112)

  @jax.jit
  def step(hessian, gradient):
    tx = newton.scale_by_newton(curvature=newton.Hessian(hessian_fn=lambda x: hessian))
    return tx.update(gradient, tx.init(gradient), jnp.ones_like(gradient), value_fn=jnp.sum)[0]

  for kind, hessian, gradient in zip(kinds, hessians, gradients):
    direction = np.asarray(step(hessian, gradient))
    assert_descends(direction, gradient, kind, hessian)
