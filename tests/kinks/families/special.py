"""The differentiable functions of `jax.scipy.special`, in each argument that has a derivative."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special

from tests.kinks.corpus import Member, normal, uniform

_REALS = normal((5,))
_UNIT = uniform(0.15, 0.85, (5,))
_POSITIVE = uniform(0.5, 4.0, (5,))


def _boxes(*bounds):
  """Draws a vector of five numbers between each pair of bounds."""

  def draw(key):
    keys = jax.random.split(key, len(bounds))
    return tuple(uniform(*pair, (5,))(k)[0] for k, pair in zip(keys, bounds))

  return draw


# Of one argument: the names, then where it is drawn.
_UNARY = {
  "digamma loggamma gammaln": _boxes((0.4, 4.0)),
  "gamma factorial": _boxes((0.4, 4.0)),
  "entr": _boxes((0.2, 2.0)),
  "expit log_softmax softmax logsumexp": _REALS,
  "logit erfinv": _UNIT,
  "ndtri erfcinv": _UNIT,
  "erf erfc ndtr": _boxes((-2.5, 2.5)),
  "log_ndtr": _boxes((-2.5, 2.5)),
  "i0 i0e i1 i1e": _boxes((-4.0, 4.0)),
  "exp1": _boxes((0.3, 4.0)),
  "expi": _boxes((0.3, 4.0)),
  "sici": _boxes((0.3, 6.0)),
  "fresnel": _boxes((0.3, 3.0)),
  "dawsn": _boxes((-3.0, 3.0)),
  "erfcx": _boxes((-1.0, 4.0)),
}

# Of several arguments, all of which move.
_TOGETHER = {
  "betaln beta": _boxes((0.6, 4.0), (0.6, 4.0)),
  "xlogy xlog1py": _boxes((0.3, 2.0), (0.3, 2.0)),
  "kl_div rel_entr": _boxes((0.2, 2.0), (0.2, 2.0)),
  "boxcox boxcox1p": _boxes((0.3, 2.0), (0.3, 2.0)),
  "poch": _boxes((0.6, 3.0), (0.6, 3.0)),
  "comb": _boxes((4.0, 8.0), (0.6, 3.0)),
  "hyp1f1": _boxes((0.6, 2.0), (1.2, 3.0), (-2.0, 2.0)),
  "hyp2f1": _boxes((0.6, 2.0), (0.7, 2.0), (2.3, 4.0), (-0.4, 0.4)),
  "owens_t": _boxes((-2.0, 2.0), (-2.0, 2.0)),
}

# Of several arguments, by series that are not the same in each; "." has no derivative.
_ONE_AT_A_TIME = {
  "gammainc": ("a x", _boxes((0.5, 4.0), (0.5, 4.0))),
  "gammaincc": ("a x", _boxes((0.5, 4.0), (0.5, 4.0))),
  "betainc": (". . x", _boxes((0.6, 4.0), (0.6, 4.0), (0.15, 0.85))),
  "zeta": (". q", _boxes((1.5, 4.0), (0.5, 3.0))),
}

_OTHERS = {
  "multigammaln in a": (lambda a: special.multigammaln(a, 3), _boxes((1.5, 4.0))),
  "gammasgn": (
    lambda x: special.gammasgn(x) * jnp.exp(special.gammaln(x)),
    _boxes((-0.8, -0.2)),
  ),
  "digamma and gamma below 0": (
    lambda x: (special.digamma(x), special.gamma(x)),
    _boxes((-1.8, -1.2)),
  ),
  "xlogy at 0": (lambda y: special.xlogy(np.array([0.0, 1, 0, 2, 0]), y), _POSITIVE),
  "kl_div at 0": (lambda q: special.kl_div(np.array([0.0, 1, 0, 2, 0]), q), _POSITIVE),
  "log_ndtr by its three formulas": (lambda x: special.log_ndtr(12 * x) / 20, _REALS),
  "logsumexp with signs": (
    lambda x, b: special.logsumexp(x, b=b, return_sign=True),
    normal((5,), (5,)),
  ),
  "logsumexp of some": (lambda x: special.logsumexp(x, where=np.arange(5) > 1), _REALS),
  "logsumexp over an axis": (
    lambda x: special.logsumexp(x, axis=0, keepdims=True) - x,
    normal((3, 4)),
  ),
  "logsumexp of complex": (special.logsumexp, normal((5,), dtype=jnp.complex64)),
  "spence to 1": (special.spence, _boxes((0.2, 0.9))),
  "spence from 1": (special.spence, _boxes((1.1, 3.0))),
  "expn in x": (lambda x: special.expn(np.array([2, 2, 3, 4, 5]), x), _boxes((0.3, 3.0))),
  "expi below 0": (special.expi, _boxes((-4.0, -0.3))),
  "polygamma in x": (lambda x: special.polygamma(np.array([1, 1, 2, 3, 4]), x), _boxes((0.6, 3.0))),
  "bessel_jn in z": (lambda z: special.bessel_jn(z, v=3), _boxes((0.5, 3.0))),
  "wofz": (lambda z: special.wofz(z), normal((4,), dtype=jnp.complex64)),
  "sph_harm_y": (
    lambda theta, phi: special.sph_harm_y(
      np.array([0, 1, 2, 3, 3]), np.array([0, 1, 1, 2, 0]), theta, phi, n_max=3
    ),
    _boxes((0.3, 2.8), (0.2, 6.0)),
  ),
}


def _all_of(names):
  """Gives the values of the functions that this version of JAX has."""
  functions = [getattr(special, name) for name in names.split() if hasattr(special, name)]
  return lambda *args: [function(*args) for function in functions]


def _all(draw):
  """Names all the arguments that are drawn."""
  return tuple(range(len(jax.eval_shape(draw, jax.random.key(0)))))


_FLOAT32 = [
  *(
    Member(f"special.{', '.join(names.split())}", _all_of(names), draw, _all(draw))
    for names, draw in (_UNARY | _TOGETHER).items()
    if hasattr(special, names.split()[0])
  ),
  *(
    Member(f"special.{name} in {letter}", getattr(special, name), draw, i)
    for name, (letters, draw) in _ONE_AT_A_TIME.items()
    for i, letter in enumerate(letters.split())
    if letter != "."
  ),
  *(
    Member(f"special.{name}", fun, draw, _all(draw))
    for name, (fun, draw) in _OTHERS.items()
    if hasattr(special, name.split()[0]) or " and " in name
  ),
]
# Most of these are series: see `is_x64`.
MEMBERS = [dataclasses.replace(member, is_x64=True) for member in _FLOAT32]
