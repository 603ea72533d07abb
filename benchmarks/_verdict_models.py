"""Six losses as people write them, each right and with a custom rule that is wrong.

`MODELS[name](rule)` gives `(loss, params, batch)`; `rule` stands in the place of an activation, and
is `right` or `wrong`: the derivative of the second is 1 % off.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.custom_vjp
def right(x: jax.Array) -> jax.Array:
  """The hyperbolic tangent, with its own derivative."""
  return jnp.tanh(x)


right.defvjp(lambda x: (jnp.tanh(x),) * 2, lambda y, ct: (ct * (1 - y * y),))


@jax.custom_vjp
def wrong(x: jax.Array) -> jax.Array:
  """The hyperbolic tangent, with a derivative that is 1 % too large."""
  return jnp.tanh(x)


wrong.defvjp(lambda x: (jnp.tanh(x),) * 2, lambda y, ct: (1.01 * ct * (1 - y * y),))

Rule = Callable[[jax.Array], jax.Array]
Problem = tuple[Callable[..., jax.Array], Any, tuple[Any, ...]]


def _draw(*shape: int, scale: float = 1.0, seed: int = 0, dtype: Any = np.float32) -> jax.Array:
  return jnp.asarray((scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype))


def _layer(m: int, n: int, seed: int) -> dict[str, jax.Array]:
  return {"b": jnp.zeros(n, jnp.float32), "w": _draw(m, n, scale=m**-0.5, seed=seed)}


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)
  return -jnp.mean(chosen)


def _labels(count: int, classes: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(9).integers(0, classes, count))


def tiny(rule: Rule) -> Problem:
  """Five coordinates."""

  def loss(w, x):
    return jnp.sum(rule(x @ w) ** 2)

  return loss, _draw(5, seed=1), (_draw(3, 5, seed=2),)


def mlp(rule: Rule) -> Problem:
  """784-100-10, four leaves."""

  def loss(params, x, labels):
    hidden = rule(x @ params["one"]["w"] + params["one"]["b"])
    hidden = jax.nn.relu(hidden)
    return _cross_entropy(hidden @ params["two"]["w"] + params["two"]["b"], labels)

  params = {"one": _layer(784, 100, 1), "two": _layer(100, 10, 2)}
  return loss, params, (_draw(64, 784, seed=3), _labels(64, 10))


def cnn(rule: Rule) -> Problem:
  """Two convolutions with max-pooling, six leaves."""

  def convolve(x, layer):
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, layer["w"], (1, 1), "SAME", dimension_numbers=dims)

  def pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

  def loss(params, x, labels):
    x = pool(jax.nn.relu(convolve(x, params["one"]) + params["one"]["b"]))
    x = pool(rule(convolve(x, params["two"]) + params["two"]["b"]))
    x = x.reshape(x.shape[0], -1)
    return _cross_entropy(x @ params["out"]["w"] + params["out"]["b"], labels)

  params = {
    "one": {"b": jnp.full(8, 0.1, jnp.float32), "w": _draw(3, 3, 1, 8, scale=0.3, seed=1)},
    "two": {"b": jnp.full(16, 0.1, jnp.float32), "w": _draw(3, 3, 8, 16, scale=0.1, seed=2)},
    "out": _layer(256, 10, 3),
  }
  return loss, params, (_draw(8, 16, 16, 1, seed=4), _labels(8, 10))


def gru(rule: Rule) -> Problem:
  """A gated recurrent unit over 20 steps by `scan`, nine leaves and a readout."""

  def loss(params, xs, target):
    def step(h, x):
      def gate(name, h):
        p = params[name]
        return x @ p["w"] + h @ p["u"] + p["b"]

      z, r = jax.nn.sigmoid(gate("z", h)), jax.nn.sigmoid(gate("r", h))
      return (1 - z) * h + z * rule(gate("h", r * h)), None

    h = jax.lax.scan(step, jnp.zeros((xs.shape[1], 32), jnp.float32), xs)[0]
    return jnp.mean((h @ params["out"]["w"] + params["out"]["b"] - target) ** 2)

  params: dict[str, Any] = {
    name: _layer(8, 32, i) | {"u": _draw(32, 32, scale=0.2, seed=10 + i)}
    for i, name in enumerate("zrh")
  }
  params["out"] = _layer(32, 4, 7)
  return loss, params, (_draw(20, 16, 8, seed=4), _draw(16, 4, seed=5))


def transformer(rule: Rule) -> Problem:
  """Two blocks of attention with layer norms and biases, 33 leaves."""
  width, heads, classes, length = 32, 4, 50, 16

  def norm(x, p):
    x = x - jnp.mean(x, -1, keepdims=True)
    return p["scale"] * x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) + p["bias"]

  def dense(x, p):
    return x @ p["w"] + p["b"]

  def attention(x, p):
    split = lambda y: y.reshape(*y.shape[:2], heads, -1).transpose(0, 2, 1, 3)  # noqa: E731
    q, k, v = (split(dense(x, p[name])) for name in "qkv")
    scores = q @ k.transpose(0, 1, 3, 2) / jnp.sqrt(jnp.float32(width // heads))
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    mixed = jax.nn.softmax(scores) @ v
    return dense(mixed.transpose(0, 2, 1, 3).reshape(x.shape), p["o"])

  def loss(params, tokens, labels):
    x = params["embedding"][tokens]
    for p in params["blocks"]:
      x = x + attention(norm(x, p["norm1"]), p)
      x = x + dense(rule(dense(norm(x, p["norm2"]), p["up"])), p["down"])
    return _cross_entropy(x @ params["embedding"].T, labels)

  def block(seed: int) -> dict[str, Any]:
    plain = {"scale": jnp.ones(width, jnp.float32), "bias": jnp.zeros(width, jnp.float32)}
    square = {name: _layer(width, width, seed + i) for i, name in enumerate("qkvo")}
    rest = {"up": _layer(width, 64, seed + 5), "down": _layer(64, width, seed + 6)}
    return {"norm1": plain, "norm2": dict(plain), **square, **rest}

  params = {"embedding": _draw(classes, width, seed=1), "blocks": [block(10), block(20)]}
  tokens = jnp.asarray(np.random.default_rng(3).integers(0, classes, (4, length)))
  return loss, params, (tokens, jnp.roll(tokens, -1, axis=1))


def gp(rule: Rule) -> Problem:
  """The likelihood of a Gaussian process in float64, by a Cholesky factorization."""

  def loss(params, x, y):
    scale, amplitude, noise = (jnp.exp(params[name]) for name in ("scale", "amplitude", "noise"))
    squares = jnp.sum((x[:, None] - x[None]) ** 2 / scale**2, -1)
    kernel = amplitude * jnp.exp(-squares / 2) + noise * jnp.eye(len(x))
    factor = jnp.linalg.cholesky(kernel)
    whitened = jax.scipy.linalg.solve_triangular(factor, y - rule(x @ params["mean"]), lower=True)
    return jnp.sum(whitened**2) / 2 + jnp.sum(jnp.log(jnp.diag(factor)))

  params = {
    "amplitude": jnp.float64(0.1),
    "mean": _draw(3, seed=1, dtype=np.float64),
    "noise": jnp.float64(-2.0),
    "scale": jnp.asarray([0.1, 0.2, -0.1], jnp.float64),
  }
  return loss, params, (_draw(40, 3, seed=2, dtype=np.float64), _draw(40, seed=3, dtype=np.float64))


MODELS: dict[str, Callable[[Rule], Problem]] = {
  "tiny": tiny,
  "mlp": mlp,
  "cnn": cnn,
  "gru": gru,
  "transformer": transformer,
  "gp": gp,
}
# Losses in float64 are for processes with 64 bits on.
NEEDS_X64 = ("gp",)
