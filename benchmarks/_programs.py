"""Four programs with kinks, to be frozen: two classifiers, a block of a transformer, a long loop.

Each is a function of parameters and data, in whatever dtype these have; the parameters are drawn in
float32. The float64 twin of a program is the same function on the same numbers, cast.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Program:
  """A scalar function `fun(params, *data)` and where it is evaluated, in float32."""

  fun: Callable[..., jax.Array]
  params: Any
  data: tuple[Any, ...]


def cast(tree: Any, dtype: Any) -> Any:
  """Casts the floating leaves of a tree."""
  return jax.tree.map(
    lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, tree
  )


def _normal(key: jax.Array, *shape: int, scale: float = 1.0) -> jax.Array:
  return (scale * jax.random.normal(key, shape, jnp.float32)).astype(jnp.float32)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def mlp(widths: Sequence[int] = (784, 100, 100, 10), batch: int = 64, seed: int = 0) -> Program:
  """A ReLU network with softmax cross-entropy."""
  keys = jax.random.split(jax.random.key(seed), len(widths) + 1)
  params = [
    # He's scale keeps the activations of every layer at the same size.
    {"w": _normal(key, m, n, scale=math.sqrt(2 / m)), "b": jnp.zeros(n, jnp.float32)}
    for key, m, n in zip(keys, widths, widths[1:])
  ]

  def fun(params, x, labels):
    *hidden, last = params
    for layer in hidden:
      x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return _cross_entropy(x @ last["w"] + last["b"], labels)

  labels = jax.random.randint(keys[-1], (batch,), 0, widths[-1], jnp.int32)
  return Program(fun, params, (_normal(keys[-2], batch, widths[0]), labels))


def cnn(size: int = 28, channels: Sequence[int] = (8, 16), batch: int = 16) -> Program:
  """Convolution, ReLU and max-pooling, twice; then softmax cross-entropy."""
  keys = jax.random.split(jax.random.key(1), len(channels) + 3)
  depths = (1, *channels)
  params = {
    "kernels": [
      _normal(key, 3, 3, m, n, scale=math.sqrt(2 / (9 * m)))
      for key, m, n in zip(keys, depths, channels)
    ],
    "w": _normal(keys[-3], (size // 2 ** len(channels)) ** 2 * channels[-1], 10, scale=0.05),
  }

  def fun(params, x, labels):
    for kernel in params["kernels"]:
      x = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
      )
      x = jax.lax.reduce_window(
        jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
      )
    return _cross_entropy(x.reshape(len(x), -1) @ params["w"], labels)

  labels = jax.random.randint(keys[-1], (batch,), 0, 10, jnp.int32)
  return Program(fun, params, (_normal(keys[-2], batch, size, size, 1), labels))


def transformer(
  layers: int = 1, width: int = 128, heads: int = 4, length: int = 64, batch: int = 4
) -> Program:
  """Blocks of causal attention and a ReLU network, each behind a layer norm."""
  keys = jax.random.split(jax.random.key(2), layers + 1)
  shapes = {
    "qkv": (width, 3 * width),
    "out": (width, width),
    "up": (width, 4 * width),
    "down": (4 * width, width),
  }

  def block(key):
    keys = jax.random.split(key, len(shapes))
    weights = {
      name: _normal(key, *shape, scale=1 / math.sqrt(shape[0]))
      for key, (name, shape) in zip(keys, shapes.items())
    }
    return weights | {"gain": jnp.ones((2, width), jnp.float32)}

  def norm(x, gain):
    centered = x - x.mean(-1, keepdims=True)
    return gain * centered * jax.lax.rsqrt((centered**2).mean(-1, keepdims=True) + 1e-6)

  def attend(x, weights):
    q, k, v = jnp.split((x @ weights["qkv"]).reshape(batch, length, heads, -1), 3, -1)
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(width / heads)
    causal = jnp.tril(jnp.ones((length, length), bool))
    mix = jax.nn.softmax(jnp.where(causal, logits, -1e9))
    return jnp.einsum("bhqk,bkhd->bqhd", mix, v).reshape(x.shape) @ weights["out"]

  def fun(params, x):
    for weights in params:
      x = x + attend(norm(x, weights["gain"][0]), weights)
      x = x + jax.nn.relu(norm(x, weights["gain"][1]) @ weights["up"]) @ weights["down"]
    return (x**2).mean()

  return Program(fun, list(map(block, keys[:-1])), (_normal(keys[-1], batch, length, width),))


def loop(steps: int = 1000, width: int = 64) -> Program:
  """A recurrent network, one `lax.scan` of many steps, with a leaky unit."""
  keys = jax.random.split(jax.random.key(3), 2)
  params = {"w": _normal(keys[0], width, width, scale=0.9 / math.sqrt(width))}

  def fun(params, x):
    def step(state, x):
      state = jnp.tanh(params["w"] @ state + x)
      state = jnp.where(state > 0, state, 0.1 * state)
      return state, (state**2).sum()

    return jax.lax.scan(step, jnp.zeros_like(x[0]), x)[1].mean()

  return Program(fun, params, (_normal(keys[1], steps, width),))
