"""The reductions, order statistics, products, indexing and transforms of `jax.numpy`."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.kinks.corpus import Member, normal, uniform

_VECTOR = normal((9,))
_MATRIX = normal((4, 5))
_PAIR = normal((4, 5), (4, 5))
_MODES = ("edge", "reflect", "symmetric", "wrap", "linear_ramp", "maximum", "mean", "median")
_PATTERN = np.array([0, 3, 2, 2, 1])


def _each(names, **options):
  """Gives the values of several functions at the same arguments."""
  functions = [getattr(jnp, name) for name in names.split() if hasattr(jnp, name)]
  return lambda *args: [function(*args, **options) for function in functions]


def _holed(fun):
  """Makes some entries nan, and takes what ignores them."""
  return lambda x: fun(jnp.where(jnp.abs(x - 0.3) < 0.4, jnp.nan, x).at[0].set(x[0]))


def _scattered(x, y):
  at = x.at[_PATTERN % 4, _PATTERN]
  apart = x.at[np.array([2, 0, 3]), np.array([1, 1, 4])]
  first = (at.set(y), at.add(y, mode="drop"), at.max(y), at.min(y), at.get() * y)
  times = (f(2 + y[:3] ** 2, unique_indices=True) for f in (apart.multiply, apart.divide))
  return (*first, *times, apart.power(2.0))


_REDUCTIONS = {
  "max and min": _each("max min amax amin ptp nanmax nanmin", axis=0),
  "sum, mean and prod": _each("sum mean prod nansum nanmean nanprod", axis=1),
  "max of some": lambda x: jnp.max(x, axis=1, initial=0.4, where=x < 1),
  "sum, mean and var of some": lambda x: [
    f(x, axis=0, where=x > jnp.min(x, axis=0)) for f in (jnp.sum, jnp.mean, jnp.var, jnp.prod)
  ],
  "var and std": _each("var std nanvar nanstd", axis=0, ddof=1),
  "average": lambda x: jnp.average(x, axis=1, weights=1 + x**2, returned=True),
  "cov and corrcoef": _each("cov corrcoef"),
  "argmax and gather": lambda x: jnp.take_along_axis(
    x**2, jnp.argmax(x, axis=1, keepdims=True), axis=1
  ),
  "argmin and nanargmax": lambda x: x[jnp.argmin(x, 0), np.arange(5)] * jnp.nanargmax(x, 0),
  "cumsum and cumprod": _each("cumsum cumprod nancumsum nancumprod", axis=1),
  "cumulative_sum": _each("cumulative_sum cumulative_prod", axis=1, include_initial=True),
  "ufuncs accumulated": lambda x: (
    jnp.add.accumulate(x),
    jnp.multiply.reduce(x),
    jnp.maximum.outer(x[0], x[1]),
  ),
  "count_nonzero, any and all": lambda x: (
    x * jnp.count_nonzero(x > 0, axis=0)
    + jnp.where(jnp.any(x > 1, axis=0), x, x**2)
    + jnp.where(jnp.all(x > -1, axis=0), x, -x)
  ),
  "apply_along_axis": lambda x: jnp.apply_along_axis(lambda r: jnp.sort(r) * jnp.max(r), 1, x),
  "linalg norms": lambda x: [jnp.linalg.norm(x, order, axis=1) for order in (None, 1, 3, np.inf)],
}

_ORDERS = {
  "sort": jnp.sort,
  "sort downwards": lambda x: jnp.sort(x, descending=True, stable=False),
  "argsort and gather": lambda x: x[jnp.argsort(x)] * np.arange(9) + x[jnp.argsort(-(x**2))] ** 2,
  "partition": lambda x: jnp.partition(x, 4)[4] + x[jnp.argpartition(x, 2)[:2]].sum(),
  "lexsort": lambda x: x[jnp.lexsort((x, jnp.round(x)))] * np.arange(9),
  "median": _each("median nanmedian"),
  "quantile": lambda x: [
    jnp.quantile(x, np.array([0.125, 0.5, 0.90625]), method=method)
    for method in ("linear", "lower", "higher", "nearest", "midpoint")
  ],
  "percentile": _each("percentile nanpercentile", q=np.array([31.25, 78.125])),
  "nan reductions": _holed(
    _each("nanmax nanmin nanmean nansum nanprod nanstd nanvar nancumsum nanmedian")
  ),
  "nanquantile": _holed(lambda x: jnp.nanquantile(x, 0.4)),
  "unique": lambda x: jnp.unique(jnp.round(x * 2) / 2 + 0 * x, size=9) * x,
  "top_k": lambda x: jax.lax.top_k(x, 3),
  "searchsorted": lambda x: x**2 * jnp.searchsorted(jnp.sort(x), x[::-1] / 2),
  "digitize": lambda x: jnp.cos(np.arange(5.0))[jnp.digitize(x, np.linspace(-1, 1, 4))] * x,
  "bincount": lambda x: jnp.bincount((x > 0).astype(int), weights=x**2, length=2),
  "histogram": lambda x: jnp.histogram(x, bins=4, weights=x**2, density=True),
  "histogram2d": lambda x: jnp.histogram2d(x, x[::-1], bins=2, weights=x**3)[0],
}

_PRODUCTS = {
  "einsum": lambda x, y: (jnp.einsum("ij,kj->ik", x, y), jnp.einsum("ij,ij->", x, y)),
  "tensordot": lambda x, y: (jnp.tensordot(x, y, axes=([0], [0])), jnp.kron(x[:2], y[:2, :2])),
  "matmul": lambda x, y: (x @ y.T, jnp.matvec(x, y[0]), jnp.vecmat(x[:, 0], y)),
  "dot, vdot and inner": lambda x, y: (jnp.dot(x, y.T), jnp.vdot(x, y), jnp.inner(x, y)),
  "outer and vecdot": lambda x, y: (jnp.outer(x[0], y[0]), jnp.vecdot(x, y)),
  "cross": lambda x, y: (jnp.cross(x[:, :3], y[:, :3]), jnp.cross(x[0, :3], y[1, :3])),
  "convolve and correlate": lambda x, y: [
    f(x[0], y[1, :3], mode=mode)
    for f in (jnp.convolve, jnp.correlate)
    for mode in ("full", "same", "valid")
  ],
  "trapezoid": lambda x, y: (jnp.trapezoid(x, y, axis=1), jnp.trapezoid(x, dx=0.3)),
  "cov of two": lambda x, y: jnp.cov(x[0], y[0], aweights=jnp.abs(y[1])),
  "at[]": lambda x, y: _scattered(x, y[1]),
  "choose": lambda x, y: jnp.choose(_PATTERN % 2, [x, y], mode="clip"),
  "where and select_n": lambda x, y: jax.lax.select_n((x > 0).astype(int), y, x * y),
  "append, insert and delete": lambda x, y: (
    jnp.append(x, y),
    jnp.insert(x, 1, y[0], axis=0),
    jnp.delete(x * y, 2, axis=1),
  ),
  "stacks": lambda x, y: _each("hstack vstack dstack column_stack concatenate stack block")([x, y]),
  "poly": lambda x, y: (
    jnp.polyval(x[0], y[0]),
    jnp.polymul(x[0], y[0]),
    jnp.polyadd(x[0], y[0, :3]),
    jnp.polysub(x[0], y[0]),
    jnp.polydiv(x[0], jnp.append(1.0, y[0, :2])),
    jnp.poly(x[0, :4]),
    jnp.polyder(x[0]),
    jnp.polyint(y[0], 2),
  ),
  "polyfit": lambda x, y: jnp.polyfit(x[0], y[0], 2),
  "put": lambda x, y: (
    jnp.put(x, np.array([3, 11]), y[0, :2], inplace=False),
    jnp.put_along_axis(x, np.array([[1], [0], [3], [2]]), y[:, :1], axis=1, inplace=False),
    jnp.fill_diagonal(x, y[0], inplace=False),
    jnp.place(x, x > 0, y[0], inplace=False),
  ),
}

_ARRANGED = {
  "diff": lambda x: (jnp.diff(x, n=2, axis=1), jnp.ediff1d(x), jnp.diff(x, prepend=0, axis=0)),
  "gradient": lambda x: (jnp.gradient(x), jnp.gradient(x**2, 0.3, axis=1)),
  "roll, flip and rot90": lambda x: (jnp.roll(x, 2), *_each("flip fliplr flipud rot90")(x)),
  "take": lambda x: (
    jnp.take(x, _PATTERN, axis=1),
    x[_PATTERN, 1:4],
    jnp.take(x, np.array([7, -1]), mode="wrap"),
    jnp.take(x, np.array([40, 2]), mode="clip"),
    jnp.compress(np.array([True, False]), x, axis=0, size=1),
  ),
  "indexed by what moves": lambda x: x[(jnp.abs(x[0]) * 3).astype(int) % 4, _PATTERN] ** 2,
  "dynamic_slice": lambda x: jax.lax.dynamic_slice(x, (jnp.argmax(x[:, 0]), 1), (2, 3)) ** 2,
  "tril, triu and diag": lambda x: (
    *_each("tril triu diag diagonal trace")(x),
    jnp.diagflat(x[0]),
    x[jnp.tril_indices(4)],
  ),
  "shapes": lambda x: (
    jnp.reshape(x, (2, 10)),
    jnp.moveaxis(x, 0, 1),
    jnp.tile(x, (2, 1)),
    jnp.repeat(x, 2, axis=0),
    jnp.split(x, 2),
    jnp.broadcast_to(x, (2, 4, 5)),
    jnp.resize(x, (3, 9)),
    jnp.squeeze(x[None]),
    jnp.vander(x[0], 3),
    jnp.ravel(x, order="F"),
    jnp.meshgrid(x[0], x[1]),
    jnp.unstack(x),
  ),
  "linspace": lambda x: (
    jnp.linspace(x[0, 0], x[1, 1], 5),
    jnp.logspace(x[0, 0], x[0, 1], 3),
    jnp.geomspace(1 + x[0, 2] ** 2, 5 + x[0, 3] ** 2, 4),
  ),
  "pad": lambda x: (
    [jnp.pad(x, 1, constant_values=0.3)]
    + [jnp.pad(x, ((1, 2), (2, 1)), mode=mode) ** 2 for mode in _MODES]
  ),
  "nonzero": lambda x: x[jnp.nonzero(x > 0, size=6, fill_value=0)] ** 2,
  "extract": lambda x: (
    jnp.extract(x > 0, x, size=6, fill_value=1.5),
    jnp.flatnonzero(x > 0.4, size=3) * x[0, 0],
  ),
  "roots": lambda x: jnp.abs(jnp.roots(jnp.append(1.0, x[0, :4]), strip_zeros=False)),
  "reduced by maximum over windows": lambda x: jax.lax.reduce_window(
    x, -jnp.inf, jax.lax.max, (2, 2), (1, 2), "SAME"
  ),
}

_REAL_FFT = {
  "rfft": lambda x: (jnp.fft.rfft(x, norm="ortho"), jnp.fft.rfft2(x), jnp.fft.rfftn(x, axes=(0,))),
  "ihfft": lambda x: (jnp.fft.ihfft(x), jnp.abs(jnp.fft.fft(x, n=7))),
  "fftshift": lambda x: (jnp.fft.fftshift(x), jnp.fft.ifftshift(x, axes=1)),
  "angle of rfft": lambda x: jnp.angle(jnp.fft.rfft(x)[..., 1:]),
}
_COMPLEX_FFT = {
  "fft": lambda z: (jnp.fft.fft(z), jnp.fft.fft2(z), jnp.fft.fftn(z, norm="forward")),
  "ifft": lambda z: (jnp.fft.ifft(z, n=8), jnp.fft.ifft2(z), jnp.fft.ifftn(z, axes=(0,))),
  "irfft": lambda z: (jnp.fft.irfft(z), jnp.fft.irfft2(z), jnp.fft.irfftn(z, s=(3, 5))),
  "hfft": lambda z: jnp.fft.hfft(z, n=6),
  "sort of complex": lambda z: (jnp.sort(z, axis=1), jnp.sort_complex(z)),
  "max of complex": lambda z: (jnp.max(z, axis=0), jnp.sum(z, 1), jnp.prod(z, 1), jnp.var(z)),
}


def _of(table, draw, argnums=0):
  return [Member(f"numpy.{name}", fun, draw, argnums) for name, fun in table.items()]


MEMBERS = [
  *_of(_REDUCTIONS, _MATRIX),
  *_of(_ORDERS, _VECTOR),
  *_of(_PRODUCTS, _PAIR, (0, 1)),
  *_of(_ARRANGED, _MATRIX),
  *_of(_REAL_FFT, _MATRIX),
  *_of(_COMPLEX_FFT, normal((3, 5), dtype=jnp.complex64)),
  Member("numpy.quantile in both", jnp.quantile, uniform(0.05, 0.95, (9,), (3,)), (0, 1)),
  Member("numpy.average in both", jnp.average, lambda key: (*_MATRIX(key), None)),
]
