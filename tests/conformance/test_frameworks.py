"""Every exported transform trains models of the frameworks that people use Optax with."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from kinkopt import rules
from tests.conformance.catalogue import TRANSFORMS, Transform
from tests.conformance.checks import assert_close

each_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
INPUTS = jax.random.normal(jax.random.key(0), (16, 3), jnp.float32)
TARGETS = INPUTS @ jnp.array([[1.0], [-2.0], [0.5]], jnp.float32) + 0.25


def squared_error(outputs: jax.Array) -> jax.Array:
  return jnp.mean((outputs - TARGETS) ** 2)


def descending(transform: Transform) -> optax.GradientTransformationExtraArgs:
  """Makes a small downhill step of what is not one by itself, such as a `scale_by_*`."""
  has_rate = "learning_rate" in transform.kwargs or transform.name == "newton.newton"
  return optax.chain(transform.make(), optax.scale(0.1 if has_rate else -0.01))


@each_transform
def test_flax_nnx_optimizer_trains(transform):
  model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, descending(transform), wrt=nnx.Param)
  graph = nnx.graphdef(model)

  @nnx.jit
  def step(model, optimizer):
    value, grads = nnx.value_and_grad(lambda m: squared_error(m(INPUTS)))(model)

    def value_fn(params):
      return squared_error(nnx.merge(graph, params)(INPUTS))

    optimizer.update(model, grads, value=value, grad=grads, value_fn=value_fn)
    return value

  values = [step(model, optimizer) for _ in range(5)]
  assert values[-1] < values[0]


@each_transform
def test_flax_train_state_trains(transform):
  model = nn.Dense(1)
  params = model.init(jax.random.key(1), INPUTS)
  state = TrainState.create(apply_fn=model.apply, params=params, tx=descending(transform))

  def value_fn(params):
    return squared_error(model.apply(params, INPUTS))

  # `apply_gradients` passes no extra arguments on, so a rule that asks for the loss has it bound.
  inner = state.tx

  def update(grads, opt_state, params=None):
    value, grad = jax.value_and_grad(value_fn)(params)
    return inner.update(grads, opt_state, params, value=value, grad=grad, value_fn=value_fn)

  state = state.replace(tx=optax.GradientTransformation(inner.init, update))

  @jax.jit
  def step(state):
    return state.apply_gradients(grads=jax.grad(value_fn)(state.params))

  before = value_fn(state.params)
  for _ in range(5):
    state = step(state)
  assert value_fn(state.params) < before
  assert state.step == 5


class Model(eqx.Module):
  """Holds what a filter must take out: a function, a string and an integer array."""

  layer: eqx.nn.Linear
  buckets: jax.Array
  activation: object = jnp.tanh
  name: str = "model"

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.layer(self.activation(x)) + 0.0 * self.buckets.sum()


@each_transform
def test_equinox_filtered_model_trains(transform):
  model = Model(eqx.nn.Linear(3, 1, key=jax.random.key(2)), jnp.arange(3))
  tx = descending(transform)
  params, static = eqx.partition(model, eqx.is_inexact_array)
  opt_state = tx.init(params)

  def value_fn(params):
    return squared_error(jax.vmap(eqx.combine(params, static))(INPUTS))

  @jax.jit
  def step(params, opt_state):
    value, grads = jax.value_and_grad(value_fn)(params)
    updates, opt_state = tx.update(
      grads, opt_state, params, value=value, grad=grads, value_fn=value_fn
    )
    return eqx.apply_updates(params, updates), opt_state, value

  values = []
  for _ in range(5):
    params, opt_state, value = step(params, opt_state)
    values.append(value)
  assert values[-1] < values[0]


def test_lookahead_params_work_with_flax_nnx():
  model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
  params = nnx.state(model, nnx.Param)
  optimizer = nnx.Optimizer(model, rules.nesterov_lookahead(0.1, momentum=0.5), wrt=nnx.Param)
  grads = jax.tree.map(jnp.ones_like, params)
  optimizer.update(model, grads)
  params = nnx.state(model, nnx.Param)
  ahead = rules.lookahead_params(nnx.as_pure(params), nnx.as_pure(optimizer.opt_state))
  expected = jax.tree.map(lambda p: p - 0.5 * 0.1, nnx.as_pure(params))
  assert_close(ahead, expected, roundings=2)
