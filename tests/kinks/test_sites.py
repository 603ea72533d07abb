"""How a winner stands at a point: ties that are kinks or not, distances, dead units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from kinkopt.kinks import sites


def _only(found):
  (status,) = found
  return status


def test_a_tie_that_moves_is_told_from_one_that_does_not():
  def fun(x):
    return jnp.maximum(jnp.stack([x, x]), jnp.stack([jnp.zeros_like(x), x]))

  status = _only(sites(fun, jnp.zeros(())))
  assert (status.total, status.ties, status.moving_ties) == (2, 2, 1)


def _pool(x):
  return lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "SAME")


def _sum_of_relus(x):
  return lax.scan(lambda c, a: (jax.nn.relu(c + a), c), 0.0, x)[0]


@pytest.mark.parametrize(
  ("fun", "point", "toward", "distance"),
  [
    (jax.nn.relu, [-3.0, 4.0], [1.0, -8.0], 0.5),
    (jnp.abs, [1.0, 9.0], [0.0, -3.0], 3.0),
    (jnp.sort, [1.0, 2.0, 5.0], [1.0, 0.0, -1.0], 1.0),
    (jnp.max, [1.0, 2.0, 5.0], [1.0, 4.0, 0.0], 0.75),
    (lambda x: lax.top_k(x, 1)[0], [1.0, 2.0], [1.0, 0.5], 2.0),
    (lambda x: x[jnp.argmax(x)], [1.0, 2.0], [1.0, 0.5], 2.0),
    (lambda x: lax.clamp(0.0, x, 1.0), [0.25], [1.0], 0.25),
    (jnp.floor, [1.25], [1.0], 0.25),
    (jnp.round, [1.25], [1.0], 0.25),
    (lambda x: x.astype("int32"), [-0.25], [1.0], 0.75),
    (lambda x: lax.rem(x, 2.0), [3.5], [1.0], 0.5),
    (lax.cummax, [1.0, 0.0, 3.0], [0.0, 2.0, 0.0], 0.5),
    (lax.cummax, [1.0, 0.0, 3.0], [0.0, 0.0, -1.0], 2.0),
    (lambda x: lax.cummax(x, reverse=True), [3.0, 0.0, 1.0], [-1.0, 0.0, 0.0], 2.0),
    (lambda x: jnp.where(x > 1, x, 0.0), [3.0], [0.5], 4.0),
    (lambda x: jnp.arctan2(x, -1.0), [0.5], [1.0], 0.5),
    (_pool, [1.0, 3.0], [2.0, 1.0], 2.0),
    (lambda x: jnp.zeros(2).at[jnp.array([0, 0])].max(x), [1.0, 3.0], [2.0, 1.0], 2.0),
    (_sum_of_relus, [2.0, -1.0], [0.0, -1.0], 1.0),
  ],
)  # fmt: skip
def test_the_distance_is_the_one_to_the_nearest_kink(fun, point, toward, distance):
  with jax.numpy_dtype_promotion("standard"):
    found = sites(fun, jnp.array(point), toward=jnp.array(toward))
  distances = [float(status.distance) for status in found]
  np.testing.assert_allclose(min(distances), distance, rtol=1e-12)


def test_a_unit_is_dead_when_every_example_loses():
  x = jnp.array([[1.0, -1.0, -1.0], [-1.0, -2.0, 0.0]])
  assert _only(sites(jax.nn.relu, x)).dead == 2
  assert _only(sites(lambda x: jnp.where(x > 0, x, 0.0), x)).dead == 2
  assert _only(sites(lambda x: jnp.maximum(0.0, x), x)).dead == 2
  assert _only(sites(jax.nn.relu, x.T, batch_axis=1)).dead == 2
  assert _only(sites(jax.nn.relu, x, batch_axis=None)).dead == 5
  assert _only(sites(jnp.abs, x)).dead == -1


def test_a_unit_in_a_loop_is_dead_when_it_loses_at_every_turn():
  def fun(x):
    return lax.scan(lambda c, a: (c + jax.nn.relu(a).sum(), None), 0.0, x)[0]

  turns = jnp.array([[[1.0, -1.0, -1.0]], [[-1.0, -1.0, 1.0]]])  # turn, example, unit
  status = _only(sites(fun, turns))
  assert (status.total, status.dead) == (6, 1)


def test_it_is_jitted_and_mapped_like_any_function():
  points = jnp.array([[0.0, 1.0], [2.0, 3.0]])
  status = _only(jax.jit(jax.vmap(lambda x: sites(jax.nn.relu, x)))(points))
  np.testing.assert_array_equal(status.moving_ties, [1, 0])


def test_a_sentence_tells_it_all():
  status = _only(sites(jax.nn.relu, jnp.array([[0.0, -1.0, 2.0]]), toward=jnp.ones((1, 3))))
  assert "3 units, 1 tie, 1 of them on a kink, 2 dead, nearest kink at 1.0e+00" in str(status)


def test_a_direction_of_another_shape_is_named():
  with pytest.raises(ValueError, match=r"`sites`.*`toward`"):
    sites(jax.nn.relu, jnp.ones(3), toward=jnp.ones(2))


def test_what_does_not_move_has_no_site():
  assert sites(lambda x, y: x * jnp.abs(y), jnp.ones(2), jnp.ones(2)) == ()
