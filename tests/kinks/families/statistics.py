"""The distributions of `jax.scipy.stats`: all methods of each, in its variable and parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats

from tests.kinks.corpus import Member, normal, uniform

_COUNTS = np.array([0, 1, 2, 3, 5])
_TABLE = np.array([[1, 0, 2, 2], [3, 1, 1, 0], [0, 2, 1, 2]])

# The bounds of what is drawn.
_Z, _UNIT, _LOC, _SCALE = (-2.5, 2.5), (0.15, 0.85), (-0.3, 0.3), (0.6, 1.6)
_SHAPE, _PAST = (0.7, 3.0), (0.6, 3.0)
_PDF, _ALL = "logpdf pdf", "logpdf pdf cdf logcdf sf logsf"


def _boxes(*bounds):
  """Draws a vector of five numbers between each pair of bounds."""

  def draw(key):
    keys = jax.random.split(key, len(bounds))
    return tuple(uniform(*pair, (5,))(k)[0] for k, pair in zip(keys, bounds))

  return draw


def _methods(distribution, names):
  """Gives the values of several methods."""
  given = getattr(stats, distribution)
  methods = [getattr(given, name) for name in names.split() if hasattr(given, name)]
  return lambda *args: [method(*args) for method in methods]


# Name: the methods, then the bounds of the variable and of the parameters; all move.
_CONTINUOUS = {
  "norm": ("logpdf pdf cdf sf", _Z, _LOC, _SCALE),
  "norm logarithms": ("logcdf logsf", _Z, _LOC, _SCALE),
  "norm quantiles": ("ppf isf", _UNIT, _LOC, _SCALE),
  "cauchy": (_ALL, _Z, _LOC, _SCALE),
  "cauchy quantiles": ("ppf isf", _UNIT, _LOC, _SCALE),
  "laplace": (_ALL, _Z, _LOC, _SCALE),
  "logistic": (_ALL, _Z, _LOC, _SCALE),
  "logistic quantiles": ("ppf isf", _UNIT, _LOC, _SCALE),
  "expon": (_ALL, _PAST, _LOC, _SCALE),
  "expon quantiles": ("ppf", _UNIT, _LOC, _SCALE),
  "expon outside": ("pdf cdf sf logsf", _Z, _LOC, _SCALE),
  "gumbel_l": ("cdf logcdf sf logsf", (-2.0, 1.2), _LOC, _SCALE),
  "gumbel_r": ("cdf logcdf sf logsf", (-1.2, 2.0), _LOC, _SCALE),
  "uniform": ("pdf logpdf cdf", (0.2, 0.7), (-0.1, 0.1), (0.9, 1.6)),
  "uniform outside": ("pdf cdf", (-0.5, 1.6), (-0.1, 0.1), (0.9, 1.1)),
  "uniform quantiles": ("ppf", _UNIT, _LOC, _SCALE),
  "pareto": (_ALL, (2.2, 4.0), _SHAPE, _LOC, _SCALE),
  "pareto quantiles": ("ppf", _UNIT, _SHAPE, _LOC, _SCALE),
  "t": (_PDF, _Z, _SHAPE, _LOC, _SCALE),
  "chi2 densities": (_PDF, _PAST, _SHAPE, _LOC, _SCALE),
  "gamma densities": (_PDF, _PAST, _SHAPE, _LOC, _SCALE),
  "beta densities": (_PDF, (0.3, 0.7), _SHAPE, _SHAPE, (-0.1, 0.1), (0.9, 1.1)),
  "truncnorm densities": (_PDF, (-0.6, 0.6), (-2.5, -1.2), (1.2, 2.5), (-0.1, 0.1), (0.9, 1.1)),
  "truncnorm": ("cdf logsf", (-0.6, 0.6), (-2.5, -1.2), (1.2, 2.5)),
  "truncnorm in a tail": ("logpdf sf logcdf", (2.2, 3.0), (1.0, 1.8), (3.5, 4.5)),
  "vonmises": (_PDF, _Z, (0.5, 3.0)),
  "wrapcauchy": (_PDF, (0.3, 6.0), _UNIT),
  "gennorm densities": (_PDF, _Z, _SHAPE),
}

# Cumulative functions by a series, in one argument at a time.
_ONE_AT_A_TIME = {
  "gamma": ("cdf logcdf sf logsf", "x a . scale", _PAST, _SHAPE, _LOC, _SCALE),
  "chi2": ("cdf logcdf sf logsf", "x df", _PAST, _SHAPE, _LOC, _SCALE),
  "beta": (
    "cdf logcdf sf logsf",
    "x . . . scale",
    (0.3, 0.7),
    _SHAPE,
    _SHAPE,
    (-0.1, 0.1),
    (0.9, 1.1),
  ),
  "gennorm": ("cdf", "x beta", _Z, _SHAPE),
}

# Of counts, which are fixed: in the parameters.
_DISCRETE = {
  "bernoulli": ("pmf logpmf cdf", np.array([0, 1, 1, 0, 1]), _UNIT),
  "geom": ("pmf logpmf", 1 + _COUNTS, _UNIT),
  "poisson": ("pmf logpmf", _COUNTS, (0.6, 4.0)),
  "poisson cumulated": ("cdf", _COUNTS, (0.6, 4.0)),
  "nbinom": ("pmf logpmf", _COUNTS, (0.7, 4.0), _UNIT),
  "binom": ("pmf logpmf", _COUNTS, (5.5, 9.0), _UNIT),
  "betabinom": ("pmf logpmf", _COUNTS, (5.5, 9.0), _SHAPE, _SHAPE),
}


def _covariance(root):
  return root @ root.T / 3 + jnp.eye(3)


def _multinomial(z):
  p, (log, plain) = jax.nn.softmax(z), (stats.multinomial.logpmf, stats.multinomial.pmf)
  return [(log(row, 5, p), plain(row, 5, p)) for row in _TABLE]


# In JAX the densities have no derivative in `scale`, nor the quantiles in theirs: it fails inside.
def _gumbel_densities(x, loc):
  given = (stats.gumbel_l, stats.gumbel_r)
  return [(d.logpdf(x, loc, 1.3), d.pdf(x, loc, 1.3)) for d in given]


def _gumbel_quantiles(loc, scale):
  q = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
  return [d.ppf(q, loc, scale) for d in (stats.gumbel_l, stats.gumbel_r)]


def _kde(data, points, weights):
  kde = stats.gaussian_kde(data, weights=jax.nn.softmax(weights))
  return kde(points), kde.logpdf(points)


_OTHERS = {
  "bernoulli.ppf of no derivative": (
    lambda p, x: x * stats.bernoulli.ppf(np.array([0.2, 0.4, 0.6, 0.8, 0.9]), p),
    _boxes(_UNIT, _Z),
  ),
  "dirichlet": (
    lambda z, alpha: (
      stats.dirichlet.logpdf(jax.nn.softmax(z), alpha),
      stats.dirichlet.pdf(jax.nn.softmax(z), alpha),
    ),
    lambda key: (normal((4,))(key)[0], uniform(0.7, 3.0, (4,))(key)[0]),
  ),
  "gumbel densities": (_gumbel_densities, _boxes((-1.2, 1.2), _LOC)),
  "gumbel quantiles": (_gumbel_quantiles, _boxes(_LOC, _SCALE)),
  "multinomial": (_multinomial, normal((4,))),
  "multivariate_normal": (
    lambda x, mean, root: (
      stats.multivariate_normal.logpdf(x, mean, _covariance(root)),
      stats.multivariate_normal.pdf(x, mean, _covariance(root)),
    ),
    normal((2, 3), (3,), (3, 3)),
  ),
  "poisson.entropy": (stats.poisson.entropy, uniform(0.6, 4.0, (5,))),
  "gaussian_kde": (_kde, normal((2, 6), (2, 3), (6,))),
  "gaussian_kde by its own means": (
    lambda data, mean: stats.gaussian_kde(data, 0.5).integrate_gaussian(mean, 0.3 * jnp.eye(2)),
    normal((2, 6), (2,)),
  ),
  "gaussian_kde between": (
    lambda data, low: stats.gaussian_kde(data, "silverman").integrate_box_1d(low, low + 1.0),
    normal((6,), ()),
  ),
  "gaussian_kde of two": (
    lambda x, y: stats.gaussian_kde(x).integrate_kde(stats.gaussian_kde(y)),
    normal((6,), (6,)),
  ),
  "sem": (lambda x: stats.sem(x, axis=0), normal((5, 2))),
  "rankdata": (lambda x: x * stats.rankdata(x), normal((7,))),
  "mode": (lambda x: x * stats.mode(jnp.round(x)).mode, normal((7,))),
}


def _of_counts(methods, counts):
  return lambda *parameters: methods(counts, *parameters)


def _all(draw):
  """Names all the arguments that are drawn."""
  return tuple(range(len(jax.eval_shape(draw, jax.random.key(0)))))


_FLOAT32 = [
  *(
    Member(
      f"stats.{name}", _methods(name.split()[0], names), _boxes(*bounds), _all(_boxes(*bounds))
    )
    for name, (names, *bounds) in _CONTINUOUS.items()
  ),
  *(
    Member(f"stats.{name} in {letter}", _methods(name, names), _boxes(*bounds), i)
    for name, (names, letters, *bounds) in _ONE_AT_A_TIME.items()
    for i, letter in enumerate(letters.split())
    if letter != "."
  ),
  *(
    Member(
      f"stats.{name}",
      _of_counts(_methods(name.split()[0], names), counts),
      _boxes(*bounds),
      _all(_boxes(*bounds)),
    )
    for name, (names, counts, *bounds) in _DISCRETE.items()
  ),
  *(Member(f"stats.{name}", fun, draw, _all(draw)) for name, (fun, draw) in _OTHERS.items()),
]
# Most of these are series: see `is_x64`.
MEMBERS = [dataclasses.replace(member, is_x64=True) for member in _FLOAT32]
