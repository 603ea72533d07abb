"""Random directions: of mean square 1, never near 0, and each leaf's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.gradcheck._directions import direction, leaf_keys

KEY = jax.random.key(0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_sizes_and_signs(dtype):
  drawn = direction(KEY, jnp.zeros((100, 200), dtype))
  assert drawn.dtype == dtype
  assert drawn.shape == (100, 200)
  for part in (drawn.real, drawn.imag) if jnp.iscomplexobj(drawn) else (drawn,):
    numbers = np.asarray(part, float)
    assert np.abs(numbers).min() > 0.4999
    assert np.abs(numbers).max() < 1.4271
    # The standard error of both means is below 0.01.
    np.testing.assert_allclose([(numbers**2).mean(), numbers.mean()], [1, 0], atol=0.04)


def test_a_leaf_keeps_its_directions_when_others_come_and_go():
  small, large = {"b": 0.0, "w": 1.0}, {"a": 0.0, "b": 0.0, "w": 1.0}
  keys, more = leaf_keys(KEY, small), leaf_keys(KEY, large)
  as_ints = [tuple(jax.random.key_data(k).tolist()) for k in more]
  assert [tuple(jax.random.key_data(k).tolist()) for k in keys] == as_ints[1:]
  assert len(set(as_ints)) == 3
