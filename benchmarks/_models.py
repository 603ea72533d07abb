"""Ten small programs that people differentiate, with places where a rule of one's own may stand.

Each is a `Model`: `build(**slots)` gives a function of parameters and data, in which each slot may
be another implementation of the same thing, such as one with a custom rule; `point(draw, flavor)`
gives parameters and data. Three flavors of points: generic; with dead units; and with winners that
tie exactly.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _slots import (
  GROUPS,
  anomaly,
  cross_entropy,
  dense,
  fixed_point,
  logsumexp,
  max_pool,
  multiply,
  normalize,
  penalty,
  pinball,
  product,
  scale_and_shift,
  sums_to_come,
  totals,
)

GENERIC, DEAD, TIES = "generic", "dead units", "exact ties"
_FLAVORS = (GENERIC, DEAD, TIES, GENERIC)


@dataclasses.dataclass(frozen=True)
class Model:
  """A program, and where it is evaluated."""

  build: Callable[..., Callable[..., Any]]
  point: Callable[[np.random.Generator, str], tuple[Any, tuple[Any, ...]]]

  def at(self, seed: int, dtype: Any) -> tuple[Any, tuple[Any, ...]]:
    """Gives parameters and data, drawn in float32 so that both dtypes have the same numbers."""
    draw = np.random.default_rng(seed)
    return cast(self.point(draw, _FLAVORS[seed % len(_FLAVORS)]), dtype)


def cast(tree: Any, dtype: Any) -> Any:
  """Casts floating leaves to a dtype, complex ones to the complex dtype of its width."""

  def one(leaf: Any) -> jax.Array:
    leaf = np.asarray(leaf)
    if np.iscomplexobj(leaf):
      return jnp.asarray(leaf, jnp.result_type(dtype, jnp.complex64))
    return jnp.asarray(leaf, dtype if np.issubdtype(leaf.dtype, np.inexact) else None)

  return jax.tree.map(one, tree)


def _normal(draw: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
  return (scale * draw.standard_normal(shape)).astype(np.float32)


def _layer(draw: np.random.Generator, m: int, n: int) -> dict[str, np.ndarray]:
  return {"b": _normal(draw, n, scale=0.1), "w": _normal(draw, m, n, scale=m**-0.5)}


def _mlp(dense=dense, activation=jax.nn.relu, cross_entropy=cross_entropy):
  def loss(params, x, labels):
    x = activation(dense(x, params["hidden"]["w"], params["hidden"]["b"]))
    return cross_entropy(dense(x, params["out"]["w"], params["out"]["b"]), labels)

  return loss


def _mlp_point(draw, flavor):
  params = {"hidden": _layer(draw, 784, 100), "out": _layer(draw, 100, 10)}
  x, labels = _normal(draw, 64, 784), draw.integers(0, 10, 64, dtype=np.int32)
  if flavor == DEAD:
    params["hidden"]["b"][[3, 50]] = -1e3
  if flavor == TIES:
    params["hidden"]["b"][:] = 0
    x[:2] = 0
  return params, (x, labels)


def _conv(dense=dense, activation=jax.nn.relu, pool=max_pool, cross_entropy=cross_entropy):
  def loss(params, x, labels):
    x = jax.lax.conv_general_dilated(
      x, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = pool(activation(x + params["bias"])).reshape(len(x), -1)
    return cross_entropy(dense(x, params["out"]["w"], params["out"]["b"]), labels)

  return loss


def _conv_point(draw, flavor):
  kernel, bias = _normal(draw, 3, 3, 1, 4, scale=0.5), _normal(draw, 4, scale=0.1)
  params = {"bias": bias, "kernel": kernel, "out": _layer(draw, 196, 10)}
  x, labels = _normal(draw, 4, 16, 16, 1), draw.integers(0, 10, 4, dtype=np.int32)
  if flavor == DEAD:
    bias[2] = -100
  if flavor == TIES:
    x[0] = 1
  return params, (x, labels)


def _gru(product=product, squash=jnp.tanh, sums=sums_to_come):
  def loss(params, x, targets):
    def step(h, x):
      u, r, n = (x @ params["in"][k] + params["bias"][k] for k in range(3))
      update = jax.nn.sigmoid(u + product(h, params["state"][0]))
      reset = jax.nn.sigmoid(r + product(h, params["state"][1]))
      h = update * h + (1 - update) * squash(n + product(reset * h, params["state"][2]))
      return h, h @ params["out"]

    start = jnp.zeros((x.shape[1], 16), x.dtype)
    return ((sums(jax.lax.scan(step, start, x)[1]) - targets) ** 2).mean()

  return loss


def _gru_point(draw, flavor):
  params = {
    "bias": _normal(draw, 3, 16, scale=0.1),
    "in": _normal(draw, 3, 5, 16, scale=0.5),
    "out": _normal(draw, 16, scale=0.25),
    "state": [_normal(draw, 16, 16, scale=0.25) for _ in range(3)],
  }
  if flavor == DEAD:
    params["bias"][0, 3] = 100.0  # this unit's state is never updated
  return params, (_normal(draw, 12, 8, 5), _normal(draw, 12, 8))


def _attention(product=product, softmax=jax.nn.softmax, activation=jax.nn.relu):
  def loss(params, x, is_token):
    q, k, v = (product(x, params[name]).reshape(3, 10, 2, 8) for name in "qkv")
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) / 8**0.5
    seen = jnp.tril(jnp.ones((10, 10), bool)) & is_token[:, None, None]
    mix = softmax(jnp.where(seen, logits, -jnp.inf))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", mix, v).reshape(x.shape)
    y = activation(x + product(mixed, params["o"]))
    return (y**2).sum(-1).mean(where=is_token)

  return loss


def _attention_point(draw, flavor):
  params = {name: _normal(draw, 16, 16, scale=0.3) for name in "qkvo"}
  x = _normal(draw, 3, 10, 16)
  if flavor == DEAD:
    x[..., 5] = -100
  if flavor == TIES:
    x[0, :4] = 0
  return params, (x, np.arange(10) < np.array([[10], [7], [4]]))


def _batch_norm(dense=dense, normalize=normalize, affine=scale_and_shift, activation=jax.nn.relu):
  def loss(params, x, labels):
    x = normalize(dense(x, params["hidden"]["w"], params["hidden"]["b"]))
    x = activation(affine(x, params["gain"], params["shift"]))
    return cross_entropy(dense(x, params["out"]["w"], params["out"]["b"]), labels)

  return loss


def _batch_norm_point(draw, flavor):
  params = {"hidden": _layer(draw, 12, 20), "out": _layer(draw, 20, 5)}
  params |= {"gain": 1 + _normal(draw, 20, scale=0.1), "shift": _normal(draw, 20, scale=0.1)}
  if flavor == DEAD:
    params["shift"][7] = -50
  if flavor == TIES:
    params["gain"][4] = params["shift"][4] = 0
  return params, (_normal(draw, 32, 12), draw.integers(0, 5, 32, dtype=np.int32))


def _glm(product=product, logsumexp=logsumexp, totals=totals, penalty=penalty):
  def loss(params, x, labels, groups):
    logits = product(x, params["coef"]) + params["bias"]
    losses = logsumexp(logits) - jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
    return (totals(losses, groups) ** 2).mean() / 50 + penalty(params["coef"])

  return loss


def _glm_point(draw, flavor):
  params = {"bias": _normal(draw, 5), "coef": _normal(draw, 30, 5, scale=0.2)}
  if flavor == TIES:
    params["bias"][:] = params["coef"][:] = 0  # all logits tie in the shift of logsumexp
  groups = draw.integers(0, GROUPS, 50, dtype=np.int32)
  groups[[4, 20]] = GROUPS, GROUPS + 3
  return params, (_normal(draw, 50, 30), draw.integers(0, 5, 50, dtype=np.int32), groups)


def _quantile(sort=jnp.sort, pinball=pinball, peak=jnp.max):
  def loss(params, x, y):
    r = y - x @ params["coef"] - params["bias"]
    ranks = jnp.linspace(-1, 1, 40, dtype=r.dtype)
    trimmed = jnp.mean(sort(r**2)[:30])
    return pinball(r).mean() + 0.3 * trimmed + 0.1 * (ranks * sort(r)).mean() + 0.2 * peak(r)

  return loss


def _quantile_point(draw, flavor):
  params = {"bias": _normal(draw), "coef": _normal(draw, 6)}
  x, y = _normal(draw, 40, 6), _normal(draw, 40)
  if flavor == TIES:
    x[1:4] = x[0]
    y[1:4] = y[0]
  return params, (x, y)


def _implicit(fixed_point=fixed_point, solve=jnp.linalg.solve):
  def loss(params, x, y):
    z = fixed_point(params["w"], x @ params["in"] + params["bias"])
    ridge = 0.1 * jnp.eye(8, dtype=z.dtype)
    readout = solve(z[:20].T @ z[:20] + ridge + params["skew"], z[:20].T @ y[:20])
    return ((z[20:] @ readout - y[20:]) ** 2).mean()

  return loss


def _implicit_point(draw, flavor):
  params = {
    "bias": _normal(draw, 8, scale=0.3),
    "in": _normal(draw, 3, 8, scale=0.7),
    "skew": np.triu(_normal(draw, 8, 8, scale=0.3)),
    "w": _normal(draw, 8, 8, scale=0.12),
  }
  return params, (_normal(draw, 40, 3), _normal(draw, 40))


def _spectral(multiply=multiply):
  def loss(params, x, y):
    found = jnp.fft.ifft(multiply(params["filter"], jnp.fft.fft(x))) + params["offset"]
    return (jnp.abs(found - y) ** 2).mean()

  return loss


def _spectral_point(draw, flavor):
  params = {"filter": _normal(draw, 16) + 1j * _normal(draw, 16), "offset": _normal(draw, 16)}
  return params, (_normal(draw, 6, 16), _normal(draw, 6, 16))


def _orbit(anomaly=anomaly):
  def velocities(params, times):
    m = 2 * jnp.pi * times / params["period"] + params["phase"]
    E = anomaly(params["eccentricity"], m)
    return params["speed"] * jnp.cos(E) / (1 - params["eccentricity"] * jnp.cos(E))

  return velocities


def _orbit_point(draw, flavor):
  names = {"eccentricity": (0.2, 0.4), "period": (2.0, 3.0), "phase": (0, 6), "speed": (1.0, 2.0)}
  params = {name: np.float32(draw.uniform(*span)) for name, span in names.items()}
  return params, (np.linspace(0, 5, 1000, dtype=np.float32),)


MODELS = {
  "mlp": Model(_mlp, _mlp_point),
  "conv": Model(_conv, _conv_point),
  "gru": Model(_gru, _gru_point),
  "attention": Model(_attention, _attention_point),
  "batch norm": Model(_batch_norm, _batch_norm_point),
  "glm": Model(_glm, _glm_point),
  "quantile": Model(_quantile, _quantile_point),
  "implicit": Model(_implicit, _implicit_point),
  "spectral": Model(_spectral, _spectral_point),
  "orbit": Model(_orbit, _orbit_point),
}
