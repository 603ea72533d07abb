"""Claims and estimates agree where the gradient is right, and differ by its error where not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from kinkopt.gradcheck import residuals

KEY = jax.random.key(3)


def network(dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0), 4)
  params = {
    "hidden": {"w": jax.random.normal(keys[0], (9, 16)), "b": jnp.zeros(16)},
    "out": {"w": jax.random.normal(keys[1], (16, 4)), "b": jnp.zeros(4)},
  }
  x = jax.random.normal(keys[2], (12, 9))
  params, x = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, x))
  return params, x, jax.random.randint(keys[3], (12,), 0, 4)


def loss(params, x, labels):
  hidden = jax.nn.relu(x @ params["hidden"]["w"] + params["hidden"]["b"])
  logits = hidden @ params["out"]["w"] + params["out"]["b"]
  return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1))


def gap_of(found):
  return np.abs(np.asarray(found.claim - found.estimate))


def relative(found):
  size = np.maximum(np.asarray(found.norm)[:, None], np.abs(found.estimate))
  return gap_of(found) / np.where(size == 0, 1, size)


@pytest.fixture(scope="module")
def found_with_factors():
  """Gives the residuals of a gradient whose leaves are multiplied by numbers, in float64."""

  def run(factors, *args):
    def wrong(*args):
      leaves, tree = jax.tree.flatten(jax.grad(loss)(*args))
      return tree.unflatten([factor * leaf for factor, leaf in zip(factors, leaves)])

    return residuals(loss, *args, key=KEY, gradient=wrong, probes=3)

  run = jax.jit(run)
  return lambda factors: run(jnp.asarray(factors), *network(jnp.float64))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("x64", [False, True])
def test_a_right_gradient_agrees_in_every_dtype(dtype, x64):
  with jax.enable_x64(x64 or dtype == "float64"):
    found = jax.jit(lambda *args: residuals(loss, *args, key=KEY))(*network(dtype))
  assert all(leaf.dtype == jnp.float64 for leaf in found)
  assert found.claim.shape == found.estimate.shape == found.error.shape == (4, 2)
  assert relative(found).max() < 1e-10
  assert (gap_of(found) <= np.asarray(found.error)).all()
  assert (np.asarray(found.error) <= 1e-9 * np.asarray(found.norm)[:, None]).all()


@pytest.mark.parametrize("factor", [-1.0, 0.0, 2.0, 1.01, 1 + 1e-6])
@pytest.mark.parametrize("number", range(4))
def test_a_factor_on_one_leaf_is_seen_there_alone(found_with_factors, number, factor):
  found = found_with_factors(np.where(np.arange(4) == number, factor, 1.0))
  np.testing.assert_allclose(found.claim[number], factor * found.estimate[number], rtol=1e-9)
  assert relative(found)[number].max() >= 0.1 * abs(factor - 1)
  assert np.delete(relative(found), number, 0).max() < 1e-10


def test_an_error_of_rounding_is_within_the_bound(found_with_factors):
  found = found_with_factors(np.full(4, 1 + 1e-12))
  assert (gap_of(found) <= found.error).all()


def test_one_wrong_coordinate_shows_at_least_half_of_its_error():
  def wrong(*args):
    gradient = jax.grad(loss)(*args)
    gradient["hidden"]["w"] = gradient["hidden"]["w"].at[4, 7].add(0.25)
    return gradient

  found = residuals(loss, *network(), key=KEY, gradient=wrong, probes=20)
  gap = gap_of(found)[1]
  assert gap.min() > 0.1249
  assert gap.max() < 0.3568


def test_the_mean_square_is_the_squared_error_of_the_leaf():
  error = jax.random.normal(jax.random.key(9), (30,))
  zero = lambda w: jnp.sum(0 * w)  # noqa: E731
  found = residuals(zero, jnp.ones(30), key=KEY, gradient=lambda w: error + 0 * w, probes=400)
  np.testing.assert_allclose(jnp.mean(found.claim**2), jnp.sum(error**2), rtol=0.3)


@jax.custom_vjp
def ignores_its_cotangent(x):
  return jnp.tanh(x)


ignores_its_cotangent.defvjp(
  lambda x: (jnp.tanh(x), x), lambda x, ct: (jnp.ones_like(ct) * (1 - jnp.tanh(x) ** 2),)
)


@pytest.mark.parametrize("fun", [ignores_its_cotangent, lambda x: ignores_its_cotangent(x).sum()])
def test_a_rule_that_ignores_its_cotangent_is_seen(fun):
  found = residuals(fun, jnp.arange(1.0, 4.0), key=KEY)
  assert relative(found).max() > 0.1


def test_a_cut_gradient_agrees_unless_seen_through():
  fun = lambda x: jnp.sum(x * jax.lax.stop_gradient(jnp.sin(x)))  # noqa: E731
  x = jnp.arange(1.0, 4.0)
  assert relative(residuals(fun, x, key=KEY)).max() < 1e-10
  seen = residuals(fun, x, key=KEY, through_stop_gradient=True)
  whole = jax.grad(lambda x: jnp.sum(x * jnp.sin(x)))(x)
  agreed = residuals(fun, x, key=KEY, through_stop_gradient=True, gradient=lambda x: whole + 0 * x)
  assert relative(seen).min() > 1e-3
  assert relative(agreed).max() < 1e-10


def test_complex_leaves_and_outputs():
  z = jnp.array([1 + 2j, -0.5 + 1j, 2 - 1j])
  found = residuals(
    lambda z, a: a * z**2 * jnp.abs(z), z, jnp.float32(1.5), key=KEY, argnums=(0, 1)
  )
  assert relative(found).max() < 1e-10
  conjugate = residuals(
    lambda z: jnp.sum(jnp.abs(z) ** 3),
    z,
    key=KEY,
    gradient=lambda z: jnp.conj(jax.grad(lambda z: jnp.sum(jnp.abs(z) ** 3))(z)),
  )
  assert relative(conjugate).min() > 1e-2


def test_leaves_without_a_gradient_are_left_out():
  tree = {"count": jnp.int32(3), "key": jax.random.key(0), "none": None, "w": jnp.ones(3)}
  found = residuals(lambda t: jnp.sum(t["w"] ** t["count"]), tree, key=KEY)
  assert found.claim.shape == (1, 2)
  assert relative(found).max() < 1e-10


def test_leaves_of_very_different_sizes():
  tree = {
    "empty": jnp.zeros((0, 2)),
    "huge": jnp.full(3, 1e12),
    "tiny": jnp.full(3, 1e-12),
    "zero": jnp.zeros(3),
  }

  def fun(t):
    return jnp.sum(jnp.sin(t["tiny"] * 1e12) + jnp.cos(t["huge"] / 1e12) + jnp.exp(t["zero"]))

  found = residuals(fun, tree, key=KEY)
  assert (gap_of(found) <= found.error).all()
  assert relative(found).max() < 1e-9
  np.testing.assert_array_equal(found.claim[0], 0)


def test_a_population_is_each_member_alone():
  params, *rest = network()
  many = jax.tree.map(lambda leaf: leaf + jax.random.normal(KEY, (100, *leaf.shape)), params)
  single = jax.jit(lambda params: residuals(loss, params, *rest, key=KEY, probes=1))
  together = jax.jit(jax.vmap(single))(many)
  for i in range(100):
    alone = single(jax.tree.map(lambda leaf, i=i: leaf[i], many))
    np.testing.assert_allclose(together.claim[i], alone.claim, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(together.estimate[i], alone.estimate, rtol=1e-9, atol=1e-10)


def test_sharded_arguments_give_the_same_numbers():
  params, x, labels = network()
  mesh = jax.make_mesh((8,), ("data",))
  params["hidden"]["w"] = jax.device_put(
    params["hidden"]["w"], NamedSharding(mesh, PartitionSpec(None, "data"))
  )
  run = jax.jit(lambda *args: residuals(loss, *args, key=KEY))
  np.testing.assert_allclose(run(params, x, labels).claim, run(*network()).claim, rtol=1e-9)
  np.testing.assert_allclose(run(params, x, labels).estimate, run(*network()).estimate, rtol=1e-9)


def test_it_leaves_no_tracer_behind_and_is_traced_once():
  count = 0

  def fun(x):
    nonlocal count
    count += 1
    return jnp.sum(jnp.abs(x))

  run = jax.jit(lambda x: residuals(fun, x, key=KEY))
  with jax.checking_leaks():
    run(jnp.ones(3))
  before = count
  run(2 * jnp.ones(3))
  assert count == before


def test_messages():
  x = jnp.ones(3)
  with pytest.raises(TypeError, match=r"found nothing to check: .*\(0,\).*Name another argument"):
    residuals(lambda n: n, 3, key=KEY)
  with pytest.raises(TypeError, match=r"one real scalar, but its outputs are float64\[3\]"):
    residuals(lambda x: x, x, key=KEY, gradient=jnp.ones_like)
  with pytest.raises(TypeError, match="its outputs are none"):
    residuals(lambda x: (), x, key=KEY, gradient=jnp.ones_like)
  with pytest.raises(ValueError, match=r"`residuals\(probes=0\)` is out of range"):
    residuals(jnp.sum, x, key=KEY, probes=0)
  with pytest.raises(ValueError, match="the gradient does not have the tree of the moved argument"):
    residuals(jnp.sum, x, key=KEY, gradient=lambda x: {"x": x})
  with pytest.raises(ValueError, match=r"names argument 2, but the point has 1"):
    residuals(jnp.sum, x, key=KEY, argnums=2)
