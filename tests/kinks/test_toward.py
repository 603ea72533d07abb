"""With a direction, a tie is decided by it: derivatives on a kink are the exact one-sided ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from kinkopt.kinks import freeze


def _pool(x):
  return lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "SAME")


# Each ties at 0 in some way; the point is where it ties.
FUNCTIONS = {
  "max": (lambda x: jnp.maximum(x[0], 2 * x[1]), [0.0, 0.0]),
  "min": (lambda x: jnp.minimum(x[0], 2 * x[1]), [0.0, 0.0]),
  "relu": (lambda x: jax.nn.relu(x).sum(), [0.0, 1.0]),
  "abs": (lambda x: jnp.abs(x).sum(), [0.0, 1.0]),
  "where": (lambda x: jnp.where(x > 0, x**2 + x, 3 * x).sum(), [0.0, 1.0]),
  "where with equality": (lambda x: jnp.where(x >= 0, x**2 + x, 3 * x).sum(), [0.0, 1.0]),
  "clamp low": (lambda x: lax.clamp(0.0, x, 1.0).sum(), [0.0, 0.5]),
  "clamp high": (lambda x: lax.clamp(-1.0, x, 0.0).sum(), [0.0, -0.5]),
  "reduce_max": (lambda x: jnp.max(x * jnp.array([1.0, 2.0])), [0.0, 0.0]),
  "reduce_min": (lambda x: jnp.min(x * jnp.array([1.0, 2.0])), [0.0, 0.0]),
  "sort": (lambda x: (jnp.sort(x) * jnp.array([1.0, 3.0])).sum(), [0.5, 0.5]),
  "argsort": (lambda x: (x[jnp.argsort(x)] * jnp.array([1.0, 3.0])).sum(), [0.5, 0.5]),
  "top_k": (lambda x: lax.top_k(x, 1)[0].sum(), [0.5, 0.5]),
  "argmax": (lambda x: x[jnp.argmax(x)], [0.5, 0.5]),
  "argmin": (lambda x: x[jnp.argmin(x)], [0.5, 0.5]),
  "cummax": (lambda x: lax.cummax(x).sum(), [0.5, 0.5]),
  "cummin reversed": (lambda x: lax.cummin(x, reverse=True).sum(), [0.5, 0.5]),
  "max-pool": (lambda x: _pool(x).sum(), [0.5, 0.5]),
  "scatter_max": (lambda x: jnp.zeros(2).at[jnp.array([0, 0])].max(x).sum(), [0.5, 0.5]),
  "floor": (lambda x: (jnp.floor(x) * x).sum(), [2.0, 0.5]),
  "ceil": (lambda x: (jnp.ceil(x) * x).sum(), [2.0, 0.5]),
  "round": (lambda x: (jnp.round(x) * x).sum(), [2.5, 0.7]),
  "to integers": (lambda x: (x.astype("int32") * x).sum(), [2.0, -1.0]),
  "rem": (lambda x: (lax.rem(x, jnp.full(2, 2.0)) * x).sum(), [4.0, -2.0]),
  "cond": (lambda x: lax.cond(x[0] > 0, lambda x: x[1], lambda x: 2 * x[0], x), [0.0, 0.0]),
  "while": (lambda x: lax.while_loop(lambda s: s[0] < 2.0, lambda s: 2 * s, x).sum(), [1.0, 0.5]),
  "scan": (lambda x: lax.scan(lambda c, a: (jnp.abs(c - a), c), 0.0, x)[0], [0.5, 0.5]),
  "a kink of a kink": (lambda x: jnp.abs(jnp.abs(x[0]) - jnp.abs(x[1])), [0.0, 0.0]),
  "atan2": (lambda x: jnp.arctan2(x[0], x[1]), [0.0, -1.0]),
  "solve": (lambda x: jnp.abs(jnp.linalg.solve(jnp.eye(2) * (2 + x[0]), x)).sum(), [0.0, 0.0]),
}  # fmt: skip

DIRECTIONS = [[1.0, 0.25], [-1.0, -0.75], [0.5, -1.0], [-0.25, 1.0]]


@pytest.mark.parametrize(("fun", "point"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_the_derivative_is_the_one_sided_one(fun, point):
  def lenient(x):
    with jax.numpy_dtype_promotion("standard"):
      return fun(x)

  point = jnp.array(point)

  @jax.jit
  def both(v):
    frozen = freeze(lenient, point, toward=v)
    value, rate = jax.jvp(frozen, (point,), (v,))
    h = 1e-7
    beside = jnp.stack([lenient(point + k * h * v) for k in (1, 2, 3)])
    # Through three points beside the kink, all on one side of it.
    slope = (-2.5 * beside[0] + 4 * beside[1] - 1.5 * beside[2]) / h
    limit = 3 * beside[0] - 3 * beside[1] + beside[2]
    return value, rate, limit, slope

  for v in DIRECTIONS:
    value, rate, limit, slope = both(jnp.array(v))
    np.testing.assert_allclose(value, limit, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(rate, slope, rtol=1e-7, atol=1e-7)


def test_without_a_tie_the_direction_changes_nothing():
  x = jax.random.normal(jax.random.key(0), (5,))

  def fun(x):
    return jnp.sort(jax.nn.relu(x)) * jnp.max(x)

  toward = freeze(fun, x, toward=jnp.ones(5))
  np.testing.assert_array_equal(toward(x + 1), freeze(fun, x)(x + 1))


def test_directions_come_in_the_shape_of_what_moves():
  def fun(p, q):
    return jnp.abs(p["w"]).sum() + jnp.abs(q).sum()

  p, q = {"w": jnp.zeros(2)}, jnp.zeros(1)
  frozen = freeze(fun, p, q, argnums=(0, 1), toward=({"w": jnp.array([1.0, -1.0])}, -jnp.ones(1)))
  assert frozen({"w": jnp.array([2.0, 3.0])}, jnp.array([5.0])) == 2 - 3 - 5


def test_a_direction_of_another_tree_is_named():
  with pytest.raises(ValueError, match=r"`freeze`.*`toward`.*`\['w'\]`"):
    freeze(lambda p: p["w"], {"w": jnp.ones(2)}, toward={"v": jnp.ones(2)})
