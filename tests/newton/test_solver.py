"""Whatever the matrix, the direction is finite and does not climb, and the outcome says why."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.newton import Outcome
from kinkopt.newton._matrix import Blocks
from kinkopt.newton._solver import Step, shifted_cholesky
from tests.newton._matrices import KINDS, random_problems, with_spectrum

DTYPES = [np.float32, np.float64]


@jax.jit
def _solve_batch(hessians, gradients):
  return jax.vmap(solve)(hessians, gradients)


def solve_batch(hessians, gradients) -> Step:
  return jax.tree.map(np.asarray, _solve_batch(hessians, gradients))


def solve(hessian, gradient, damping=0.0, largest=None) -> Step:
  hessian, gradient = jnp.asarray(hessian), jnp.asarray(gradient)
  hessian = hessian / 2 + hessian.T / 2
  largest = float(jnp.finfo(hessian.dtype).max) if largest is None else largest
  return shifted_cholesky(Blocks.full(hessian), gradient, damping, largest)


def true_log10_size(hessian, gradient, shift):
  """Gives log10 of the largest coordinate of the step, formed so that nothing under- or overflows.

  The dtype's small numbers are not numbers for XLA on a CPU (it flushes them): hence the wide type.
  """
  hessian = np.asarray(hessian, np.longdouble)
  size = np.max(np.abs(hessian)) + shift
  matrix = ((hessian + hessian.T) / 2 + shift * np.eye(len(gradient))) / size
  g_size = np.max(np.abs(gradient))
  step = np.linalg.solve(matrix.astype(float), (gradient / g_size).astype(float))
  return np.log10(np.max(np.abs(step))) + np.log10(g_size) - np.log10(size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_no_matrix_gives_a_direction_that_climbs_or_is_not_finite(n, dtype):
  kinds, hessians, gradients = zip(*random_problems(n, dtype, draws=8))
  steps = solve_batch(np.stack(hessians), np.stack(gradients))
  assert len(kinds) == 15 * 6 * 8
  assert np.isfinite(steps.direction).all()
  assert np.isfinite(steps.shift).all()
  for index, (kind, H, g) in enumerate(zip(kinds, hessians, gradients)):
    p, outcome = steps.direction[index], list(Outcome)[steps.outcome[index]]
    where = f"{kind}, {outcome}, {H}, {g}, {p}"
    if not np.isfinite(g).all():
      assert outcome is Outcome.GRADIENT_NOT_FINITE, where
      assert not p.any(), where
    elif not p.any():
      # Zero is right only for a zero gradient, or where the step is too small for the dtype.
      tiny = np.log10(float(jnp.finfo(dtype).tiny))
      assert not (np.abs(g) >= jnp.finfo(dtype).tiny).any() or (
        true_log10_size(H, g, steps.shift[index]) < tiny + 0.1
      ), where
    elif not np.array_equal(p, g):
      # Longdouble: neither the product of two large nor that of two small numbers is lost in it.
      assert np.sum(g.astype(np.longdouble) * p.astype(np.longdouble)) > 0, where
    else:
      assert np.sum(np.square(g, dtype=np.longdouble)) > 0, where


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_outcome_tells_the_kinds_of_matrices_apart(dtype):
  expected = {
    "definite": Outcome.NEWTON,
    "badly scaled": Outcome.NEWTON,  # rescaling coordinates makes no matrix singular
    "negative": Outcome.SHIFTED,
    "low rank": Outcome.SHIFTED,
    "singular integer": Outcome.SHIFTED,
    "zero diagonal": Outcome.SHIFTED,
    "zero": Outcome.ZERO_HESSIAN,
    "one NaN": Outcome.HESSIAN_NOT_FINITE,
    "one inf": Outcome.HESSIAN_NOT_FINITE,
    "all NaN": Outcome.HESSIAN_NOT_FINITE,
  }
  rng = np.random.default_rng(0)
  kinds = [kind for kind in expected for _ in range(20)]
  hessians = np.stack([KINDS[kind](rng, 5) for kind in kinds]).astype(dtype)
  steps = solve_batch(hessians, rng.normal(size=(len(kinds), 5)).astype(dtype))
  for kind, code, shift in zip(kinds, steps.outcome, steps.shift):
    assert list(Outcome)[code] is expected[kind], kind
    assert (shift > 0) == (expected[kind] is Outcome.SHIFTED), kind


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 3, 30])
def test_the_direction_is_that_of_numpy_in_float64(n, dtype):
  rng = np.random.default_rng(1)
  eps = float(jnp.finfo(dtype).eps)
  for _ in range(20):
    eigenvalues = 10.0 ** rng.uniform(-2, 0, n)
    H = with_spectrum(rng, eigenvalues).astype(dtype)
    g = rng.normal(size=n).astype(dtype)
    step = solve(H, g)
    expected = np.linalg.solve((H.astype(float) + H.T.astype(float)) / 2, g.astype(float))
    error = np.linalg.norm(step.direction - expected) / np.linalg.norm(expected)
    # Backward stability (Higham, Theorem 10.4) with its n**2 replaced by the n of practice.
    assert error <= 10 * n * eps * eigenvalues.max() / eigenvalues.min()
    assert list(Outcome)[step.outcome] is Outcome.NEWTON
    assert step.shift == 0


@pytest.mark.parametrize("kind", ["indefinite", "negative", "low rank", "singular"])
def test_a_shifted_direction_solves_the_shifted_system(kind):
  rng = np.random.default_rng(2)
  for _ in range(20):
    H, g = KINDS[kind](rng, 6), rng.normal(size=6)
    step = solve(H, g)
    residual = (H + float(step.shift) * np.eye(6)) @ step.direction - g
    size = np.linalg.norm(H) * np.linalg.norm(step.direction) + np.linalg.norm(g)
    assert np.linalg.norm(residual) <= 100 * 6 * np.finfo(float).eps * size
    lowest = np.linalg.eigvalsh(H)[0]
    # The first shift of the sequence that suffices: never more than ten times what is needed,
    # except where the first of all, sqrt(machine_eps) * max|H|, already does.
    first = np.finfo(float).eps ** 0.5 * np.abs(H).max()
    assert -lowest < step.shift <= max(-10 * lowest, first) * (1 + 1e-6)


def test_a_positive_definite_matrix_is_never_shifted_by_its_scale():
  H = jnp.diag(jnp.array([1.0, 1e-20, 1e200]))
  step = solve(H, jnp.ones(3))
  np.testing.assert_allclose(step.direction, [1.0, 1e20, 1e-200], rtol=1e-15)
  assert list(Outcome)[step.outcome] is Outcome.NEWTON


def test_a_matrix_that_is_singular_to_rounding_is_shifted_even_if_its_factor_exists():
  # 1 + machine_eps on the diagonal: LAPACK finds a factor, whose last pivot is a rounding error.
  H = jnp.ones((2, 2)) + jnp.diag(jnp.array([0.0, float(jnp.finfo(float).eps)]))
  assert jnp.isfinite(jnp.linalg.cholesky(H)).all()
  step = solve(H, jnp.array([1.0, -1.0]))
  assert list(Outcome)[step.outcome] is Outcome.SHIFTED
  assert jnp.abs(step.direction).max() < 1e9  # 1 / first shift, instead of 1 / machine_eps


def test_damping_is_the_first_shift():
  rng = np.random.default_rng(3)
  H, g = KINDS["definite"](rng, 4), rng.normal(size=4)
  step = solve(H, g, damping=0.5)
  np.testing.assert_allclose(step.direction, np.linalg.solve(H + 0.5 * np.eye(4), g), rtol=1e-13)
  assert (step.shift, step.outcome) == (0.5, Outcome.NEWTON.code)
  step = solve(-H, g, damping=0.5)
  assert (step.shift, step.outcome) == (5.0, Outcome.SHIFTED.code)


def test_damping_divides_the_gradient_where_the_hessian_is_zero():
  step = solve(jnp.zeros((2, 2)), jnp.array([1.0, -2.0]), damping=0.5)
  np.testing.assert_allclose(step.direction, [2.0, -4.0], rtol=1e-15)
  assert step.outcome == Outcome.ZERO_HESSIAN.code


def test_where_no_shift_is_large_enough_the_gradient_is_the_direction():
  H = jnp.full((30, 30), -3e38, jnp.float32)  # its eigenvalue -9e39 is beyond float32
  step = solve(H, jnp.ones(30, jnp.float32))
  assert step.outcome == Outcome.NO_SHIFT_HELPED.code
  assert (step.direction == 1).all()
  assert step.shift == 0


def test_a_step_too_long_for_its_dtype_is_shortened_by_a_shift():
  step = solve(jnp.diag(jnp.array([1e-6, 2e-6])), jnp.array([1.0, 1.0]), largest=65504.0)
  assert step.outcome == Outcome.SHIFTED.code
  assert 0 < jnp.abs(step.direction).max() <= 65504


@pytest.mark.parametrize("bad", [np.nan, -1.0])
def test_a_traced_damping_that_could_not_be_checked_does_no_harm(bad):
  H, g = jnp.eye(3), jnp.arange(1.0, 4.0)
  step = jax.jit(lambda damping: solve(H, g, damping))(bad)
  assert jnp.isfinite(step.direction).all()
  assert step.direction @ g > 0


def test_a_poisoned_lane_changes_no_bit_of_the_others():
  rng = np.random.default_rng(4)
  hessians = np.stack([KINDS["indefinite"](rng, 6) for _ in range(32)])
  gradients = rng.normal(size=(32, 6))
  clean = solve_batch(hessians, gradients)
  for value in (np.nan, np.inf, 0.0, 1e308):
    poisoned_hessians, poisoned_gradients = hessians.copy(), gradients.copy()
    poisoned_hessians[7] = value
    poisoned_gradients[20] = value
    steps = solve_batch(poisoned_hessians, poisoned_gradients)
    others = np.delete(np.arange(32), [7, 20])
    for got, want in zip(steps, clean):
      np.testing.assert_array_equal(got[others], want[others])
    assert np.isfinite(steps.direction).all()


def test_derivatives_pass_through_the_solve_and_not_through_the_shift():
  rng = np.random.default_rng(5)
  H, g = KINDS["definite"](rng, 4), rng.normal(size=4)
  dH = rng.normal(size=(4, 4))
  dH = dH + dH.T

  def first(t):
    return solve(H + t * dH, g).direction

  expected = -np.linalg.solve(H, dH @ np.linalg.solve(H, g))
  np.testing.assert_allclose(jax.jacfwd(first)(0.0), expected, rtol=1e-12)
  np.testing.assert_allclose(jax.jacrev(first)(0.0), expected, rtol=1e-12)
  shift = float(solve(-H, g).shift)
  matrix = -H + shift * np.eye(4)
  expected = np.linalg.solve(matrix, dH @ np.linalg.solve(matrix, g))
  got = jax.jacrev(lambda t: solve(-H - t * dH, g).direction)(0.0)
  np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_a_lane_without_solution_brings_no_nan_into_a_derivative():
  H = jnp.stack([jnp.eye(2), jnp.zeros((2, 2))])
  gradient = jax.grad(lambda t: jnp.sum(jax.vmap(solve)(t * H, jnp.ones((2, 2))).direction))(2.0)
  np.testing.assert_allclose(gradient, -0.5, rtol=1e-15)  # d/dt of 2/t at 2; the lane of zeros: 0


def test_each_outcome_has_its_code_and_its_sentence():
  assert [outcome.code for outcome in Outcome] == list(range(len(Outcome)))
  sentences = [outcome.value for outcome in Outcome]
  assert len(set(sentences)) == len(sentences)
  assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in sentences)


@pytest.mark.parametrize(
  ("hessian", "gradient", "gist"),
  [
    (1.0, 1.0, "positive definite: the update is its Newton step"),
    (-1.0, 1.0, "indefinite or singular.*multiple of the identity was added that"),
    (0.0, 1.0, "Hessian is zero.*piecewise linear.*the update follows the gradient"),
    (np.nan, 1.0, "Hessian holds NaN or infinity: the update follows the gradient"),
    (1.0, np.inf, "gradient holds NaN or infinity: the update is zero"),
  ],
)
def test_the_sentences_say_what_was_done(hessian, gradient, gist):
  step = solve([[hessian]], [gradient])
  assert re.search(gist, list(Outcome)[step.outcome].value)


def test_both_triangles_count():
  H, g = np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([1.0, 1.0])
  expected = np.linalg.solve([[3.0, 0.5], [0.5, 2.0]], g)
  np.testing.assert_allclose(solve(H, g).direction, expected, rtol=1e-15)
