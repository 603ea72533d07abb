"""Winners inside of a mesh: the largest over the devices is frozen like any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from kinkopt.kinks import freeze

X = jnp.array([0.3, 1.2, -0.4, 2.0, 0.7, 2.5, -1.0, 0.1])
WAY = jnp.array([0.2, -1.0, 0.5, 0.3, -0.7, 0.9, 1.0, -0.4])


def over_devices(local):
  mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  return jax.shard_map(local, mesh=mesh, in_specs=P("d"), out_specs=P())


def log_sum_exp(x):
  largest = lax.pmax(lax.stop_gradient(jnp.max(x)), "d")
  return largest + jnp.log(lax.psum(jnp.sum(jnp.exp(x - largest)), "d"))


def largest_of_two(x):
  a, b = lax.pmax((x, jnp.cos(x[0])), "d")
  return jnp.sum(a**2) + b


# On the mesh, and the same on one device: JAX has no derivative of `pmax` to compare with.
LOCALS = {
  "pmax": (lambda x: lax.pmax(jnp.max(x), "d"), jnp.max),
  "pmin": (lambda x: lax.pmin(jnp.min(x) ** 3, "d"), lambda x: jnp.min(x) ** 3),
  "log_sum_exp": (log_sum_exp, jax.nn.logsumexp),
  "two at once": (
    largest_of_two,
    lambda x: jnp.sum(jnp.max(x.reshape(4, 2), 0) ** 2) + jnp.max(jnp.cos(x[::2])),
  ),
}


@pytest.mark.parametrize("name", LOCALS)
def test_what_wins_over_the_devices_is_frozen(name):
  local, whole = LOCALS[name]
  fun = over_devices(local)
  frozen = freeze(fun, X)
  np.testing.assert_allclose(frozen(X), fun(X), rtol=1e-15)
  h = 1e-4
  difference = (frozen(X + h * WAY) - frozen(X - h * WAY)) / (2 * h)
  np.testing.assert_allclose(difference, jnp.vdot(jax.grad(whole)(X), WAY), rtol=1e-6)


def test_far_away_the_winner_of_the_point_still_wins():
  fun = over_devices(LOCALS["pmax"][0])
  far = X.at[2].set(9.0)
  assert fun(far) == 9
  assert freeze(fun, X)(far) == 2.5


def test_of_devices_that_tie_the_one_that_leads_along_a_direction_wins():
  fun = over_devices(LOCALS["pmax"][0])
  tied = jnp.ones(8)
  for sign in (1, -1):
    frozen = freeze(fun, tied, toward=sign * WAY)
    rate = (frozen(tied + 1e-3 * sign * WAY) - frozen(tied)) / 1e-3
    np.testing.assert_allclose(rate, jnp.max(sign * WAY), rtol=1e-9)
