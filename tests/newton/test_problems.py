"""The problems are the published ones: the same values, the same minima, and smooth to 2nd order.

Values at the starts were computed by Argonne's own Fortran; values of minima are as printed by
Moré, Garbow and Hillstrom, and as certified by NIST.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.newton import problems
from tests.newton.problems import MGH, NIST, PROBLEMS, cases

# At the published start and at ten times that, by `objfcn` of Algorithm 566 (ACM TOMS 7, 1981) and,
# where that has no such problem, by `ssqfcn` and `vecfcn` of MINPACK's tests.
START_VALUES = {
  "rosenbrock": (24.2, 1795769.0),
  "freudenstein_and_roth": (400.5, 154575360.0),
  "powell_badly_scaled": (1.135261717348, 1.000000002981),
  "brown_badly_scaled": (999998000003.0, 999980009804.0),
  "beale": (14.203125, 100845486.7031),
  "jennrich_and_sampson": (4171.30616196, 5.542985238221e34),
  "helical_valley": (2500.0, 10600.0),
  "bard": (41.68169586168, 1306.233549816),
  "gaussian": (3.888106991167e-06, 14.36102642186),
  "meyer": (1693607809.436, 17374032052990.0),
  "gulf_research": (12.11070582557, 0.0),
  "box_3d": (1031.153810609, 120398.8528247),
  "powell_singular": (215.0, 1615400.0),
  "wood": (19192.0, 157345762.0),
  "kowalik_and_osborne": (0.005313172272109, 8.876646047095),
  "brown_and_dennis": (7926693.336997, 308106428512.9),
  "osborne_1": (0.8790262935446, 777.5392219658),
  "biggs_exp6": (0.779070075656, 28.9835114414),
  "osborne_2": (2.093419514212, 199.6846790485),
  "watson_6": (30.0, 41385107.42353),
  "watson_9": (30.0, 146122816.0437),
  "extended_rosenbrock_10": (121.0, 8978845.0),
  "extended_powell_singular_12": (645.0, 4846200.0),
  "penalty_1_4": (885.06264, 8998500.09054),
  "penalty_1_10": (148032.56535, 1482230750.437),
  "penalty_2_4": (2.340008805463, 62024.04003338),
  "penalty_2_10": (162.652776566, 1887899.040134),
  "variably_dimensioned_10": (2198551.1625, 146422305.0),
  "trigonometric_10": (0.007075759466223, 412.3009254758),
  "brown_almost_linear_10": (273.2480478287, 95367412126800.0),
  "discrete_boundary_value_10": (0.0007885191012648, 0.2762055151592),
  "discrete_integral_equation_10": (0.06341684157945, 37.41564616692),
  "broyden_tridiagonal_10": (21.0, 408450.0),
  "broyden_banded_10": (360.0, 293468490.0),
  "linear_full_rank_10": (50.0, 1220.0),
  "linear_rank_1_10": (8658670.0, 867944020.0),
  "linear_rank_1_zero_10": (4067996.0, 408151940.0),
  "chebyquad_8": (0.03861769828593, 2.021218454316e22),
}

# Where they are not 0 alone: the values that the paper prints, most of them cut after six digits.
PUBLISHED = {
  "freudenstein_and_roth": (0, 48.9842),
  "jennrich_and_sampson": (124.362,),
  "bard": (8.21487e-3, 17.4286),
  "gaussian": (1.12793e-8,),
  "meyer": (87.9458,),
  "kowalik_and_osborne": (3.07505e-4, 1.02734e-3),
  "brown_and_dennis": (85822.2,),
  "osborne_1": (5.46489e-5,),
  "biggs_exp6": (5.65565e-3,),
  "osborne_2": (4.01377e-2,),
  "watson_6": (2.28767e-3,),
  "watson_9": (1.39976e-6,),
  "penalty_1_4": (2.24997e-5,),
  "penalty_1_10": (7.08765e-5,),
  "penalty_2_4": (9.37629e-6,),
  "penalty_2_10": (2.93660e-4,),
  "brown_almost_linear_10": (0, 1),
  "linear_full_rank_10": (20 - 10,),
  "linear_rank_1_10": (20 * (20 - 1) / (2 * (2 * 20 + 1)),),
  "linear_rank_1_zero_10": ((20**2 + 3 * 20 - 6) / (2 * (2 * 20 - 3)),),
  "chebyquad_8": (3.51687e-3,),
}

UNCONSTRAINED = [
  *("helical_valley", "biggs_exp6", "gaussian", "powell_badly_scaled", "box_3d"),
  *("variably_dimensioned_10", "watson_6", "watson_9", "penalty_1_4", "penalty_1_10"),
  *("penalty_2_4", "penalty_2_10", "brown_badly_scaled", "brown_and_dennis", "gulf_research"),
  *("trigonometric_10", "extended_rosenbrock_10", "extended_powell_singular_12"),
  *("beale", "wood", "chebyquad_8"),
]

by_name = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)


@functools.cache
def derivatives(problem):
  """A function from a point to loss, gradient, Hessian, residual and Jacobian, as NumPy arrays."""

  @jax.jit
  def at(x):
    value, grad = jax.value_and_grad(problem.loss)(x)
    jacobian = jax.jacfwd(problem.residual)(x)
    return value, grad, jax.hessian(problem.loss)(x), problem.residual(x), jacobian

  return lambda x: jax.tree.map(np.asarray, at(jnp.asarray(x)))


def test_the_tables_are_complete():
  assert [problem.name for problem in MGH] == list(START_VALUES)
  assert len({problem.residual for problem in MGH}) == 35
  assert len(NIST) == 27
  assert len({problem.name for problem in PROBLEMS}) == len(PROBLEMS)
  assert {problem.name for problem in MGH if problem.is_unconstrained_set} == set(UNCONSTRAINED)
  assert not any(problem.is_unconstrained_set for problem in NIST)


def test_a_case_is_named_by_its_problem_and_its_start():
  table = cases(MGH)
  assert len(table) == 3 * 38 - 1
  assert len(cases(NIST)) == 2 * 27
  problem, start = table["watson_6, 100x"]
  assert problem.dimension == 6
  np.testing.assert_array_equal(start, np.full(6, 100.0))
  np.testing.assert_array_equal(table["rosenbrock, 10x"][1], [-12, 10])
  np.testing.assert_array_equal(problems.cases()["Nelson, start 2"][1], [2.5, 5e-9, -0.05])


def test_only_a_start_that_overflows_is_left_out():
  assert [p.name for p in MGH if len(p.starts) < 3] == ["jennrich_and_sampson"]
  problem = next(p for p in MGH if len(p.starts) < 3)
  assert np.isinf(problem.loss(jnp.asarray(100 * problem.starts[0])))


@pytest.mark.parametrize("problem", MGH, ids=lambda problem: problem.name)
def test_values_at_the_starts_are_those_of_the_fortran(problem):
  for start, value in zip(problem.starts, START_VALUES[problem.name]):
    np.testing.assert_allclose(problem.loss(jnp.asarray(start)), value, rtol=2e-12, atol=1e-28)


@pytest.mark.parametrize("problem", MGH, ids=lambda problem: problem.name)
def test_minima_are_those_of_the_paper(problem):
  assert problem.minima[0] == min(problem.minima)
  for value in PUBLISHED.get(problem.name, (0,)):
    assert any(abs(value - minimum) <= 1e-5 * value for minimum in problem.minima)


@by_name
def test_derivatives_are_finite_where_a_method_starts(problem):
  at = derivatives(problem)
  for start in problem.starts:
    assert all(np.isfinite(array).all() for array in at(start))


@by_name
def test_a_minimiser_is_a_minimum_of_the_value_that_is_given(problem):
  at = derivatives(problem)
  assert problem.minimisers
  for x in problem.minimisers:
    value, grad, hessian, residual, jacobian = at(x)
    # To 1e-9 of itself; where it is 0 the 11 to 13 digits of the minimiser leave up to 1e-20, and
    # so they do for Lanczos1, certified as 1.4e-25.
    assert min(abs(value - minimum) / (minimum + 1e-11) for minimum in problem.minima) <= 1e-9
    # What a step along the coordinates, each in the unit of its own curvature, could still gain:
    # 1e-11 of the value by the certified digits of MGH10, less elsewhere.
    curvature = np.diag(hessian)
    unit = np.sqrt(np.where(curvature > 0, curvature, 1))
    assert np.sum((grad / unit) ** 2) <= 2e-11 * value + 1e-19
    # Flat directions are 0 up to rounding: of a second derivative that sums 2 m products.
    assert np.linalg.eigvalsh(hessian / np.outer(unit, unit)).min() >= -1e-10
    np.testing.assert_allclose(grad, 2 * residual @ jacobian, rtol=1e-6, atol=1e-10 * unit.max())


@by_name
def test_the_dtype_follows_the_point_without_promotion(problem):
  with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
    for dtype in (np.float32, np.float64):
      residual = jax.jit(problem.residual)(jnp.asarray(problem.starts[0], dtype))
      assert residual.dtype == dtype
      assert residual.ndim == 1
