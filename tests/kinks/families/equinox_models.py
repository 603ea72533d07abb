"""Models in `equinox`, partitioned into the arrays that move and the rest."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp

from tests.kinks.corpus import Member, normal


class _Convolutional(eqx.Module):
  first: eqx.nn.Conv2d
  pool: eqx.Module
  second: eqx.nn.ConvTranspose2d

  def __init__(self, pool, key):
    keys = jax.random.split(key)
    self.first = eqx.nn.Conv2d(2, 3, 3, key=keys[0])
    self.pool = pool(2, 2)
    self.second = eqx.nn.ConvTranspose2d(3, 2, 2, key=keys[1])

  def __call__(self, x):
    return self.second(self.pool(jax.nn.relu(self.first(x))))


class _Recurrent(eqx.Module):
  cell: eqx.Module
  out: eqx.nn.Linear

  def __init__(self, cell, key):
    keys = jax.random.split(key)
    self.cell, self.out = cell(3, 4, key=keys[0]), eqx.nn.Linear(4, 2, key=keys[1])

  def __call__(self, x):
    start = jnp.zeros(4)
    start = (start, start) if isinstance(self.cell, eqx.nn.LSTMCell) else start
    state, _ = jax.lax.scan(lambda state, a: (self.cell(a, state), None), start, x)
    return self.out(jax.tree.leaves(state)[0])


class _Attention(eqx.Module):
  attention: eqx.nn.MultiheadAttention
  norm: eqx.nn.LayerNorm
  position: eqx.nn.RotaryPositionalEmbedding

  def __init__(self, key):
    self.attention = eqx.nn.MultiheadAttention(2, 4, key=key)
    self.norm, self.position = eqx.nn.LayerNorm(4), eqx.nn.RotaryPositionalEmbedding(4)

  def __call__(self, x):
    y = self.position(jax.vmap(self.norm)(x))
    return x + self.attention(y, y, y, mask=jnp.tril(jnp.ones((5, 5), bool)))


class _Embedding(eqx.Module):
  """Moves by its floating arrays alone: it holds the integers that it looks up."""

  table: eqx.nn.Embedding
  tokens: jax.Array
  norm: eqx.nn.RMSNorm

  def __init__(self, key):
    self.table, self.norm = eqx.nn.Embedding(6, 3, key=key), eqx.nn.RMSNorm(3)
    self.tokens = jnp.array([5, 0, 2, 2])

  def __call__(self, x):
    return jax.vmap(self.norm)(jax.vmap(self.table)(self.tokens) * x)


class _Checkpointed(eqx.Module):
  """Stacked layers by scan, each rematerialised."""

  layers: eqx.nn.Linear

  def __init__(self, key):
    make = eqx.filter_vmap(lambda k: eqx.nn.Linear(3, 3, key=k))
    self.layers = make(jax.random.split(key, 3))

  def __call__(self, x):
    arrays, static = eqx.partition(self.layers, eqx.is_array)

    @eqx.filter_checkpoint
    def run(h, layer):
      return h + jax.nn.relu(eqx.combine(layer, static)(h))

    return jax.lax.scan(lambda h, layer: (run(h, layer), None), x, arrays)[0]


def _norms(key):
  shape = eqx.nn.WeightNorm(eqx.nn.Linear(3, 8, key=key))
  return eqx.nn.Sequential(
    [shape, eqx.nn.Lambda(eqx.nn.PReLU(0.2)), eqx.nn.GroupNorm(2, 8), eqx.nn.Lambda(jax.nn.silu)]
  )


def _maxout(key):
  first, second = jax.random.split(key)
  layers = eqx.nn.Linear(3, 8, key=first), eqx.nn.Linear(4, 2, key=second)
  halves = eqx.nn.Lambda(lambda x: jnp.max(x.reshape(4, 2), axis=1))
  return eqx.nn.Sequential([layers[0], halves, layers[1]])


def _mlp(key):
  return eqx.nn.MLP(3, 2, 5, 2, activation=jax.nn.leaky_relu, key=key)


def _member(name, make, draw):
  @functools.cache
  def static():
    with jax.ensure_compile_time_eval():
      return eqx.partition(make(key=jax.random.key(0)), eqx.is_inexact_array)[1]

  def fun(moving, x):
    return jnp.mean(jax.vmap(eqx.combine(moving, static()))(x) ** 2)

  def drawn(key):
    model_key, data_key, noise_key = jax.random.split(key, 3)
    moving = eqx.filter(make(key=model_key), eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(moving)
    keys = jax.random.split(noise_key, len(leaves))
    noisy = [a + 0.2 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    return (tree.unflatten(noisy), *draw(data_key))

  return Member(f"equinox.{name}", fun, drawn)


def _filtered_gradient(moving, x):
  """A step of `eqx.filter_grad` within the loss."""
  static = eqx.partition(_mlp(jax.random.key(0)), eqx.is_inexact_array)[1]
  model = eqx.combine(moving, static)

  @eqx.filter_value_and_grad
  def loss(model, x):
    return jnp.mean(jnp.abs(jax.vmap(model)(x)))

  value, gradient = eqx.filter_jit(loss)(model, x[:1])
  stepped = eqx.apply_updates(model, jax.tree.map(lambda g: -0.1 * g, gradient))
  return value, loss(stepped, x[1:])[0]


_SERIES, _VECTORS, _IMAGES = normal((2, 4, 3)), normal((2, 3)), normal((2, 2, 6, 6))
_MLP = _member("mlp", _mlp, _VECTORS)
MEMBERS = [
  _MLP,
  Member("equinox.gradient within", _filtered_gradient, _MLP.draw),
  _member("conv with max-pool", functools.partial(_Convolutional, eqx.nn.MaxPool2d), _IMAGES),
  _member("conv with average pool", functools.partial(_Convolutional, eqx.nn.AvgPool2d), _IMAGES),
  _member("gru by scan", functools.partial(_Recurrent, eqx.nn.GRUCell), _SERIES),
  _member("lstm by scan", functools.partial(_Recurrent, eqx.nn.LSTMCell), _SERIES),
  _member("attention", _Attention, normal((2, 5, 4))),
  _member("embedding of integers", _Embedding, normal((2, 4, 3))),
  _member("layers by scan", _Checkpointed, _VECTORS),
  _member("norms", _norms, _VECTORS),
  _member("maxout", _maxout, _VECTORS),
]
