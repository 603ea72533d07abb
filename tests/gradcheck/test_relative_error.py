"""The notes' relative error: its formula, its edges, its range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt._numerics import machine_eps
from kinkopt.gradcheck import relative_error


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_formula_of_the_notes(dtype):
  keys = jax.random.split(jax.random.key(0))
  a, n = (10.0 ** jax.random.uniform(key, (1000,), dtype, -6, 6) for key in keys)
  a = a.at[::2].multiply(-1)
  wide_a, wide_n = np.asarray(a, np.longdouble), np.asarray(n, np.longdouble)
  want = np.abs(wide_a - wide_n) / np.maximum(np.abs(wide_a), np.abs(wide_n))
  got = jax.jit(relative_error)(a, n)
  assert got.dtype == dtype
  # Two roundings: the difference and the quotient.
  np.testing.assert_allclose(got, want.astype(float), rtol=1.5 * machine_eps(dtype))


@pytest.mark.parametrize(
  ("analytic", "numerical", "want"),
  [
    (0.0, 0.0, 0.0),
    (-0.0, 0.0, 0.0),
    (1.0, 0.0, 1.0),
    (0.0, -1.0, 1.0),
    (2.0, -2.0, 2.0),
    (1.0, 2.0, 0.5),
    (2.0, 1.0, 0.5),
    (1e308, -1e308, 2.0),
    (1.7e308, 1.7e308, 0.0),
    (1e308, 5e307, 0.5),
    (3e-308, -3e-308, 2.0),
    (3e-308, 6e-308, 0.5),
    (1e308, 3e-308, 1.0),
    (np.nan, 1.0, np.nan),
    (1.0, np.nan, np.nan),
    (np.nan, 0.0, np.nan),
    (np.inf, 1.0, np.nan),
    (np.inf, np.inf, np.nan),
    (3 + 4j, 0.0, 1.0),
    (3 + 4j, -3 - 4j, 2.0),
    (1j, 1.0, np.sqrt(2)),
    (1.7e308 + 1.7e308j, -1.7e308 - 1.7e308j, 2.0),
    (3e-308 + 3e-308j, 0.0, 1.0),
    (complex(0, np.nan), 1.0, np.nan),
    (2, 1.0, 0.5),
  ],
)
@pytest.mark.parametrize("call", [relative_error, jax.jit(relative_error)], ids=["eager", "jit"])
def test_edge(analytic, numerical, want, call):
  got = call(jnp.asarray(analytic), jnp.asarray(numerical))
  assert not jnp.iscomplexobj(got)
  np.testing.assert_allclose(got, want, rtol=2 * machine_eps(float))


def test_neighbouring_numbers_are_told_apart_at_every_size():
  """The power of two that guards the range must not round: one unit stays one unit."""
  sizes = np.ldexp(1.5, np.arange(-1021, 1023))
  got = relative_error(sizes, np.nextafter(sizes, np.inf))
  np.testing.assert_allclose(got, 2.0**-52 / 1.5, rtol=2 * machine_eps(float))


def test_tree_in_tree_out():
  analytic = {"w": jnp.array([[1.0, 2.0]]), "b": (3.0, None), "empty": jnp.zeros((0, 2))}
  numerical = {"w": np.array([[1.0, 4.0]]), "b": (-3.0, None), "empty": np.zeros((0, 2))}
  got = relative_error(analytic, numerical)
  assert jax.tree.structure(got) == jax.tree.structure(analytic)
  np.testing.assert_array_equal(got["w"], [[0.0, 0.5]])
  assert got["b"][0] == 2.0
  assert got["empty"].shape == (0, 2)


@pytest.mark.parametrize(
  ("analytic", "numerical", "want"),
  [
    ("float16", "float16", "float32"),
    ("bfloat16", "float16", "float32"),
    ("bfloat16", "float32", "float32"),
    ("float32", "float64", "float64"),
    ("complex64", "float32", "float32"),
    ("complex64", "float64", "float64"),
    ("complex128", "bfloat16", "float64"),
    ("int32", "float32", "float32"),
  ],
)
def test_dtype_is_the_real_part_of_the_wider_and_float32_at_least(analytic, numerical, want):
  with jax.numpy_dtype_promotion("strict"):
    for pair in ((analytic, numerical), (numerical, analytic)):
      got = relative_error(*(jnp.full(3, 2, dtype) for dtype in pair))
      assert got.dtype == want
      np.testing.assert_array_equal(got, 0)


def test_half_precision_is_compared_without_rounding_again():
  a, n = jnp.bfloat16(1.0), jnp.float32(1.0 + 2.0**-12)
  np.testing.assert_allclose(relative_error(a, n), 2.0**-12 / (1 + 2.0**-12), rtol=2.0**-22)


def test_mismatched_trees_and_shapes_are_refused():
  with pytest.raises(
    ValueError, match=r"`relative_error`: the analytic gradient .*no leaf `\['w'\]`"
  ):
    relative_error({"W": jnp.ones(2)}, {"w": jnp.ones(2)})
  match = r"leaf `\['w'\]` is float64\[2\], but float64\[2,1\] in the numerical gradient\."
  with pytest.raises(ValueError, match=match):
    relative_error({"w": jnp.ones(2)}, {"w": jnp.ones((2, 1))})


@pytest.mark.parametrize(
  ("leaf", "name"),
  [
    (np.zeros(2, jax.dtypes.float0), "float0"),
    (np.array(["a", "b"]), "<U1"),
    (np.array([None, None]), "object"),
    (np.array([True, False]), "bool"),
  ],
)
def test_leaves_that_are_no_numbers_are_named(leaf, name):
  match = rf"`relative_error` needs numbers, but the {{}} leaf `\['w'\]` is {name}\. Compare"
  with pytest.raises(TypeError, match=match.format("analytic gradient")):
    relative_error({"w": leaf}, {"w": jnp.ones(2)})
  with pytest.raises(TypeError, match=match.format("numerical gradient")):
    relative_error({"w": jnp.ones(2)}, {"w": leaf})
