"""Floating point at its edges: steps, quotients, roots, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt._numerics import (
  abs_sq,
  compute_dtype,
  exact_step,
  machine_eps,
  real_dtype,
  round_to_dtype,
  safe_divide,
  safe_sqrt,
)

REAL_DTYPES = ("float16", "bfloat16", "float32", "float64")


@pytest.mark.parametrize(
  ("dtype", "want"),
  [
    ("float16", 2.0**-10),
    ("bfloat16", 2.0**-7),
    ("float32", 2.0**-23),
    ("complex64", 2.0**-23),
    ("float64", 2.0**-52),
    (float, 2.0**-52),
    (jnp.complex128, 2.0**-52),
  ],
)
def test_machine_eps_is_the_gap_above_1(dtype, want):
  got = machine_eps(dtype)
  assert type(got) is float
  assert got == want


@pytest.mark.parametrize("promotion", ["standard", "strict"])
@pytest.mark.parametrize(
  ("dtypes", "want"),
  [
    ((), "float32"),
    (("float16",), "float32"),
    (("bfloat16", "float16"), "float32"),
    (("float64", "bfloat16"), "float64"),
    (("complex64",), "complex64"),
    (("complex64", "float64"), "complex128"),
    (("int32",), "float32"),
  ],
)
def test_compute_dtype_is_the_widest_and_float32_at_least(dtypes, want, promotion):
  with jax.numpy_dtype_promotion(promotion):
    assert compute_dtype(*dtypes) == want


def test_compute_dtype_stays_within_what_jax_has():
  with jax.enable_x64(False):
    assert compute_dtype(np.float64) == "float32"


@pytest.mark.parametrize(
  ("dtype", "want"),
  [
    ("bfloat16", "bfloat16"),
    ("float32", "float32"),
    ("complex64", "float32"),
    ("complex128", "float64"),
    ("int32", "int32"),
    ("bool", "bool"),
  ],
)
def test_real_dtype_is_that_of_the_modulus(dtype, want):
  assert real_dtype(dtype) == want
  if dtype != "bool":
    assert jnp.abs(jnp.ones(1, dtype)).dtype == want


def test_abs_sq_is_the_square_of_the_modulus_without_a_root():
  np.testing.assert_array_equal(abs_sq(jnp.array([-3.0, 0.0])), [9.0, 0.0])
  got = abs_sq(jnp.array([3 - 4j, 0j], jnp.complex64))
  assert got.dtype == np.float32
  np.testing.assert_array_equal(got, [25.0, 0.0])
  # Through the root, the derivative at 0 would be 0/0.
  np.testing.assert_array_equal(jax.grad(lambda z: abs_sq(z))(0j), 0j)


@pytest.mark.parametrize(
  ("numerator", "denominator", "want"),
  [
    (0, 0, 0),
    (-0.0, 0, 0),
    (1, 0, np.inf),
    (-1, 0, -np.inf),
    (6, 3, 2),
    (0, 3, 0),
    (np.nan, 0, np.nan),
    (0, np.nan, np.nan),
    (np.inf, np.inf, np.nan),
  ],
)
def test_safe_divide_defines_0_over_0_and_nothing_else(numerator, denominator, want):
  with jax.debug_nans(not np.isnan(want)):
    got = safe_divide(jnp.float64(numerator), jnp.float64(denominator))
  np.testing.assert_equal(float(got), float(want))


def test_safe_divide_has_finite_derivatives_at_0_over_0():
  grad = jax.grad(safe_divide, argnums=(0, 1))
  np.testing.assert_array_equal(grad(0.0, 0.0), (0.0, 0.0))
  np.testing.assert_allclose(grad(6.0, 3.0), (1 / 3, -2 / 3), rtol=1e-15)


@pytest.mark.parametrize("dtype", REAL_DTYPES)
def test_safe_sqrt_is_the_root(dtype):
  x = jnp.array([0.0, 1.0, 2.25, 1e-4, jnp.inf, jnp.nan, -1.0], dtype)
  got = safe_sqrt(x)
  assert got.dtype == x.dtype
  # NumPy knows bfloat16's NaN only after widening.
  np.testing.assert_array_equal(got.astype(float), jnp.sqrt(x).astype(float))


def test_derivative_of_safe_sqrt_at_0_is_0_forward_and_backward_and_twice():
  np.testing.assert_array_equal(jax.vmap(jax.grad(safe_sqrt))(jnp.array([0.0, 4.0])), [0.0, 0.25])
  np.testing.assert_array_equal(jax.jvp(safe_sqrt, (0.0,), (1.0,)), (0.0, 0.0))
  np.testing.assert_array_equal(jax.grad(jax.grad(safe_sqrt))(0.0), 0.0)


@pytest.mark.parametrize("dtype", REAL_DTYPES)
def test_round_to_dtype_changes_no_number_of_its_dtype(dtype):
  info = jnp.finfo(dtype)
  x = jnp.array([0.0, -0.0, 1.0, -1.7, info.max, info.tiny, jnp.inf, jnp.nan, 1 + info.eps], dtype)
  got = jax.jit(round_to_dtype)(x)
  assert got.dtype == x.dtype
  np.testing.assert_array_equal(got.astype(float), x.astype(float))
  np.testing.assert_array_equal(jnp.signbit(got[:2]), [False, True])


def test_round_to_dtype_keeps_the_subnormals_of_float16():
  """1e-5, the notes' step, is one of them."""
  x = jnp.array([1e-5, 6e-8, -3e-5], jnp.float16)
  np.testing.assert_array_equal(jax.jit(round_to_dtype)(x), x)
  assert np.all(x != 0)


def as_rounded_by_numpy(x, step):
  """x + step, formed in float64 and rounded once; the sum is exact there for these numbers."""
  exact = np.asarray(x, np.float64) + np.asarray(jnp.asarray(step, x.dtype), np.float64)
  return np.asarray(jnp.asarray(exact, x.dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("step", [1e-5, -1e-5, 1e-2, -0.3])
@pytest.mark.parametrize("compiled", [False, True])
def test_exact_step_says_how_far_it_really_moved(dtype, step, compiled):
  x = jnp.concatenate([jnp.linspace(-5, 5, 401), jnp.array([0.0, 1.0, 1e-3])]).astype(dtype)
  moved, taken = (jax.jit(exact_step) if compiled else exact_step)(x, step)
  assert moved.dtype == taken.dtype == x.dtype
  np.testing.assert_array_equal(moved, as_rounded_by_numpy(x, step))
  # Where the step is small against x, the distance is exact (Sterbenz).
  small = np.abs(np.asarray(x, float)) > 2 * abs(step)
  distance = np.asarray(moved, float) - np.asarray(x, float)
  np.testing.assert_array_equal(np.asarray(taken, float)[small], distance[small])


@pytest.mark.parametrize("dtype", REAL_DTYPES)
def test_compiler_does_not_simplify_the_step_away(dtype):
  """In one compiled function, with wider arithmetic around it, (x + h) - x must not become h."""

  def distance(x, step):
    moved, _ = exact_step(x, step)
    wide = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
    return moved.astype(wide) - x.astype(wide), exact_step(x, step)[1].astype(wide)

  x = jnp.array([1.0, 3.3, 117.0], dtype)
  step = 0.37
  moved = as_rounded_by_numpy(x, step) if dtype != "float64" else np.asarray(x) + step
  want = np.asarray(moved, float) - np.asarray(x, float)
  for call in (jax.jit(distance), jax.jit(jax.vmap(distance, in_axes=(0, None)))):
    for got in call(x, step):
      np.testing.assert_array_equal(np.asarray(got, float), want)
  assert np.all(want != step)


def test_step_below_the_spacing_is_0():
  moved, taken = exact_step(jnp.float32([256.0, 1.0]), 1e-5)
  np.testing.assert_array_equal(taken == 0, [True, False])
  assert moved[0] == 256.0


def test_exact_step_takes_python_numbers_and_arrays_of_steps():
  moved, taken = exact_step(1.0, 0.5)
  assert (moved, taken) == (1.5, 0.5)
  moved, _ = exact_step(jnp.zeros((2, 1), jnp.float32), np.array([1.0, 2.0, 3.0]))
  assert moved.shape == (2, 3)
  assert moved.dtype == np.float32
