"""Newton's method by products, on eight devices: nothing is gathered."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from kinkopt.newton import (
  ConjugateGradients,
  GaussNewton,
  SteihaugTrustRegion,
  newton,
  outcome,
  scale_by_newton,
)

SPECS = {"b": PartitionSpec("y"), "scale": PartitionSpec(), "w": PartitionSpec("x", "y")}


def params():
  keys = jax.random.split(jax.random.key(2), 2)
  return {
    "b": jax.random.normal(keys[0], (8,)),
    "scale": jnp.array(1.5),
    "w": jax.random.normal(keys[1], (16, 8)),
  }


def loss(p):
  columns = jnp.sum(p["w"] * p["scale"], axis=0) - p["b"]
  return jnp.sum(jnp.cosh(p["w"])) + jnp.sum(columns**2) / 2 + jnp.sum(jnp.cos(p["b"]))


def residual(p):
  return [p["w"] - 1, p["b"] - jnp.sum(p["w"], axis=0), p["scale"] ** 2 - 4]


def squares(p):
  return sum(jnp.sum(r**2) for r in residual(p)) / 2


CHAINS = {
  "newton": (newton(globalization=SteihaugTrustRegion()), loss),
  "scale_by_newton": (
    optax.chain(scale_by_newton(solver=ConjugateGradients()), optax.scale(-0.05)),
    loss,
  ),
  "Gauss-Newton": (
    newton(curvature=GaussNewton(residual), globalization=SteihaugTrustRegion()),
    squares,
  ),
}


@pytest.mark.parametrize("axis_type", list(jax.sharding.AxisType)[:2], ids=lambda t: t.name)
@pytest.mark.parametrize(("tx", "fun"), CHAINS.values(), ids=CHAINS)
def test_eight_devices_step_as_one_and_gather_nothing(tx, fun, axis_type):
  mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type,) * 2)
  shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS)
  sharded = jax.tree.map(jax.device_put, params(), shardings)

  @jax.jit
  def step(p, state):
    updates, state = tx.update(jax.grad(fun)(p), state, p, value_fn=fun)
    return optax.apply_updates(p, updates), state

  one, state = params(), tx.init(params())
  with jax.set_mesh(mesh):
    many, many_state = sharded, tx.init(sharded)
    compiled = step.lower(many, many_state).compile()
    for _ in range(4):
      many, many_state = step(many, many_state)
  for _ in range(4):
    one, state = step(one, state)
  assert "all-gather" not in compiled.as_text()
  assert fun(one) < 0.95 * fun(params())
  for name, leaf in many.items():
    assert leaf.sharding.is_equivalent_to(shardings[name], leaf.ndim)
  chex.assert_trees_all_close(many, one, rtol=1e-8, atol=1e-10)
  assert outcome(many_state) is outcome(state)
