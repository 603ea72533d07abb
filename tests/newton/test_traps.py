"""What goes wrong around Newton's method in Optax's chains, and what does not.

Where a test shows a fault of Optax, the docstring of `scale_by_newton` warns of it; should Optax
mend it, the warning may go.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt.newton import Stop, minimize, newton, scale_by_newton

BACKTRACKING = optax.scale_by_backtracking_linesearch(40, rtol=1e-6)
ZOOM = optax.scale_by_zoom_linesearch(40, initial_guess_strategy="one")


def chain(search):
  return optax.chain(scale_by_newton(), optax.scale(-1), search)


def steps(tx, losses, x):
  """Takes one step on each of some losses; gives the iterates."""
  state, path = tx.init(x), [x]
  for loss in losses:
    value, grads = jax.value_and_grad(loss)(x)
    updates, state = tx.update(grads, state, x, value=value, grad=grads, value_fn=loss)
    x = optax.apply_updates(x, updates)
    path.append(x)
  return path


def bowl(x):
  return jnp.sum(jnp.cosh(x - 1))


def broken(x):
  return bowl(x) * jnp.nan


START = jnp.array([2.0, -1.0])


@pytest.mark.parametrize(
  ("search", "recovers"), [(BACKTRACKING, False), (ZOOM, True)], ids=["backtracking", "zoom"]
)
def test_after_one_broken_batch_zoom_goes_on_and_backtracking_stays(search, recovers):
  path = steps(chain(search), [bowl, broken, *[bowl] * 6], START)
  chex.assert_tree_all_finite(path)
  np.testing.assert_array_equal(path[2], path[1])  # a gradient of NaN moves nothing
  assert (bowl(path[-1]) < bowl(path[2]) - 1e-3) == recovers


def test_after_one_broken_batch_newton_goes_on():
  path = steps(newton(), [bowl, broken, *[bowl] * 8], START)
  np.testing.assert_array_equal(path[2], path[1])
  np.testing.assert_allclose(path[-1], 1, atol=1e-7)


def offset_rosenbrock(x):
  return 1e4 + (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def test_a_large_constant_in_the_loss_stops_no_float32_run():
  start = jnp.array([-1.2, 1.0], jnp.float32)
  found = minimize(offset_rosenbrock, start, tol=1e-2)
  # The least curvature at the minimum is 0.4, so that the gradient allows a distance of 0.025.
  np.testing.assert_allclose(found.params, [1, 1], atol=0.025)
  assert found.stopped == Stop.CONVERGED.code
  assert found.steps < 60
  # By values alone nothing closer than this can be told from the minimum.
  floor = 1e4 * float(jnp.finfo(jnp.float32).eps)
  assert offset_rosenbrock(jnp.array([0.97, 0.94])) - 1e4 < floor


def test_without_the_sign_the_chain_climbs_and_minimize_says_so():
  path = steps(scale_by_newton(), [bowl] * 3, START)
  assert bowl(path[1]) > bowl(path[0])
  assert minimize(bowl, START, scale_by_newton()).reason is Stop.UPHILL


@pytest.mark.parametrize("search", [BACKTRACKING, ZOOM], ids=["backtracking", "zoom"])
def test_a_direction_of_nan_would_break_the_line_searches_and_is_never_given(search):
  def hole(x):  # the Hessian is NaN at 0: the second derivative of |x|**1.5
    return jnp.sum(jnp.abs(x) ** 1.5) + jnp.sum((x - 1) ** 2)

  x = jnp.array([0.0, 2.0])
  assert not jnp.isfinite(jax.hessian(hole)(x)).all()
  naive = optax.chain(
    optax.stateless(lambda g, p: jnp.linalg.solve(jax.hessian(hole)(p), g)), optax.scale(-1), search
  )
  assert not jnp.isfinite(steps(naive, [hole], x)[-1]).all()
  path = steps(chain(search), [hole] * 12, x)
  chex.assert_tree_all_finite(path)
  assert hole(path[-1]) < hole(x) - 1
