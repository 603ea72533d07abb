"""Signals and images: `jax.scipy` but for its linear algebra, `jax.image`, segments and sparse."""

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
from jax.experimental import sparse
from jax.scipy.spatial.transform import Rotation, Slerp

from tests.kinks.corpus import Member, normal, uniform

_SIGNAL, _PAIR, _IMAGE = normal((16,)), normal((9,), (4,)), normal((4, 5))
_SEGMENTS = np.array([2, 0, 2, 1, 0, 2, 4], np.int32)


def _stft(x):
  return jsp.signal.stft(x, nperseg=8)[2]


_OF_SIGNAL = {
  "stft": _stft,
  "stft, its size": lambda x: jnp.log(1 + jnp.abs(_stft(x)) ** 2),
  "istft": lambda x: jsp.signal.istft(jax.nn.relu(_stft(x).real) + 1j * _stft(x), nperseg=8)[1],
  "welch": lambda x: jsp.signal.welch(x, nperseg=8)[1],
  "welch, median": lambda x: jsp.signal.welch(x, nperseg=8, average="median")[1],
  "csd": lambda x: jsp.signal.csd(x, jnp.abs(jnp.flip(x)), nperseg=8)[1],
  "detrend": lambda x: jsp.signal.detrend(x**2),
  "detrend by the mean": lambda x: jnp.abs(jsp.signal.detrend(x, type="constant")),
  "dct": lambda x: jsp.fft.dct(x) ** 2,
  "idct": lambda x: jsp.fft.idct(jnp.abs(x), norm="ortho"),
  "dctn": lambda x: jsp.fft.dctn(x.reshape(4, 4)) ** 2,
  "idctn": lambda x: jsp.fft.idctn(x.reshape(4, 4)) ** 2,
  "hann window of rfft": lambda x: jnp.abs(jnp.fft.rfft(x * jnp.hanning(16))) ** 2,
  "median filter": lambda x: jnp.median(jnp.stack([x[i : i + 12] for i in range(5)]), 0),
  "total variation": lambda x: jnp.sum(jnp.abs(jnp.diff(x))),
  "unwrap": lambda x: jnp.unwrap(4 * x),
}
_OF_PAIR = {
  **{
    f"convolve, {mode}": lambda x, y, mode=mode: jsp.signal.convolve(x, jnp.abs(y), mode)
    for mode in ("full", "same", "valid")
  },
  "correlate": lambda x, y: jsp.signal.correlate(x, y) ** 2,
  "fftconvolve": lambda x, y: jsp.signal.fftconvolve(x, y, "same") ** 2,
  "convolve2d": lambda x, y: jsp.signal.convolve2d(x.reshape(3, 3), y.reshape(2, 2), "same"),
  "correlate2d": lambda x, y: jsp.signal.correlate2d(x.reshape(3, 3), y.reshape(2, 2), "full"),
  "trapezoid": lambda x, y: jsp.integrate.trapezoid(jnp.abs(x), jnp.cumsum(jnp.exp(x))) * y,
  "interp": lambda x, y: jnp.interp(y, jnp.sort(x), x**2),
  "interp, periodic": lambda x, y: jnp.interp(y, jnp.sort(x), x**2, period=2.0),
}


def _moved(image, at, order, mode):
  places = jnp.stack([1 + 1.7 * at[:5], 2 + 2.1 * at[5:]])
  return jsp.ndimage.map_coordinates(image, places, order, mode, cval=0.3)


_MAPPED = {
  f"map_coordinates, {order}, {mode}": (
    lambda image, at, order=order, mode=mode: _moved(image, at, order, mode)
  )
  for order, modes in {
    0: ("constant", "wrap"),
    1: ("constant", "nearest", "wrap", "mirror", "reflect"),
  }.items()
  for mode in modes
}
_RESIZED = {
  **{
    f"resize, {method}": lambda x, method=method: jnp.abs(jax.image.resize(x, (7, 3), method))
    for method in ("nearest", "linear", "cubic", "lanczos3", "lanczos5")
  },
  "resize without antialias": lambda x: jax.image.resize(x, (2, 3), "linear", antialias=False) ** 2,
}


def _scaled(image, scale, shift, method="linear"):
  scale = jnp.exp(0.2 * scale)
  return jax.image.scale_and_translate(image, (6, 4), (0, 1), scale, shift, method)


_OVER_SEGMENTS = {
  f"segment_{name}": lambda x, name=name: getattr(jax.ops, f"segment_{name}")(
    x, _SEGMENTS, num_segments=3
  )
  for name in ("sum", "max", "min")
}
_OVER_SEGMENTS["segment_prod"] = lambda x: jax.ops.segment_prod(
  x, np.array([3, 0, 6, 1, 2, 5, 4], np.int32), num_segments=6, unique_indices=True
)
_OVER_SEGMENTS["softmax over segments"] = lambda x: (
  jnp.exp(x - jax.ops.segment_max(x, _SEGMENTS, 5)[_SEGMENTS])
  / jax.ops.segment_sum(jnp.exp(x), _SEGMENTS, 5)[_SEGMENTS]
)


def _grid(method):
  def interpolated(values, at):
    axes = (jnp.arange(4.0), jnp.array([0.0, 0.7, 1.5, 3.0, 4.0]))
    grid = jsp.interpolate.RegularGridInterpolator(axes, values, method)
    return grid(jnp.stack([1.5 + jnp.tanh(at[:5]), 2 + jnp.sin(at[5:])], -1)) ** 2

  return interpolated


def _rotation(x):
  return Rotation.from_quat(x)


_ROTATED = {  # of two unnormalized quaternions
  "as_matrix": lambda x: _rotation(x[0]).as_matrix(),
  "as_rotvec": lambda x: _rotation(x[0]).as_rotvec(),
  "as_euler": lambda x: _rotation(x[0]).as_euler("xyz"),
  "as_mrp": lambda x: _rotation(x[0]).as_mrp(),
  "from_matrix": lambda x: (
    Rotation.from_matrix(_rotation(x[0]).as_matrix()).as_quat()
  ),
  "from_rotvec": lambda x: Rotation.from_rotvec(x[0, :3]).apply(x[1, :3]),
  "product": lambda x: (_rotation(x[0]) * _rotation(x[1]).inv()).as_quat(canonical=True),
  "magnitude": lambda x: _rotation(x).magnitude(),
  "mean": lambda x: _rotation(x).mean().as_matrix(),
  "slerp": lambda x: Slerp.init(
    jnp.array([0.0, 1.0]), _rotation(jnp.abs(x))
  )(jnp.array([0.2, 0.7])).as_quat(),
}  # fmt: skip


def _quaternions(key):
  """Draws far from the angles at which a form of a rotation is singular."""
  (noise,) = uniform(-0.1, 0.1, (2, 4))(key)
  return (jnp.array([[0.5, -0.4, 0.3, 1.0], [0.2, 0.6, -0.5, 0.9]]) + noise,)


def _bcoo(data, x):
  where = np.array([[0, 1], [2, 0], [1, 1], [2, 3], [0, 2]], np.int32)
  return sparse.BCOO((data, where), shape=(3, 4))


_SPARSE = {
  "BCOO matvec": lambda data, x: _bcoo(data, x) @ x,
  "BCOO matmat": lambda data, x: _bcoo(data, x) @ jnp.outer(x, jnp.abs(x)),
  "BCOO todense": lambda data, x: jnp.abs(_bcoo(data, x).todense()) @ x,
  "BCOO sum and elementwise": lambda data, x: (_bcoo(data, x) * x).sum(1).todense(),
  "sparsified function": lambda data, x: sparse.sparsify(lambda m, v: m.T @ (m @ v))(
    _bcoo(data, x), x
  ),
}

MEMBERS = [
  *(Member(f"signal.{name}", fun, _SIGNAL) for name, fun in _OF_SIGNAL.items()),
  *(Member(f"signal.{name}", fun, _PAIR, (0, 1)) for name, fun in _OF_PAIR.items()),
  *(Member(f"ndimage.{name}", f, normal((4, 5), (10,)), (0, 1)) for name, f in _MAPPED.items()),
  *(Member(f"image.{name}", fun, _IMAGE) for name, fun in _RESIZED.items()),
  Member("image.scale_and_translate", _scaled, normal((4, 5), (2,), (2,)), (0, 1, 2)),
  *(Member(f"ops.{name}", fun, normal((7,))) for name, fun in _OVER_SEGMENTS.items()),
  *(
    Member(f"interpolate.{method}", _grid(method), normal((4, 5), (10,)), (0, 1))
    for method in ("linear", "nearest")
  ),
  *(Member(f"rotation.{name}", fun, _quaternions) for name, fun in _ROTATED.items()),
  Member(
    "cluster.vq", lambda x, y: jsp.cluster.vq.vq(x, y)[1], normal((6, 2), (3, 2)), (0, 1)
  ),
  *(Member(f"sparse.{name}", fun, normal((5,), (4,)), (0, 1)) for name, fun in _SPARSE.items()),
]  # fmt: skip
