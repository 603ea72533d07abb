"""Neural networks as their authors write them in plain JAX: losses of a pytree of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from tests.kinks.corpus import Member, normal

_CLASSES = np.array([2, 0, 1, 2])
_LENGTHS = np.array([4, 2, 3])


def with_parameters(*data, **shapes):
  """Draws a dict of parameters of the shapes given by name, and then arrays of data."""

  def draw(key):
    keys = jax.random.split(key, len(shapes) + 1)
    drawn = {
      name: 0.5 * jax.random.normal(k, shape)
      for k, (name, shape) in zip(keys, shapes.items(), strict=False)
    }
    return (drawn, *normal(*data)(keys[-1])) if data else (drawn,)

  return draw


def cross_entropy(logits, labels):
  """Averages the negated log probabilities of integer labels."""
  return -jnp.mean(jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], axis=-1))


def normalized(x, axis=-1, epsilon=1e-5):
  """Gives an array the mean 0 and the variance 1 along axes."""
  mean = x.mean(axis, keepdims=True)
  return (x - mean) * lax.rsqrt(jnp.var(x, axis, keepdims=True) + epsilon)


def _mlp(p, x):
  hidden = nn.relu(x @ p["w1"] + p["b1"])
  decay = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))
  return cross_entropy(hidden @ p["w2"] + p["b2"], _CLASSES) + 1e-2 * decay


def _residual(p, x):
  for name in ("w1", "w2"):
    x = x + nn.gelu(normalized(x) @ p[name])
  return x.mean()


def _convolved(x, kernel, stride=1):
  dimensions = ("NHWC", "HWIO", "NHWC")
  return lax.conv_general_dilated(x, kernel, (stride,) * 2, "SAME", dimension_numbers=dimensions)


def _pooled(x, kind):
  if kind == "max":
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
  return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def _cnn(kind):
  def loss(p, x):
    x = nn.relu(_convolved(x, p["k1"]))
    x = nn.relu(_convolved(_pooled(x, kind), p["k2"], stride=2))
    return cross_entropy(x.reshape(2, -1) @ p["w"], _CLASSES[:2])

  return loss


def _gru(p, x):
  def step(h, a):
    z, r = jnp.split(nn.sigmoid(a @ p["wi"] + h @ p["wh"]), 2)
    new = jnp.tanh(a @ p["wn"] + (r * h) @ p["un"])
    h = (1 - z) * h + z * new
    return h, h @ p["out"]

  return jnp.mean(lax.scan(step, jnp.zeros(3), x)[1] ** 2)


def _lstm(p, x):
  def step(state, inputs):
    (h, c), (a, t) = state, inputs
    i, f, g, o = jnp.split(a @ p["wi"] + h @ p["wh"] + p["b"], 4, axis=-1)
    new_c = nn.sigmoid(f + 1) * c + nn.sigmoid(i) * jnp.tanh(g)
    new_h = nn.sigmoid(o) * jnp.tanh(new_c)
    is_on = (t < _LENGTHS)[:, None]
    return (jnp.where(is_on, new_h, h), jnp.where(is_on, new_c, c)), None

  zeros = jnp.zeros((3, 3))
  (h, _), _ = lax.scan(step, (zeros, zeros), (x, jnp.arange(4)))
  return jnp.sum(h @ p["out"])


def _attention(p, x):
  q, k, v = (x @ p[name] for name in ("q", "k", "v"))
  is_past = jnp.tril(jnp.ones((5, 5), bool))
  weights = nn.softmax(jnp.where(is_past, q @ k.T / np.sqrt(3), -1e9))
  return jnp.mean((weights @ v @ p["o"]) ** 2)


def _multi_head(p, x):
  q, k, v = jnp.einsum("td,cdhk->chtk", x, p["qkv"])
  scores = jnp.einsum("htk,hsk->hts", q, k) - jnp.abs(jnp.arange(5)[:, None] - jnp.arange(5))
  return jnp.einsum("hts,hsk,hkd->td", nn.softmax(scores), v, p["o"])


def _routed(p, x):
  """A transformer block whose feed-forward layer sends each token to two experts of three."""
  x = x + nn.dot_product_attention(*(normalized(x)[:, None] @ p[n] for n in "qkv"))[:, 0]
  y = normalized(x)
  chosen, experts = lax.top_k(y @ p["router"], 2)
  gates = nn.softmax(chosen)
  up = nn.relu(jnp.einsum("td,tedf->tef", y, p["up"][experts]))
  y = jnp.einsum("tef,tefd,te->td", up, p["down"][experts], gates)
  load = jnp.mean(nn.one_hot(experts, 3), axis=(0, 1))
  balance = jnp.sum(load * jnp.mean(nn.softmax(normalized(x) @ p["router"]), axis=0))
  return jnp.mean((x + y) ** 2) + 0.1 * balance, experts


def _switch_routed(p, x):
  """Sends each token to one expert of unlike architecture, by a branch."""
  experts = [lambda a: nn.relu(a @ p["a"]), lambda a: jnp.tanh(a @ p["b"]), lambda a: a * p["c"]]

  def route(a):
    probabilities = nn.softmax(a @ p["router"])
    best = jnp.argmax(probabilities)
    return probabilities[best] * lax.switch(best, experts, a)

  return lax.map(route, x)


def _batch_norm(p, x):
  x = x @ p["w"]
  mean, variance = x.mean(0), x.var(0)
  running = {"mean": 0.9 * 0 + 0.1 * mean, "variance": 0.9 + 0.1 * variance}
  x = nn.relu(p["scale"] * (x - mean) / jnp.sqrt(variance + 1e-5) + p["bias"])
  return jnp.mean(x**2), running


def _layer_norm(p, x):
  return nn.relu(normalized(x @ p["w"]) * p["scale"] + p["bias"])


def _rms_norm(p, x):
  x = x @ p["w"]
  return nn.silu(x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * p["scale"])


def _group_norm(p, x):
  x = (x @ p["w"]).reshape(2, 5, 2, 2)
  return nn.relu(normalized(x, axis=(1, 3)).reshape(2, 5, 4) * p["scale"] + p["bias"])


def _weight_norm(p, x):
  return nn.relu(x @ (p["v"] * p["g"] / jnp.linalg.norm(p["v"], axis=0)))


def _spectral_norm(p, x):
  u = jnp.linalg.svd(lax.stop_gradient(p["w"]), full_matrices=False)[0][:, 0]
  return x @ p["w"] / jnp.linalg.norm(u @ p["w"])


def _deep_set(p, x):
  pooled = jnp.max(nn.relu(x @ p["phi"]), axis=1)
  return jnp.mean((pooled @ p["rho"]) ** 2)


_SENDERS, _RECEIVERS = np.array([0, 1, 2, 3, 3, 1, 0]), np.array([1, 2, 3, 0, 1, 3, 2])


def _graph(aggregate):
  def loss(p, x):
    for _ in range(2):
      messages = jnp.concatenate([x[_SENDERS], x[_RECEIVERS]], axis=1) @ p["message"]
      x = x + jnp.tanh(aggregate(messages, _RECEIVERS, 4) @ p["update"])
    return x.mean(0) @ p["out"]

  return loss


def _graph_attention(p, x):
  h = x @ p["w"]
  scores = nn.leaky_relu((h[_SENDERS] + h[_RECEIVERS]) @ p["a"], 0.2)
  scores = jnp.exp(scores - jax.ops.segment_max(scores, _RECEIVERS, 4)[_RECEIVERS])
  total = jax.ops.segment_sum(scores, _RECEIVERS, 4)
  return jax.ops.segment_sum(h[_SENDERS] * (scores / total[_RECEIVERS])[:, None], _RECEIVERS, 4)


def _embedding(p, tokens):
  x = jnp.take(p["table"], tokens, axis=0)
  x = nn.relu(jnp.mean(x, axis=1) @ p["w"])
  return cross_entropy(x @ p["table"].T, tokens[:, 0])


def _with_tokens(draw):
  return lambda key: (*draw(key), jax.random.randint(key, (4, 3), 0, 6))


def _remat_scan(p, x):
  """Layers in one stacked array, each of them rematerialised."""
  layer = jax.checkpoint(lambda h, w: (jnp.tanh(h @ w) + nn.relu(h), None))
  return jnp.mean(lax.scan(layer, x, p["w"])[0] ** 2)


_CNN = with_parameters((2, 4, 6, 2), k1=(3, 3, 2, 3), k2=(3, 3, 3, 2), w=(4, 3))
_HEADS = {"q": (1, 4, 4), "k": (1, 4, 4), "v": (1, 4, 4)}
_EXPERTS = {"router": (4, 3), "up": (3, 4, 3), "down": (3, 3, 4)}
_GRAPH = with_parameters((4, 3), message=(6, 4), update=(4, 3), out=(3,))
_MODELS = {
  "mlp": (_mlp, with_parameters((4, 3), w1=(3, 5), b1=(5,), w2=(5, 3), b2=(3,))),
  "residual mlp": (_residual, with_parameters((4, 3), w1=(3, 3), w2=(3, 3))),
  "cnn with max-pool": (_cnn("max"), _CNN),
  "cnn with average pool": (_cnn("average"), _CNN),
  "gru by scan": (
    _gru,
    with_parameters((4, 2), wi=(2, 6), wh=(3, 6), wn=(2, 3), un=(3, 3), out=(3, 2)),
  ),
  "lstm by scan with a mask": (
    _lstm,
    with_parameters((4, 3, 2), wi=(2, 12), wh=(3, 12), b=(12,), out=(3, 2)),
  ),
  "attention with a causal mask": (
    _attention,
    with_parameters((5, 4), q=(4, 3), k=(4, 3), v=(4, 3), o=(3, 2)),
  ),
  "attention of several heads": (
    _multi_head,
    with_parameters((5, 4), qkv=(3, 4, 2, 2), o=(2, 2, 4)),
  ),
  "transformer with top-k routing": (_routed, with_parameters((3, 4), **_HEADS, **_EXPERTS)),
  "experts by switch": (
    _switch_routed,
    with_parameters((4, 3), router=(3, 3), a=(3, 3), b=(3, 3), c=(3,)),
  ),
  "batch norm": (_batch_norm, with_parameters((6, 3), w=(3, 4), scale=(4,), bias=(4,))),
  "layer norm": (_layer_norm, with_parameters((2, 3), w=(3, 5), scale=(5,), bias=(5,))),
  "rms norm": (_rms_norm, with_parameters((2, 3), w=(3, 5), scale=(5,))),
  "group norm": (_group_norm, with_parameters((2, 5, 3), w=(3, 4), scale=(4,), bias=(4,))),
  "weight norm": (_weight_norm, with_parameters((4, 3), v=(3, 5), g=(5,))),
  "spectral norm": (_spectral_norm, with_parameters((4, 3), w=(3, 4))),
  "deep set with max": (_deep_set, with_parameters((3, 4, 2), phi=(2, 5), rho=(5, 2))),
  "graph network with segment_max": (_graph(jax.ops.segment_max), _GRAPH),
  "graph network with segment_sum": (_graph(jax.ops.segment_sum), _GRAPH),
  "graph attention": (_graph_attention, with_parameters((4, 3), w=(3, 4), a=(4,))),
  "embedding of integers": (_embedding, _with_tokens(with_parameters(table=(6, 3), w=(3, 3)))),
  "checkpointed layers by scan": (_remat_scan, with_parameters((2, 3), w=(4, 3, 3))),
}
MEMBERS = [Member(f"model.{name}", fun, draw) for name, (fun, draw) in _MODELS.items()]
