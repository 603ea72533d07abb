"""Random directions: of mean square 1, never near 0, each leaf's own, in NumPy as in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.gradcheck._directions import _CHUNK, direction, fold, leaf_seeds, seed_of

SEED = seed_of(None)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("kind", [np, jnp])
def test_sizes_and_signs(dtype, kind):
  drawn = direction(kind.asarray(SEED), (100, 200), dtype)
  assert drawn.dtype == dtype
  assert drawn.shape == (100, 200)
  for part in (drawn.real, drawn.imag) if np.iscomplexobj(drawn) else (drawn,):
    numbers = np.asarray(part, float)
    assert np.abs(numbers).min() > 0.4999
    assert np.abs(numbers).max() < 1.4271
    # The standard error of both means is below 0.01.
    np.testing.assert_allclose([(numbers**2).mean(), numbers.mean()], [1, 0], atol=0.04)


def test_directions_of_leaves_and_draws_are_independent():
  """Of n = 4,000 numbers a correlation has a standard error of 1/sqrt(n); 435 pairs reach 3.5."""
  seeds = leaf_seeds(SEED, {"a": 0, "b": 0, "c": 0})
  rows = [direction(fold(seed, i), (4000,), "float64") for seed in seeds for i in range(10)]
  found = np.corrcoef(rows) - np.eye(30)
  assert np.abs(found).max() < 4.5 / np.sqrt(4000)
  signs = np.sign(rows)
  for lag in (1, 2, 3, 16, 1024):
    assert abs((signs[:, :-lag] * signs[:, lag:]).mean()) < 4.5 / np.sqrt(30 * (4000 - lag))


def test_a_part_of_a_direction_is_that_part_and_numpy_draws_what_jax_draws():
  shape = (3, _CHUNK)
  whole = direction(SEED, shape, "float64")
  low, high = _CHUNK - 5, 2 * _CHUNK + 7
  np.testing.assert_array_equal(
    direction(SEED, shape, "float64", low, high), whole.ravel()[low:high]
  )
  # JAX may round the sum of two terms once or twice.
  np.testing.assert_allclose(direction(jnp.asarray(SEED), shape, "float64"), whole, rtol=1e-15)
  assert whole.shape == shape


def test_a_leaf_keeps_its_directions_when_others_come_and_go():
  small, large = {"b": 0.0, "w": 1.0}, {"a": 0.0, "b": 0.0, "w": 1.0}
  few, more = (list(map(tuple, leaf_seeds(SEED, tree))) for tree in (small, large))
  assert few == more[1:]
  assert len(set(more)) == 3


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_key_of_any_kind_is_a_seed_and_another_key_another(impl):
  seeds = {tuple(seed_of(jax.random.key(i, impl=impl)).tolist()) for i in range(9)}
  assert len(seeds) == 9
  assert tuple(seed_of(jax.random.key(0)).tolist()) == tuple(SEED.tolist())
