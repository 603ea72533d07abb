"""Generative models, state-space models, dynamic programmes, and losses of pairs and of orders."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax, nn
from jax.scipy import linalg, stats

from tests.kinks.corpus import Member
from tests.kinks.families.models import with_parameters

_TRIANGLE = np.tril(np.ones((3, 3)))


def keyed(draw):
  """Adds a random key after the arguments."""
  return lambda key: (*draw(key), jax.random.fold_in(key, 1))


def _vae(p, x, key):
  mean, log_scale = jnp.split(nn.relu(x @ p["e1"]) @ p["e2"], 2, axis=-1)
  z = mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape)
  logits = jnp.tanh(z @ p["d1"]) @ p["d2"]
  likelihood = optax.sigmoid_binary_cross_entropy(logits, (x > 0).astype(jnp.float32)).sum()
  return likelihood + 0.5 * jnp.sum(jnp.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale)


def _critic(p, x):
  return nn.leaky_relu(x @ p["c1"], 0.2) @ p["c2"]


def _gan(p, x, key):
  fake = jnp.tanh(jax.random.normal(key, (4, 2)) @ p["g1"]) @ p["g2"]
  critic = jnp.mean(nn.relu(1 - _critic(p, x))) + jnp.mean(
    nn.relu(1 + _critic(p, lax.stop_gradient(fake)))
  )
  frozen = lax.stop_gradient({"c1": p["c1"], "c2": p["c2"]})
  return critic, -jnp.mean(_critic(frozen, fake))


def _coupling_flow(p, x):
  total = 0.0
  for layer in ("a", "b"):
    kept, changed = jnp.split(x, 2, axis=1)
    scale, shift = jnp.split(nn.relu(kept @ p[layer + "1"]) @ p[layer + "2"], 2, axis=1)
    scale = jnp.clip(scale, -1.5, 1.5)
    x = jnp.concatenate([changed * jnp.exp(scale) + shift, kept], axis=1)
    total = total + scale.sum(1)
  return -jnp.mean(stats.norm.logpdf(x).sum(1) + total)


def _spline_flow(p, x):
  """A monotone piecewise linear map, inverted by a search for its bin."""
  widths = jnp.concatenate([jnp.zeros(1), jnp.cumsum(nn.softmax(p["widths"]))])
  heights = jnp.concatenate([jnp.zeros(1), jnp.cumsum(nn.softmax(p["heights"]))])
  x = nn.sigmoid(x)
  k = jnp.clip(jnp.searchsorted(widths, x) - 1, 0, 4)
  slope = jnp.diff(heights)[k] / jnp.diff(widths)[k]
  return heights[k] + slope * (x - widths[k]), jnp.log(slope).sum()


def _gaussian_process(p, x, y):
  distances = jnp.sum((x[:, None] - x) ** 2 * jnp.exp(p["length"]), axis=-1)
  kernel = jnp.exp(p["scale"] - distances) + jnp.exp(p["noise"]) * jnp.eye(5)
  factor = jnp.linalg.cholesky(kernel)
  white = linalg.solve_triangular(factor, y, lower=True)
  return 0.5 * jnp.sum(white**2) + jnp.sum(jnp.log(jnp.diag(factor)))


def _matern_process(p, x, y):
  r = jnp.sqrt(3 * jnp.sum((x[:, None] - x) ** 2, axis=-1) + 1e-6) * jnp.exp(p["length"])
  kernel = (1 + r) * jnp.exp(p["scale"] - r) + jnp.eye(5)
  factor = linalg.cho_factor(kernel, lower=True)
  return y @ linalg.cho_solve(factor, y) + jnp.linalg.slogdet(kernel)[1]


def _glm(p, x):
  logits = x @ p["w"] + p["b"]
  likelihood = jnp.mean(nn.logsumexp(logits, axis=1) - logits[np.arange(4), [2, 0, 1, 2]])
  return likelihood + 0.1 * jnp.sum(jnp.abs(p["w"]))


def _poisson_glm(p, x):
  eta = x @ p["w"]
  return jnp.mean(jnp.exp(eta) - np.array([0.0, 2, 1, 4]) * eta) + jnp.linalg.norm(p["w"])


def _mixture(p, x):
  parts = stats.norm.logpdf(x[:, None], p["means"], nn.softplus(p["scales"]) + 0.3)
  return -jnp.mean(nn.logsumexp(parts + nn.log_softmax(p["logits"]), axis=1))


def _k_means(p, x):
  distances = jnp.sum((x[:, None] - p["centers"]) ** 2, axis=-1)
  return jnp.sum(jnp.min(distances, axis=1)), jnp.argmin(distances, axis=1)


_TAGS = np.array([1, 0, 2, 2, 1])


def _crf(p, x):
  emissions = x @ p["emit"]

  def forward(alpha, emission):
    return nn.logsumexp(alpha[:, None] + p["move"], axis=0) + emission, None

  alpha, _ = lax.scan(forward, emissions[0], emissions[1:])
  path = emissions[np.arange(5), _TAGS].sum() + p["move"][_TAGS[:-1], _TAGS[1:]].sum()
  return nn.logsumexp(alpha) - path


def _viterbi(p, x):
  def forward(best, emission):
    scores = best[:, None] + p["move"]
    return scores.max(0) + emission, scores.argmax(0)

  emissions = x @ p["emit"]
  best, back = lax.scan(forward, emissions[0], emissions[1:])
  return best.max(), back


def _ctc(p, x):
  logits = (x @ p["w"]).reshape(2, 6, 4)
  paddings = np.zeros((2, 6)), np.array([[0, 0, 0], [0, 0, 1.0]])
  labels = np.array([[1, 2, 2], [3, 1, 0]])
  return optax.ctc_loss(logits, paddings[0], labels, paddings[1])


def _soft_dtw(p, x):
  """Dynamic time warping, with the hard minimum, row by row and cell by cell."""
  cost = jnp.abs(x[:, None] - p["template"])

  def cell(left, inputs):
    c, up, diagonal = inputs
    new = c + jnp.minimum(jnp.minimum(left, up), diagonal)
    return new, new

  def row(above, costs):
    new = lax.scan(cell, jnp.float32(1e3), (costs, above[1:], above[:-1]))[1]
    return jnp.concatenate([jnp.full(1, 1e3), new]), None

  first = jnp.concatenate([jnp.zeros(1), jnp.full(4, 1e3)])
  return lax.scan(row, first, cost)[0][-1]


def _kalman(p, observed):
  noise = jnp.exp(p["q"]) * jnp.eye(3), jnp.exp(p["r"]) * jnp.eye(2)

  def step(state, y):
    mean, covariance = p["f"] @ state[0], p["f"] @ state[1] @ p["f"].T + noise[0]
    innovation = p["h"] @ covariance @ p["h"].T + noise[1]
    gain = jnp.linalg.solve(innovation, p["h"] @ covariance).T
    missed = y - p["h"] @ mean
    likelihood = stats.multivariate_normal.logpdf(missed, jnp.zeros(2), innovation)
    return (mean + gain @ missed, covariance - gain @ p["h"] @ covariance), likelihood

  return lax.scan(step, (jnp.zeros(3), jnp.eye(3)), observed)[1].sum()


def _hinge_ranks(p, x):
  scores = jnp.tanh(x @ p["w1"]) @ p["w2"]
  return jnp.mean(nn.relu(0.5 - jnp.diff(scores))) + jnp.median(scores)


def _quantile(p, x):
  missed = x[:, 0] - nn.relu(x @ p["w1"]) @ p["w2"]
  return jnp.mean(jnp.maximum(0.3 * missed, -0.7 * missed)) + jnp.quantile(missed, 0.35)


def _sorted_transport(p, x):
  """The Wasserstein distance of one dimension, sliced: sorted projections."""
  projected = jnp.sort(x @ p["w1"], axis=0)
  return jnp.mean(jnp.abs(projected - jnp.sort(jnp.sin(x) @ p["w1"], axis=0))) * p["w2"].sum()


def _trimmed(p, x):
  """Keeps the smallest losses, and cuts the worst: by an order, and by a top-k."""
  losses = (x[:, 0] - jnp.tanh(x @ p["w1"]) @ p["w2"]) ** 2
  kept = losses[jnp.argsort(losses)[:3]]
  return kept.mean() + 0.1 * lax.top_k(losses, 2)[0].sum()


def _info_nce(p, x):
  def embed(a):
    z = nn.gelu(a @ p["w1"]) * p["w2"]
    return z / (jnp.linalg.norm(z, axis=1, keepdims=True) + 1e-3)

  similar = embed(x) @ embed(x + 0.3 * jnp.cos(3 * x)).T / 0.5
  return -jnp.mean(jnp.diag(nn.log_softmax(similar)) + jnp.diag(nn.log_softmax(similar, axis=0)))


def _triplet(p, x):
  z = nn.relu(x @ p["w1"])
  squares = jnp.sum((z[:, None] - z) ** 2, axis=-1) + 1e3 * jnp.eye(4)
  farthest = jnp.sqrt(jnp.sum((z[:2] - z[2:]) ** 2, axis=1) + 0.1)
  return jnp.mean(nn.relu(farthest - jnp.sqrt(squares.min(1)[:2] + 0.1) + 2.0)) + p["w2"].sum()


def _evidence(p, key):
  """A full-rank Gaussian fitted to a density, by draws of it."""
  factor = p["factor"] * _TRIANGLE + np.eye(3)
  draws = p["mean"] + jax.random.normal(key, (4, 3)) @ factor.T
  target = -jnp.sum(jnp.log(1 + draws**2), axis=1) + jnp.minimum(draws[:, 0], 0.2)
  return jnp.mean(target) + jnp.linalg.slogdet(factor)[1]


def _policy(p, x, key):
  """A clipped surrogate objective with advantages; actions are drawn from the old policy."""
  old = nn.log_softmax(x @ p["w1"] * 0.7)
  actions = jax.random.categorical(key, lax.stop_gradient(old))[:, None]
  new = nn.log_softmax(x @ p["w1"])
  ratio = jnp.exp(jnp.take_along_axis(new - lax.stop_gradient(old), actions, axis=1)[:, 0])
  advantage = jnp.sin(5 * jnp.arange(4.0))
  clipped = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)
  return -jnp.mean(clipped) + 0.1 * jnp.mean(jnp.sum(jnp.exp(new) * new, axis=1)) + p["w2"].sum()


_PAIR = with_parameters((4, 3), w1=(3, 5), w2=(5,))
_TAGGER = with_parameters((5, 3), emit=(3, 3), move=(3, 3))
_PROCESS = with_parameters((5, 2), (5,), length=(), scale=(), noise=())
_HALVES = {"a1": (2, 5), "a2": (5, 4), "b1": (2, 5), "b2": (5, 4)}
_MODELS = {
  "vae": (_vae, keyed(with_parameters((4, 5), e1=(5, 4), e2=(4, 4), d1=(2, 4), d2=(4, 5)))),
  "gan with hinge": (
    _gan,
    keyed(with_parameters((4, 3), g1=(2, 4), g2=(4, 3), c1=(3, 4), c2=(4,))),
  ),
  "coupling flow": (_coupling_flow, with_parameters((4, 4), **_HALVES)),
  "piecewise linear flow": (_spline_flow, with_parameters((6,), widths=(5,), heights=(5,))),
  "gaussian process": (_gaussian_process, _PROCESS),
  "matern process": (_matern_process, _PROCESS),
  "glm with logsumexp": (_glm, with_parameters((4, 3), w=(3, 3), b=(3,))),
  "poisson glm": (_poisson_glm, with_parameters((4, 3), w=(3,))),
  "gaussian mixture": (_mixture, with_parameters((6,), means=(3,), scales=(3,), logits=(3,))),
  "k-means": (_k_means, with_parameters((6, 2), centers=(3, 2))),
  "crf": (_crf, _TAGGER),
  "viterbi": (_viterbi, _TAGGER),
  "ctc": (_ctc, with_parameters((12, 3), w=(3, 4))),
  "dynamic time warping": (_soft_dtw, with_parameters((5,), template=(4,))),
  "kalman filter by scan": (_kalman, with_parameters((4, 2), f=(3, 3), h=(2, 3), q=(), r=())),
  "ranking hinge": (_hinge_ranks, _PAIR),
  "quantile loss": (_quantile, _PAIR),
  "sliced transport": (_sorted_transport, _PAIR),
  "trimmed loss": (_trimmed, _PAIR),
  "contrastive loss": (_info_nce, _PAIR),
  "triplet loss": (_triplet, _PAIR),
  "variational inference": (_evidence, keyed(with_parameters(mean=(3,), factor=(3, 3)))),
  "clipped policy": (_policy, keyed(_PAIR)),
}
MEMBERS = [Member(f"model.{name}", fun, draw) for name, (fun, draw) in _MODELS.items()]
