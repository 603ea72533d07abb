"""Models in `flax.nnx`, split into a graph and the parameters that move; training mode."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.kinks.corpus import Member, normal
from tests.kinks.families.models import cross_entropy

_LABELS = np.array([2, 0, 1, 2])


class _Mlp(nnx.Module):
  def __init__(self, rngs):
    self.first = nnx.Linear(3, 5, rngs=rngs)
    self.norm = nnx.BatchNorm(5, rngs=rngs)
    self.dropout = nnx.Dropout(0.4, rngs=rngs)
    self.second = nnx.Linear(5, 3, rngs=rngs)

  def __call__(self, x):
    return self.second(self.dropout(nnx.relu(self.norm(self.first(x)))))


class _Convolutional(nnx.Module):
  def __init__(self, rngs):
    self.first = nnx.Conv(2, 3, (3, 3), rngs=rngs)
    self.norm = nnx.GroupNorm(3, num_groups=1, rngs=rngs)
    self.second = nnx.ConvTranspose(3, 2, (2, 2), strides=(2, 2), rngs=rngs)

  def __call__(self, x):
    x = nnx.max_pool(nnx.relu(self.norm(self.first(x))), (2, 2), (2, 2))
    return nnx.avg_pool(nnx.elu(self.second(x)), (2, 2), (1, 1), "SAME")


class _Recurrent(nnx.Module):
  def __init__(self, cell, rngs):
    self.rnn = nnx.RNN(cell(3, 4, rngs=rngs))
    self.out = nnx.Linear(4, 2, rngs=rngs)

  def __call__(self, x):
    return self.out(self.rnn(x))


class _Transformer(nnx.Module):
  def __init__(self, rngs):
    self.embedding = nnx.Embed(6, 4, rngs=rngs)
    self.first = nnx.LayerNorm(4, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
    self.second = nnx.RMSNorm(4, rngs=rngs)
    self.up = nnx.LinearGeneral(4, (2, 3), rngs=rngs)
    self.down = nnx.Einsum("...fg,fgd->...d", (2, 3, 4), (4,), rngs=rngs)

  def __call__(self, tokens):
    x = self.embedding(tokens)
    x = x + self.attention(self.first(x), mask=nnx.make_causal_mask(tokens))
    x = x + self.down(nnx.gelu(self.up(self.second(x))))
    return self.embedding.attend(x)


class _Scanned(nnx.Module):
  """A stack of layers made by `vmap`, and run by `scan` and `remat`."""

  def __init__(self, rngs):
    make = nnx.vmap(lambda r: nnx.Linear(3, 3, rngs=r), in_axes=0, out_axes=0)
    self.layers = make(rngs.split(3))

  def __call__(self, x):
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    @nnx.remat
    def run(layer, h):
      return h + nnx.relu(layer(h))

    return run(self.layers, x)


class _Adapted(nnx.Module):
  def __init__(self, rngs):
    self.lora = nnx.LoRA(3, 2, 5, base_module=nnx.Linear(3, 5, rngs=rngs), rngs=rngs)
    self.bilinear = nnx.Linear(5, 2, rngs=rngs)
    self.slope = nnx.PReLU()

  def __call__(self, x):
    return self.bilinear(self.slope(self.lora(x)))


def _member(name, make, draw, loss=lambda y: jnp.mean(y**2)):
  @functools.cache
  def graph():
    with jax.ensure_compile_time_eval():
      return nnx.split(make(nnx.Rngs(0)), nnx.Param, ...)[0]

  def fun(moving, rest, x):
    model = nnx.merge(graph(), moving, rest, copy=True)  # else it counts its draws in `rest`
    model.train()
    value = loss(model(x))
    return value, nnx.state(model, nnx.BatchStat)

  def drawn(key):
    model_key, data_key, noise_key = jax.random.split(key, 3)
    _, moving, rest = nnx.split(make(nnx.Rngs(model_key)), nnx.Param, ...)
    leaves, tree = jax.tree.flatten(moving)  # the zeros that some begin with are not generic
    keys = jax.random.split(noise_key, len(leaves))
    noisy = [a + 0.2 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    return (tree.unflatten(noisy), rest, *draw(data_key))

  return Member(f"nnx.{name}", fun, drawn)


def _tokens(key):
  return (jax.random.randint(key, (2, 4), 0, 6),)


_CELLS = {
  "gru": nnx.GRUCell,
  "lstm": nnx.OptimizedLSTMCell,
  "simple cell": nnx.SimpleCell,
}
MEMBERS = [
  _member(
    "mlp with batch norm and dropout", _Mlp, normal((4, 3)), lambda y: cross_entropy(y, _LABELS)
  ),
  _member("conv with group norm and pools", _Convolutional, normal((2, 4, 4, 2))),
  *(
    _member(f"{name} by scan", functools.partial(_Recurrent, cell), normal((2, 3, 3)))
    for name, cell in _CELLS.items()
  ),
  _member("transformer", _Transformer, _tokens),
  _member("layers by scan", _Scanned, normal((2, 3))),
  _member("low-rank adapter", _Adapted, normal((4, 3))),
]
