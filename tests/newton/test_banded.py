"""A band is solved as the matrix that it stands for."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.newton import BandedHessian, Hessian, minimize, newton, scale_by_newton
from kinkopt.newton._banded import Banded
from kinkopt.newton._matrix import Blocks
from kinkopt.newton._point import Point

SHAPES = [(1, 0), (5, 0), (2, 1), (16, 1), (17, 2), (33, 3), (50, 20), (40, 39)]


def random_band(n, width, definite=True):
  rng = np.random.default_rng(n + width)
  bands = rng.normal(size=(n, width + 1))
  bands[:, 0] = 2 * (width + 1) * (1 if definite else rng.choice([-1, 1], n))
  return Banded(jnp.asarray(bands))


@pytest.mark.parametrize(("n", "width"), SHAPES)
def test_a_band_answers_as_its_dense_matrix(n, width):
  band = random_band(n, width)
  dense = Blocks.full(band.dense())
  rng = np.random.default_rng(0)
  vector, scales = jnp.asarray(rng.normal(size=n)), jnp.asarray(rng.uniform(0.5, 2, n))
  expected = np.zeros((n, n))
  for i in range(n):
    for k in range(min(width, i) + 1):
      expected[i, i - k] = expected[i - k, i] = band.bands[i, k]
  np.testing.assert_array_equal(band.dense(), expected)
  close = {"rtol": 1e-13, "atol": 1e-13}
  np.testing.assert_allclose(band.mv(vector), expected @ vector, **close)
  np.testing.assert_allclose(band.scaled(scales).dense(), dense.scaled(scales).dense(), **close)
  np.testing.assert_array_equal(band.diagonal(), dense.diagonal())
  np.testing.assert_array_equal(band.identity().dense(), np.eye(n))
  np.testing.assert_allclose(band.row_largest(), dense.row_largest(), **close)
  np.testing.assert_allclose(band.bound(), dense.bound(), **close)
  factor = band.factor(jnp.array(0.5))
  assert factor.is_definite
  solution = np.linalg.solve(expected + 0.5 * np.eye(n), vector)
  np.testing.assert_allclose(band.solve(factor.arrays, vector), solution, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("n", "width"), SHAPES[1:])
def test_a_band_that_is_not_definite_is_no_factor(n, width):
  band = random_band(n, width, definite=False)
  lowest = np.linalg.eigvalsh(band.dense())[0]
  assert not band.factor(jnp.array(-lowest * 0.99)).is_definite
  assert band.factor(jnp.array(-lowest * 1.01)).is_definite


def test_a_singular_band_is_not_definite():
  laplacian = Banded(jnp.stack([jnp.full(40, 2.0).at[jnp.array([0, 39])].set(1), -jnp.ones(40)], 1))
  assert not laplacian.factor(jnp.array(0.0)).is_definite


def chain(p):
  x = jnp.concatenate([p["a"], p["b"].ravel()])
  return jnp.sum((x[2:] - x[1:-1] * x[:-2]) ** 2) + jnp.sum(jnp.cosh(x - 1))


@pytest.mark.parametrize("bandwidth", [2, 3, 100])
def test_it_is_the_whole_hessian_where_the_rest_is_zero(bandwidth):
  p = {"a": jnp.linspace(0, 1, 7), "b": jnp.linspace(-1, 2, 12).reshape(3, 4)}
  point = Point.of(p, chain, {})
  whole = Hessian().at(point).matrix().dense()
  found = BandedHessian(bandwidth).at(point).matrix().dense()
  np.testing.assert_allclose(found, whole, rtol=1e-13, atol=1e-13)
  steps = [
    scale_by_newton(curvature=curvature).update(
      jax.grad(chain)(p), scale_by_newton().init(p), p, value_fn=chain
    )[0]
    for curvature in (Hessian(), BandedHessian(bandwidth))
  ]
  chex.assert_trees_all_close(*steps, rtol=1e-10)


def test_too_small_a_band_still_goes_down():
  p = {"a": jnp.linspace(0, 1, 7), "b": jnp.linspace(-1, 2, 12).reshape(3, 4)}
  found = minimize(chain, p, newton(curvature=BandedHessian(1)))
  best = minimize(chain, p)
  np.testing.assert_allclose(found.value, best.value, rtol=1e-9)
  assert found.steps > best.steps


def test_a_hundred_thousand_variables_are_solved():
  def long_chain(x):
    return jnp.sum((x[1:] - x[:-1] ** 2) ** 2) + jnp.sum((x - 1) ** 2)

  found = minimize(long_chain, jnp.zeros(100_000), newton(curvature=BandedHessian(1)))
  assert found.reason.name == "CONVERGED"
  np.testing.assert_allclose(found.params, 1, atol=1e-7)
