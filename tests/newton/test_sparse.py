"""A sparse pattern is the whole Hessian, in another order."""

import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from kinkopt.newton import (
  Cholesky,
  ConjugateGradients,
  Hessian,
  SparseHessian,
  SteihaugTrustRegion,
  TrustRegion,
  minimize,
  newton,
  scale_by_newton,
)
from kinkopt.newton._banded import Banded
from kinkopt.newton._matrix import Blocks
from kinkopt.newton._pattern import colour, detect
from kinkopt.newton._point import Point
from kinkopt.newton._sparse import Reordered

KEY = jax.random.key(0)


def ring(x):
  return jnp.sum((jnp.roll(x, 1) - x**2) ** 2) + jnp.sum((x - 1) ** 2)


def membrane(p):
  """A surface of least area, more or less, with its rim pulled."""
  u = p["u"]
  slopes = (u[1:, :-1] - u[:-1, :-1]) ** 2 + (u[:-1, 1:] - u[:-1, :-1]) ** 2
  rim = jnp.sin(jnp.linspace(0, 3, u.shape[1]))
  return (
    jnp.sum(jnp.sqrt(1 + 100 * slopes)) + 10 * jnp.sum((u[0] - rim) ** 2) + 1e-3 * jnp.sum(u**2)
  )


def separable(p):
  return jnp.sum(jnp.cosh(p["a"])) + jnp.sum(p["b"] ** 4)


def arrow(x):
  return jnp.sum((x[1:] * x[0] - 1) ** 2) + jnp.sum(x**2)


def complex_chain(z):
  return jnp.sum(jnp.abs(z[1:] - z[:-1] ** 2) ** 2) + jnp.sum(jnp.abs(z - 1) ** 4)


CASES = {
  "ring": (ring, jnp.linspace(-1, 1, 30), 2),
  "grid": (membrane, {"u": jnp.asarray(np.random.default_rng(0).normal(size=(5, 12)))}, 6),
  "separable": (separable, {"a": jnp.linspace(0, 1, 7), "b": jnp.linspace(1, 2, 6)}, 0),
  "arrow": (arrow, jnp.linspace(0.5, 1, 9), 8),
  "complex": (complex_chain, jnp.linspace(0.5, 1 + 1j, 6), 6),
  "one number": (lambda x: jnp.cosh(x), jnp.array(0.3), 0),
}


@pytest.mark.parametrize(("name", "batch_size"), [*((name, None) for name in CASES), ("grid", 2)])
def test_it_is_the_whole_hessian(name, batch_size):
  fun, params, widest = CASES[name]
  point = Point.of(params, fun, {})
  curvature = SparseHessian.of(fun, params, key=KEY, batch_size=batch_size)
  assert curvature.bandwidth <= widest
  whole, found = Hessian().at(point).matrix().dense(), curvature.at(point).matrix()
  np.testing.assert_allclose(found.dense(), whole, rtol=1e-13, atol=1e-13)
  rng = np.random.default_rng(1)
  vector = [jnp.asarray(rng.normal(size=part.shape)) for part in point.parts]
  products = [c.at(point).mv(vector) for c in (Hessian(), curvature)]
  chex.assert_trees_all_close(*products, rtol=1e-12)


@pytest.mark.parametrize("solver", [Cholesky(), ConjugateGradients()])
def test_the_step_is_that_of_the_whole_hessian(solver):
  p = CASES["grid"][1]
  steps = [
    scale_by_newton(curvature=curvature, solver=solver).update(
      jax.grad(membrane)(p), scale_by_newton().init(p), p, value_fn=membrane
    )[0]["u"]
    for curvature in (Hessian(), SparseHessian.of(membrane, p, key=KEY))
  ]
  np.testing.assert_allclose(*steps, rtol=1e-8, atol=1e-12)


def test_another_order_answers_as_the_dense_matrix():
  rng = np.random.default_rng(0)
  band = Banded(jnp.asarray(rng.normal(size=(20, 4))).at[:, 0].add(9))
  order = rng.permutation(20).astype(np.int32)
  found = Reordered(band, jnp.asarray(order), jnp.asarray(np.argsort(order).astype(np.int32)))
  expected = np.zeros((20, 20))
  expected[np.ix_(order, order)] = band.dense()
  dense = Blocks.full(jnp.asarray(expected))
  vector, scales = jnp.asarray(rng.normal(size=20)), jnp.asarray(rng.uniform(0.5, 2, 20))
  np.testing.assert_array_equal(found.dense(), expected)
  np.testing.assert_array_equal(found.diagonal(), np.diag(expected))
  np.testing.assert_array_equal(found.identity().dense(), np.eye(20))
  np.testing.assert_allclose(found.mv(vector), expected @ vector, rtol=1e-13)
  np.testing.assert_allclose(found.scaled(scales).dense(), dense.scaled(scales).dense())
  np.testing.assert_array_equal(found.row_largest(), dense.row_largest())
  np.testing.assert_allclose(found.bound(), dense.bound())
  factor = found.factor(jnp.array(0.5))
  assert factor.is_definite
  solution = np.linalg.solve(expected + 0.5 * np.eye(20), vector)
  np.testing.assert_allclose(found.solve(factor.arrays, vector), solution, rtol=1e-12)


@pytest.mark.parametrize("globalization", [None, TrustRegion()])
def test_a_grid_is_solved_as_by_products(globalization):
  p = {"u": jnp.zeros((8, 50))}
  curvature = SparseHessian.of(membrane, p, key=KEY)
  options = {} if globalization is None else {"globalization": globalization}
  found = minimize(membrane, p, newton(curvature=curvature, **options))
  other = minimize(membrane, p, newton(globalization=SteihaugTrustRegion()))
  assert found.reason.name == other.reason.name == "CONVERGED"
  np.testing.assert_allclose(found.value, other.value, rtol=1e-12)


def test_a_hundred_thousand_variables_without_a_given_band():
  x = jnp.zeros(100_000)
  curvature = SparseHessian.of(ring, x, key=KEY)
  assert (curvature.bandwidth, curvature.products) == (2, 4)
  found = minimize(ring, x, newton(curvature=curvature))
  assert found.reason.name == "CONVERGED"
  np.testing.assert_allclose(found.params, 1, atol=1e-7)


def test_data_are_handed_on_and_lanes_are_apart():
  def pulled(x, a):
    return ring(x) + jnp.sum((x - a) ** 4)

  curvature = SparseHessian.of(pulled, jnp.zeros(12), key=KEY, data={"a": 0.0})
  tx = newton(curvature=curvature)
  where = lambda tx: jax.vmap(lambda a: minimize(pulled, jnp.zeros(12), tx, data={"a": a}).params)  # noqa: E731
  a = jnp.linspace(-2, 2, 5)
  np.testing.assert_allclose(where(tx)(a), where(newton())(a), rtol=1e-9, atol=1e-9)


def circulant(n, *distances):
  i = np.arange(n)
  return scipy.sparse.coo_array(
    (
      np.ones(n * len(distances), bool),
      (np.tile(i, len(distances)), np.concatenate([(i + d) % n for d in distances])),
    ),
    (n, n),
  ).tocsr()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 100])
@pytest.mark.parametrize("density", [0, 0.03, 0.3, 1])
@pytest.mark.parametrize("seed", range(3))
def test_every_entry_is_found_and_no_other(n, density, seed):
  rng = np.random.default_rng(seed)
  matrix = np.where(rng.uniform(size=(n, n)) < density, rng.normal(size=(n, n)), 0)
  matrix = np.diag(rng.normal(size=n)) + matrix + matrix.T
  found = detect(lambda v: matrix @ v, n, rng).toarray()
  np.testing.assert_array_equal(found, matrix != 0)


@pytest.mark.parametrize("n", [1, 5, 40])
@pytest.mark.parametrize("density", [0, 0.05, 0.5, 1])
def test_columns_of_one_colour_share_no_row(n, density):
  matrix = np.random.default_rng(n).uniform(size=(2 * n, n)) < density
  colours = colour(scipy.sparse.csr_array(matrix))
  for each in range(colours.max() + 1):
    assert matrix[:, colours == each].sum(axis=1).max() <= 1


def test_a_chain_takes_few_products_to_find():
  chain, calls = circulant(30_000, 0, 1, -1).astype(float), []
  detect(lambda v: calls.append(0) or chain @ v, 30_000, np.random.default_rng(0))
  assert len(calls) < 6 * 15  # columns, times halvings


def test_what_vanishes_at_the_start_by_accident_is_found():
  curvature = SparseHessian.of(ring, jnp.zeros(8), key=KEY)
  np.testing.assert_array_equal(curvature.pattern.toarray(), circulant(8, 0, 1, -1).toarray())


def test_another_key_finds_the_same():
  patterns = [
    SparseHessian.of(ring, jnp.ones(20), key=jax.random.key(seed)).pattern.toarray()
    for seed in range(5)
  ]
  for pattern in patterns:
    np.testing.assert_array_equal(pattern, patterns[0])


@pytest.mark.parametrize(
  "pattern", [np.eye(4), scipy.sparse.coo_array(([1], ([3], [0])), (4, 4)), np.zeros((4, 4))]
)
def test_a_pattern_of_ones_own_is_taken(pattern):
  x = jnp.arange(1.0, 5)
  tx = scale_by_newton(curvature=SparseHessian(pattern))
  step, _ = tx.update(4 * x**3, tx.init(x), x, value_fn=lambda x: jnp.sum(x**4))
  np.testing.assert_allclose(step, x / 3, rtol=1e-12)


def test_a_pattern_with_too_few_entries_does_not_make_it_climb():
  x = jnp.linspace(-1, 1, 12)
  tx = newton(curvature=SparseHessian(np.eye(12)))
  state, step = tx.init(x), jax.jit(lambda *args: tx.update(*args, value_fn=ring))
  losses = [float(ring(x))]
  for _ in range(40):
    updates, state = step(jax.grad(ring)(x), state, x)
    x = x + updates
    losses.append(float(ring(x)))
  assert np.all(np.diff(losses) <= 0)
  assert losses[-1] < 0.1 * losses[0]


def test_without_scipy_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "scipy.sparse", None)
  with pytest.raises(ImportError, match=r"SciPy, which is not installed.*kinkopt\[sparse\]"):
    SparseHessian.of(ring, jnp.zeros(3), key=KEY)


@pytest.mark.parametrize("pattern", [None, "chain", object()])
def test_what_is_no_pattern_is_refused(pattern):
  message = rf"must be what `scipy.sparse.csr_array` takes, but is {type(pattern).__name__}"
  with pytest.raises(TypeError, match=message):
    SparseHessian(pattern)


@pytest.mark.parametrize("shape", [(3, 4), (4,)])
def test_a_pattern_that_is_not_square_is_refused(shape):
  with pytest.raises(ValueError, match=r"must be square.*shaped \("):
    SparseHessian(np.ones(shape))


def test_a_pattern_of_another_size_is_refused():
  curvature = SparseHessian.of(ring, jnp.zeros(8), key=KEY)
  with pytest.raises(ValueError, match="has 8 coordinates, but the parameters have 4"):
    minimize(ring, jnp.zeros(4), newton(curvature=curvature))


def test_a_hessian_without_zeros_is_refused():
  with pytest.raises(ValueError, match=r"SparseHessian\.of`.*not sparse.*meets.*SteihaugTrust"):
    SparseHessian.of(lambda x: jnp.sum(x) ** 4, jnp.ones(1500), key=KEY)
  with pytest.raises(ValueError, match=r"`SparseHessian`: .*not sparse.*1,500 others"):
    SparseHessian(np.ones((1500, 1500)))


def test_second_derivatives_that_are_not_finite_are_refused():
  with pytest.raises(ValueError, match="second derivatives that are not finite near `params`"):
    SparseHessian.of(lambda x: jnp.sum(jnp.sqrt(x)), -jnp.ones(4), key=KEY)


def test_parameters_that_have_no_pattern_are_refused():
  with pytest.raises(ValueError, match="without a single number"):
    SparseHessian.of(lambda x: jnp.sum(x), jnp.zeros(0), key=KEY)
  with pytest.raises(TypeError, match=r"SparseHessian\.of"):
    SparseHessian.of(lambda x: jnp.sum(x), jnp.arange(3), key=KEY)
