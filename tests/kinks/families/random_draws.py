"""Programs that draw at random from a key: in the distribution's parameters, or in what is drawn.

The uniform numbers are the program's own in the replay, so each draw is a function of the
parameters. `random.gamma` and what it makes have an implicit derivative, of which no difference of
draws can know.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import nn, random

from tests.kinks.corpus import Member, normal, uniform
from tests.kinks.families.models import with_parameters

_SHAPE = (3, 4)
_UNIT_SQUARE = uniform(0.6, 1.6, (), ())


def _keyed(draw, make=random.key):
  def drawn(key):
    seed = random.randint(random.fold_in(key, 7), (), 0, 2**30)
    return (*draw(key), make(seed))

  return drawn


# With a draw of the standard distribution: a location a and a scale b.
_REPARAMETRISED = {
  "cauchy": random.cauchy,
  "double_sided_maxwell": lambda k, s: random.double_sided_maxwell(k, 0.3, 1.2, s),
  "exponential": random.exponential,
  "gumbel": random.gumbel,
  "gumbel with mode high": lambda k, s: random.gumbel(k, s, mode="high"),
  "laplace": random.laplace,
  "logistic": random.logistic,
  "maxwell": random.maxwell,
  "normal": random.normal,
  "rademacher": random.rademacher,
  "t": lambda k, s: random.t(k, 3.0, s),
  "gamma": lambda k, s: random.gamma(k, 1.7, s),
  "beta": lambda k, s: random.beta(k, 1.7, 0.6, s),
  "dirichlet": lambda k, s: random.dirichlet(k, jnp.array([0.7, 1.5, 2.0]), (4,))[:, 0],
  "truncated_normal": lambda k, s: random.truncated_normal(k, -1.0, 2.0, s),
  "uniform": random.uniform,
  "poisson": lambda k, s: random.poisson(k, 2.5, s),
  "orthogonal": lambda k, s: random.orthogonal(k, 4),
  "ball": lambda k, s: random.ball(k, 4),
}
# The parameters a and b themselves are those of the distribution.
_IN_PARAMETERS = {
  "uniform in its bounds": lambda k, a, b: random.uniform(k, _SHAPE, minval=-a, maxval=b),
  "truncated_normal in its bounds": lambda k, a, b: random.truncated_normal(k, -a, b, _SHAPE),
  "pareto in its shape": lambda k, a, b: b * random.pareto(k, a + 1, _SHAPE),
  "weibull_min in its shape": lambda k, a, b: random.weibull_min(k, a, b, _SHAPE),
  "lognormal in its scale": lambda k, a, b: a * random.lognormal(k, b, _SHAPE),
  "rayleigh in its scale": lambda k, a, b: b + random.rayleigh(k, a, _SHAPE),
  "wald in its mean": lambda k, a, b: b * random.wald(k, a, _SHAPE),
  "triangular in its mode": lambda k, a, b: random.triangular(k, -b, a - 1, 2.0, _SHAPE),
  "double_sided_maxwell in both": lambda k, a, b: random.double_sided_maxwell(k, a, b, _SHAPE),
  "multivariate_normal by cholesky": lambda k, a, b: random.multivariate_normal(
    k, jnp.stack([a, b]), _covariance(a, b), method="cholesky"
  ),
  "multivariate_normal by eigh": lambda k, a, b: random.multivariate_normal(
    k, jnp.stack([a, b]), _covariance(a, b), method="eigh"
  ),
  "multivariate_normal by svd": lambda k, a, b: random.multivariate_normal(
    k, jnp.stack([a, b]), _covariance(a, b), method="svd"
  ),
  "bernoulli in its probability": lambda k, a, b: b * random.bernoulli(k, a / 2, _SHAPE) + a,
  "binomial in its probability": lambda k, a, b: b * random.binomial(k, 5, a / 2, _SHAPE) + a,
  "geometric in its probability": lambda k, a, b: b * random.geometric(k, a / 2, _SHAPE) + a,
  "poisson times": lambda k, a, b: b * random.poisson(k, 2.5, _SHAPE) + a,
}
# The derivative that JAX takes of a draw of gamma is implicit.
_OF_GAMMA = {
  "gamma in its shape": lambda k, a, b: b * random.gamma(k, a, _SHAPE),
  "loggamma in its shape": lambda k, a, b: b + random.loggamma(k, a, _SHAPE),
  "beta in its shapes": lambda k, a, b: random.beta(k, a, b, _SHAPE),
  "chisquare in its degrees": lambda k, a, b: b * random.chisquare(k, a, shape=_SHAPE),
  "dirichlet in its shapes": lambda k, a, b: random.dirichlet(k, jnp.stack([a, b, 1.0]), (3,)),
  "f in its degrees": lambda k, a, b: random.f(k, 2 * a, 2 + b, _SHAPE),
  "generalized_normal in its power": lambda k, a, b: b * random.generalized_normal(k, a, _SHAPE),
  "t in its degrees": lambda k, a, b: b * random.t(k, 1 + a, _SHAPE),
}


def _covariance(a, b):
  return jnp.stack([jnp.stack([1 + a, 0.3 * b]), jnp.stack([0.3 * b, b])])


def _located(draw):
  return lambda a, b, key: nn.softplus(a + b * draw(key, _SHAPE))


def _first_keyed(draw):
  return lambda a, b, key: draw(key, a, b)


def _dropout(x, key):
  x = jnp.where(random.bernoulli(key, 0.7, x.shape), x / 0.7, 0)
  return jnp.sum(nn.relu(x) ** 2, axis=1)


def _dropout_mlp(p, x, key):
  for name in ("w1", "w2"):
    key, now = random.split(key)
    x = nn.relu(x @ p[name])
    x = x * random.bernoulli(now, 0.6, x.shape) / 0.6
  return x @ p["w3"]


def _keys_in_scan(p, x, key):
  def step(state, k):
    k1, k2 = random.split(k)
    state = jnp.tanh(state @ p["w1"] + 0.3 * random.normal(k1, (4, 3)))
    return state * random.bernoulli(k2, 0.8, (4, 3)), state.mean()

  return jax.lax.scan(step, x, random.split(key, 3))[1]


def _carried_key(p, x, key):
  def step(i, state):
    x, key = state
    key = random.fold_in(key, i)
    return x + 0.1 * jnp.exp(p["w3"].mean()) * random.normal(key, x.shape), key

  return jax.lax.fori_loop(0, 4, step, (x @ p["w1"], key))[0]


def _particles(p, x, key):
  """A particle filter's step: resampled by a draw of the weights, which does not move them."""
  weights = nn.softmax(x @ p["w3"])
  parents = random.categorical(key, jax.lax.stop_gradient(jnp.log(weights)), shape=(5,))
  return nn.relu(x[parents] @ p["w1"]) + jnp.log(weights)[parents][:, None]


def _gumbel_softmax(p, x, key):
  logits = x @ p["w1"]
  relaxed = nn.softmax((logits + random.gumbel(key, logits.shape)) / 0.7)
  hard = nn.one_hot(random.categorical(key, logits), 3)
  return relaxed @ p["w1"].T + hard * logits


def _annealed(p, x, key):
  """Metropolis steps: accepted by a comparison with a uniform draw."""

  def energy(y):
    return jnp.sum((y @ p["w1"]) ** 2 + jnp.abs(y), axis=1)

  def step(y, k):
    k1, k2 = random.split(k)
    proposed = y + 0.4 * random.normal(k1, y.shape)
    accepts = jnp.log(random.uniform(k2, (4,))) < energy(y) - energy(proposed)
    return jnp.where(accepts[:, None], proposed, y), None

  return energy(jax.lax.scan(step, x, random.split(key, 4))[0])


def _langevin(p, x, key):
  potential = jax.grad(lambda y: jnp.sum(nn.softplus(y @ p["w1"])))
  for k in random.split(key, 3):
    x = x - 0.1 * potential(x) + 0.3 * random.normal(k, x.shape)
  return x.mean(0)


def _sphere(p, x, key):
  direction = random.normal(key, (3,)) + x.mean(0)
  return p["w1"] @ direction / jnp.linalg.norm(direction)


# What is drawn or shuffled moves; each of x and a key.
_OF_VALUES = {
  "dropout": _dropout,
  "permutation of values": lambda x, key: random.permutation(key, x, axis=1) * np.arange(5.0),
  "permutation, independent": lambda x, key: jnp.cumsum(
    random.permutation(key, x, axis=1, independent=True), axis=1
  ),
  "choice of values": lambda x, key: random.choice(key, x, (5,), replace=True),
  "choice without replacement": lambda x, key: random.choice(key, x, (3,), replace=False, axis=1),
  "choice by probabilities": lambda x, key: random.choice(key, x[0], (5,), p=nn.softmax(x[1])),
  "categorical one-hot times x": lambda x, key: nn.one_hot(random.categorical(key, x), 5) * x,
  "categorical at x": lambda x, key: jnp.take_along_axis(
    nn.log_softmax(x), random.categorical(key, x)[:, None], axis=1
  ),
  "randint as an index": lambda x, key: x[random.randint(key, (6,), 0, 4)] ** 2,
  "noise by vmap of keys": lambda x, key: jax.vmap(
    lambda row, k: nn.relu(row + random.normal(k, (5,)))
  )(x, random.split(key, 4)),
  "mixup": lambda x, key: nn.relu(0.3 * x + 0.7 * random.permutation(key, x)).sum(1),
}
_MODELS = {
  "dropout in layers": _dropout_mlp,
  "keys split in a scan": _keys_in_scan,
  "key carried by a loop": _carried_key,
  "particle filter": _particles,
  "gumbel softmax": _gumbel_softmax,
  "metropolis": _annealed,
  "langevin": _langevin,
  "direction on a sphere": _sphere,
}
_MAKERS = {
  "PRNGKey": random.PRNGKey,
  "rbg": lambda seed: random.key(seed, impl="rbg"),
  "unsafe_rbg": lambda seed: random.key(seed, impl="unsafe_rbg"),
}
_MATRIX = normal((4, 5))
_NET = with_parameters((4, 3), w1=(3, 3), w2=(3, 3), w3=(3,))
MEMBERS = [
  *(
    Member(f"random.{name}", _located(draw), _keyed(_UNIT_SQUARE), (0, 1))
    for name, draw in _REPARAMETRISED.items()
  ),
  *(
    Member(f"random.{name}", _first_keyed(draw), _keyed(_UNIT_SQUARE), (0, 1))
    for name, draw in (_IN_PARAMETERS | _OF_GAMMA).items()
  ),
  *(Member(f"random.{name}", fun, _keyed(_MATRIX)) for name, fun in _OF_VALUES.items()),
  *(Member(f"random.{name}", fun, _keyed(_NET)) for name, fun in _MODELS.items()),
  *(
    Member(f"random.{fun.__name__.strip('_')} from {name}", fun, _keyed(draw, make))
    for name, make in _MAKERS.items()
    for fun, draw in ((_dropout, _MATRIX), (_keys_in_scan, _NET))
  ),
]
