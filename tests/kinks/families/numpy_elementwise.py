"""The elementwise functions of `jax.numpy` that have a derivative, smooth and with kinks."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.kinks.corpus import Member, normal, uniform

_VECTOR = normal((7,))
_COMPLEX = normal((5,), dtype=jnp.complex64)


def _away(*shapes):
  """Draws numbers of both signs, none near 0."""

  def draw(key):
    sizes = uniform(0.4, 2.6, *shapes)(key)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(shapes))
    return tuple(x * jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, sizes))

  return draw


def _mixed(*draws):
  """Draws each argument in its own way."""

  def draw(key):
    keys = jax.random.split(key, len(draws))
    return tuple(one(k)[0] for one, k in zip(draws, keys))

  return draw


def _each(names):
  """Gives the values of several functions at the same arguments."""
  functions = [getattr(jnp, name) for name in names.split()]
  return lambda *args: [function(*args) for function in functions]


# Smooth, and tested by group.
_SMOOTH = {
  "trigonometric": ("sin cos tan sinc", uniform(-1.2, 1.2, (7,))),
  "inverse trigonometric": ("arcsin arccos arctan asin acos atan", uniform(-0.8, 0.8, (7,))),
  "hyperbolic": ("sinh cosh tanh", _VECTOR),
  "arcsinh and arctanh": ("arcsinh arctanh asinh atanh", uniform(-0.8, 0.8, (7,))),
  "arccosh": ("arccosh acosh", uniform(1.3, 3.0, (7,))),
  "exponentials": ("exp exp2 expm1 i0", _VECTOR),
  "logarithms": ("log log2 log10 log1p", uniform(0.4, 2.6, (7,))),
  "powers": ("sqrt cbrt square reciprocal", uniform(0.4, 2.6, (7,))),
  "angles": ("deg2rad radians rad2deg degrees negative positive real conj", _VECTOR),
  "odd about 0": ("cbrt square reciprocal arctan arcsinh sinc", _away((7,))),
  "arithmetic": ("add subtract multiply divide true_divide hypot", _away((7,), (7,))),
  "power": ("power pow float_power", uniform(0.4, 2.6, (7,), (7,))),
  "complex exponentials": ("exp expm1 sin cos sinh cosh tanh square exp2", _COMPLEX),
  "complex parts": ("real imag conj conjugate negative positive", _COMPLEX),
}

# Several winners, or one whose value moves, of one vector.
_KINKS = {
  "abs": lambda x: _each("abs absolute fabs")(x),
  "sign and signbit": lambda x: (x * jnp.sign(x), x**2 * jnp.signbit(x)),
  "heaviside": lambda x: x * jnp.heaviside(x, 0.5),
  "floor, ceil and trunc": lambda x: [x * f(3 * x) for f in (jnp.floor, jnp.ceil, jnp.trunc)],
  "round, around and rint": lambda x: (
    x * jnp.round(x, 1),
    (x - jnp.around(x)) ** 2,
    (x - jnp.rint(x)) ** 2,
  ),
  "modf": jnp.modf,
  "frexp and ldexp": lambda x: (
    jnp.frexp(x),
    jnp.ldexp(x, np.arange(-3, 4)),
    jnp.ldexp(jnp.frexp(x)[0] ** 2, jnp.frexp(x)[1]),
  ),
  "nan_to_num": lambda x: (
    jnp.nan_to_num(jnp.where(x > 1, jnp.nan, x), nan=0.5) ** 2,
    x * jnp.nan_to_num(jnp.where(x > 0, jnp.inf, x), posinf=3.0),
  ),
  "isfinite": lambda x: jnp.where(jnp.isfinite(1 / jnp.maximum(x, 0)), x**2, -x),
  "sinc at 0": lambda x: jnp.sinc(x * (x > 0)),
  "unwrap": lambda x: (
    jnp.unwrap(4 * x),
    jnp.unwrap(500 * x, period=360, discont=200) ** 2 / 1e4,
  ),
  "casts to int and bool": lambda x: (
    x * (4 * x).astype(int),
    x**2 * (x > 0.3).astype(x.dtype) - x * jnp.asarray(x < 0, x.dtype),
  ),
  "logical_and": lambda x: jnp.where(jnp.logical_and(x > -0.5, x < 0.5), x**2, jnp.abs(x)),
  "piecewise": lambda x: jnp.piecewise(
    x, [x < -0.5, x > 0.5], [jnp.square, jnp.sin, lambda t: t**3]
  ),
  "select": lambda x: jnp.select([x < -0.5, x < 0, x > 1], [x, x**2, jnp.exp(x)], -x),
  "clip": lambda x: jnp.clip(x, -0.7, 0.4) ** 2,
  "where with two kinks": lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0) + 1), x),
  "vectorize": jnp.vectorize(lambda t: jnp.maximum(t, 0.2) * jnp.abs(t - 1)),
  "interp": lambda x: jnp.interp(x, np.linspace(-1, 1, 6), np.cos(np.arange(6.0))),
  "interp with a period": lambda x: jnp.interp(
    x, np.linspace(0, 0.8, 5), np.sin(np.arange(5.0)), period=1.0
  ),
}

# Of two vectors, both moving.
_BINARY_KINKS = {
  "maximum, minimum, fmax and fmin": lambda x, y: [
    (i + 1) * f(x, y) for i, f in enumerate((jnp.maximum, jnp.minimum, jnp.fmax, jnp.fmin))
  ],
  "fmax over a nan": lambda x, y: jnp.fmax(jnp.where(x > 0, x, jnp.nan), y),
  "where": lambda x, y: jnp.where(x > y, x * y, x**2 - y),
  "arctan2": jnp.arctan2,
  "logaddexp": jnp.logaddexp,
  "copysign": jnp.copysign,
  "mod, fmod and remainder": lambda x, y: _each("mod fmod remainder")(x, y),
  "divmod": lambda x, y: [q * x for q in jnp.divmod(x, y)],
  "floor_divide": lambda x, y: x * jnp.floor_divide(x, y),
  "heaviside in both": lambda x, y: jnp.heaviside(x, y) * x,
  "clip between": lambda x, y: jnp.clip(x * y, jnp.minimum(x, y), jnp.maximum(x, y)),
  "comparisons": lambda x, y: x * (x > y) + y * (x <= y) - x * y * jnp.not_equal(x, y),
  "nested maxima": lambda x, y: jnp.maximum(jnp.minimum(x, jnp.abs(y)), jnp.maximum(-x, y) - 1),
}

# Complex: the kinks are in the parts, or a cut.
_COMPLEX_KINKS = {
  "abs of complex": jnp.abs,
  "angle": lambda z: (jnp.angle(z), jnp.angle(z, deg=True) / 50),
  "sign of complex": lambda z: z * jnp.sign(z),
  "log and sqrt of complex": lambda z: (jnp.log(z), jnp.sqrt(z), 1 / z, z**1.5),
  "arcsinh and arctan of complex": lambda z: (jnp.arcsinh(z / 5), jnp.arctan(z / 5)),
  "relu of parts": lambda z: jnp.maximum(z.real, 0) + 1j * jnp.abs(z.imag),
  "nan_to_num of complex": lambda z: jnp.nan_to_num(jnp.where(z.real > 0, jnp.nan, z)) ** 2,
  "round of complex": lambda z: z * jnp.round(3 * z),
}


def _far(key):
  """Draws complex numbers away from 0 and from the cut of the negative half."""
  size, angle = uniform(0.5, 2.0, (5,), (5,))(key)
  turned = (angle - 1.25) * 3.2
  return (jax.lax.complex(size * jnp.cos(turned), size * jnp.sin(turned)),)


_SORTED = _mixed(_VECTOR, lambda key: (jnp.sort(uniform(-2, 2, (6,))(key)[0]),), normal((6,)))

MEMBERS = [
  *(
    Member(f"numpy.{name}", _each(names), draw, tuple(range(len(draw(jax.random.key(0))))))
    for name, (names, draw) in _SMOOTH.items()
  ),
  *(Member(f"numpy.{name}", fun, _VECTOR) for name, fun in _KINKS.items()),
  *(Member(f"numpy.{name}", fun, _away((7,), (7,)), (0, 1)) for name, fun in _BINARY_KINKS.items()),
  *(Member(f"numpy.{name}", fun, _far) for name, fun in _COMPLEX_KINKS.items()),
  Member(
    "numpy.power with integers", lambda x: (x**3, jnp.power(x, jnp.arange(-3, 4))), _away((7,))
  ),
  # JAX's rule holds ln 2 in the dtype of the program.
  Member("numpy.logaddexp2", jnp.logaddexp2, _away((7,), (7,)), (0, 1), is_x64=True),
  Member("numpy.power in the exponent", lambda x: jnp.power(1.7, x) + 2**x, _VECTOR),
  Member("numpy.interp in all", jnp.interp, _SORTED, (0, 1, 2)),
  Member(
    "numpy.interp beyond the ends",
    lambda x, left: jnp.interp(
      x, np.linspace(-0.5, 0.5, 4), np.arange(4.0) ** 2, left, "extrapolate"
    ),
    normal((7,), ()),
    (0, 1),
  ),
  Member(
    "numpy.maximum in bfloat16",
    lambda x, y: jnp.maximum(x, y) * jnp.abs(y),
    normal((7,), (7,), dtype=jnp.bfloat16),
    (0, 1),
  ),
  Member(
    "numpy.logaddexp in float16", jnp.logaddexp, normal((7,), (7,), dtype=jnp.float16), (0, 1)
  ),
  Member("numpy.where over a masked root", lambda x: jnp.where(x > 0, jnp.sqrt(x), x), _away((7,))),
]
