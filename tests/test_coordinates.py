"""Names of places in a tree, and the tree as one real vector."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt._coordinates import coordinate_name, leaf_names, ravel_real


def tree():
  return {
    "b": jnp.arange(3.0),
    "empty": jnp.zeros((0, 4)),
    "none": None,
    "scalar": 7.0,
    "w": (jnp.zeros((2, 4)), [np.float32(1.0)]),
  }


def test_leaves_are_named_as_one_would_index_them():
  assert leaf_names(tree()) == ["['b']", "['empty']", "['scalar']", "['w'][0]", "['w'][1][0]"]
  assert leaf_names(optax.ScaleByAdamState(count=0, mu=1.0, nu=2.0)) == [".count", ".mu", ".nu"]


def test_lone_leaf_is_the_root_and_an_empty_tree_has_no_names():
  assert leaf_names(1.0) == ["(root)"]
  assert leaf_names(None) == leaf_names({}) == []


@pytest.mark.parametrize(
  ("index", "want"),
  [
    (0, "['b'][0]"),
    (2, "['b'][2]"),
    (3, "['scalar']"),
    (4, "['w'][0][0, 0]"),
    (9, "['w'][0][1, 1]"),
    (11, "['w'][0][1, 3]"),
    (12, "['w'][1][0]"),
  ],
)
def test_coordinate_is_named_by_leaf_and_place_in_it(index, want):
  assert coordinate_name(tree(), index) == want


def test_coordinate_of_a_bare_array_or_number():
  assert coordinate_name(jnp.zeros((2, 3)), 5) == "[1, 2]"
  assert coordinate_name(1.0, 0) == "(root)"


def test_coordinates_are_numbered_as_the_leaves_are_laid_end_to_end():
  full = {"a": np.arange(6).reshape(1, 3, 2), "z": np.arange(6, 10)}
  for index in range(10):
    name = coordinate_name(full, index)
    # The name is what one would write: so write it.
    assert eval(f"full{name}", {"full": full}) == index


@pytest.mark.parametrize("index", [13, 100, -1])
def test_coordinate_that_is_not_there_is_an_index_error(index):
  with pytest.raises(IndexError, match=rf"no coordinate {index}: it has 13 coordinates"):
    coordinate_name(tree(), index)
  with pytest.raises(IndexError, match=r"no coordinate 0: it has 0 coordinates"):
    coordinate_name({}, 0)


def assert_same(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
    assert (a.shape, a.dtype) == (jnp.shape(b), jnp.result_type(b))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ("tree", "size", "dtype"),
  [
    (tree(), 13, "float64"),
    ({"h": jnp.array([1.5, -2.0], jnp.bfloat16)}, 2, "float32"),
    ({"h": jnp.ones(2, jnp.float16), "s": jnp.full((), 1e-9, jnp.float32)}, 3, "float32"),
    ({"s": jnp.ones(2, jnp.float32), "d": jnp.array([1 + 1e-15])}, 3, "float64"),
    ({"z": jnp.array([[1 + 2j], [3 - 4j]], jnp.complex64)}, 4, "float32"),
    ({"z": jnp.array(1 + 1e-15j), "h": jnp.ones(1, jnp.bfloat16)}, 3, "float64"),
    ({}, 0, "float32"),
    ((None, jnp.zeros((3, 0))), 0, "float64"),
    (2.5, 1, "float64"),
  ],
)
@pytest.mark.parametrize("promotion", ["standard", "strict"])
def test_round_trip_gives_every_leaf_back_bit_for_bit(tree, size, dtype, promotion):
  with jax.numpy_dtype_promotion(promotion):
    vector, unravel = ravel_real(tree)
    assert (vector.shape, vector.dtype) == ((size,), dtype)
    assert_same(unravel(vector), tree)
    assert_same(jax.jit(unravel)(vector), tree)


def test_complex_number_is_its_real_part_and_then_its_imaginary_part():
  vector, unravel = ravel_real([jnp.array([1 + 2j, 3 + 4j]), jnp.array([5.0])])
  np.testing.assert_array_equal(vector, [1, 2, 3, 4, 5])
  got = unravel(jnp.arange(5.0))
  np.testing.assert_array_equal(got[0], [0 + 1j, 2 + 3j])


def test_derivatives_pass_through_unravel():
  vector, unravel = ravel_real({"z": jnp.array([1 + 2j]), "x": jnp.array([3.0], jnp.float32)})

  def f(vector):
    tree = unravel(vector)
    return jnp.sum(jnp.abs(tree["z"]) ** 2) + jnp.sum(tree["x"] ** 2)

  np.testing.assert_allclose(jax.grad(f)(vector), 2 * vector, rtol=1e-6)
