"""The parts of `jax.lax` that have a derivative, elementwise to convolutions and scatters."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.kinks.corpus import Member, normal

_VECTOR, _MATRIX, _IMAGE = normal((7,)), normal((4, 5)), normal((1, 6, 7, 2))
_PAIR, _TRIPLE = normal((7,), (7,)), normal((3, 4), (3, 4), (3, 4))
_CONVOLVED = normal((2, 7, 6, 4), (3, 2, 4, 6))
_NHWC = ("NHWC", "HWIO", "NHWC")


def _full(x, value):
  return lax.full_like(x, value)


def _bits(x, y):  # y does not move
  return x * (lax.bitcast_convert_type(y, jnp.int32) & 7).astype(x.dtype)


_ELEMENTWISE = {
  "max": lambda x: lax.max(x, _full(x, 0.3)),
  "min": lambda x: lax.min(jnp.sin(x), jnp.cos(x)),
  "clamp": lambda x: lax.clamp(-0.5, x, 0.8),
  "clamp by active bounds": lambda x: lax.clamp(jnp.sin(x) - 0.5, jnp.flip(x), jnp.sin(x) + 0.7),
  "abs": lax.abs,
  "sign": lambda x: x**2 * lax.sign(x - 0.1),
  "floor": lambda x: x * lax.floor(3 * x),
  "ceil": lambda x: x * lax.ceil(3 * x),
  "round": lambda x: 3 * x - lax.round(3 * x),
  "round to even": lambda x: x * lax.round(3 * x, lax.RoundingMethod.TO_NEAREST_EVEN),
  "rem": lambda x: lax.rem(3 * x, _full(x, 0.7)),
  "rem by active": lambda x: lax.rem(5 * x, 2 + jnp.sin(jnp.flip(x))),
  "select": lambda x: lax.select(x > 0.2, x**2, jnp.exp(x)),
  "select_n of four": lambda x: lax.select_n(
    jnp.floor(jnp.abs(x)).astype(jnp.int32) % 4, x, x**2, jnp.sin(x), jnp.exp(x)
  ),
  "is_finite": lambda x: lax.select(lax.is_finite(1e30 * jnp.exp(20 * x)), x**2, -x),
  "reduce_precision": lambda x: lax.reduce_precision(jnp.sin(x), 8, 7),
  "convert_element_type": lambda x: x * lax.convert_element_type(4 * x, jnp.int32),
  "integer_pow": lambda x: lax.integer_pow(x, 3) + lax.integer_pow(x, 2),
  "expand_dims and squeeze": lambda x: lax.squeeze(lax.expand_dims(x**2, [1]), [1]),
  "argmax": lambda x: (lax.argmax(x, 0, jnp.int32), x[lax.argmin(x, 0, jnp.int32)] ** 2),
  "sort": lambda x: lax.sort(x) * jnp.arange(7.0),
  "top_k": lambda x: lax.top_k(x**2, 3),
  "approx_max_k": lambda x: lax.approx_max_k(jnp.sin(x), 3),
  "approx_min_k": lambda x: lax.approx_min_k(jnp.sin(x), 3),
  "dynamic_slice": lambda x: lax.dynamic_slice(x, [jnp.argmax(x) // 2], [3]) ** 2,
  "dynamic_update_slice": lambda x: lax.dynamic_update_slice(x, x[:2] ** 2, [jnp.argmin(x) // 2]),
  "pad": lambda x: lax.pad(x, jnp.sin(x[0]), [(-1, 2, 1)]) ** 2,
  "rev": lambda x: x * lax.rev(jnp.abs(x), [0]),
  "stop_gradient": lambda x: x * lax.stop_gradient(x),
  "reduce_and": lambda x: x * (1 + lax.reduce_and(x > -1.0, [0])),
}
_BINARY = {
  "max of two": lax.max,
  "select_n of two": lambda x, y: lax.select_n(x < y, x**2, x * y),
  "atan2": lambda x, y: lax.atan2(2 + jnp.abs(x), y),
  "pow": lambda x, y: lax.pow(1 + jnp.abs(x), y),
  "sort with keys": lambda x, y: lax.sort((jnp.round(x), x * y, y), num_keys=2),
  "argsort": lambda x, y: y[lax.sort((x, lax.iota(jnp.int32, 7)), num_keys=1)[1]] * x,
  "complex": lambda x, y: jnp.abs(lax.complex(x, y)) + lax.real(lax.complex(x, y) ** 2),
}
_REDUCTIONS = {
  "reduce": lambda x: lax.reduce(x, jnp.float32(0), lambda a, b: a + b + a * b, [0]),
  "reduce with a kink": lambda x: lax.reduce(
    x, jnp.float32(0), lambda a, b: jnp.where(jnp.abs(a) > jnp.abs(b), a, b), [1]
  ),
  "reduce of two": lambda x: lax.reduce(
    (x, jnp.exp(x)),
    (jnp.float32(-9), jnp.float32(0)),
    lambda a, b: tuple(lax.select(a[0] > b[0], p, q) for p, q in zip(a, b)),
    [1],
  ),
  "reduce_max": lambda x: lax.reduce_max(x, [0]) ** 2,
  "reduce_min": lambda x: lax.reduce_min(x, [0, 1]) ** 3,
  "reduce_prod": lambda x: lax.reduce_prod(x, [1]),
  "reduce_sum": lambda x: lax.reduce_sum(jnp.abs(x), [0]),
  "cummax": lambda x: lax.cummax(x, 1) ** 2,
  "cummin": lambda x: lax.cummin(x, 0, reverse=True) ** 2,
  "cumsum": lambda x: jnp.abs(lax.cumsum(x, 1)),
  "cumprod": lambda x: lax.cumprod(x, 0, reverse=True),
  "cumlogsumexp": lambda x: lax.cumlogsumexp(x, 1),
  "batched top_k": lambda x: lax.top_k(x, 2)[0] ** 2,
  "transpose and reshape": lambda x: jnp.abs(lax.reshape(lax.transpose(x, [1, 0]), [2, 10])),
  "gather": lambda x: x[jnp.array([3, 0, 3]), jnp.array([1, 4, 2])] ** 2,
  "gather, clipped": lambda x: x.at[jnp.array([3, 0, 7])].get(mode="clip") ** 2,
  "gather with fill": lambda x: x.at[jnp.array([3, 0, 7])].get(mode="fill", fill_value=0.5) ** 2,
  "gather at an active place": lambda x: jnp.take_along_axis(x, jnp.argsort(-x), 1) ** 2,
  "linalg-free dot": lambda x: lax.dot(x, jnp.abs(x).T),
}
_PLACES = np.array([2, 0, 1], np.int32)
_SCATTERS = {
  name: lambda x, y, z, name=name: getattr(x.at[jnp.array([2, 0, 2])], name)(y) * z
  for name in ("add", "subtract", "min", "max")
} | {
  "multiply": lambda x, y, z: x.at[_PLACES].multiply(y, unique_indices=True) * z,
  "set": lambda x, y, z: x.at[_PLACES].set(y) * z,
  "divide": lambda x, y, z: x.at[_PLACES].divide(2 + jnp.sin(y), unique_indices=True) * z,
  "power": lambda x, y, z: jnp.exp(x).at[_PLACES].power(2, unique_indices=True) * z,
  "dropped": lambda x, y, z: x.at[jnp.array([1, 8, 0])].max(y, mode="drop") * z,
}


def _window(x, start, computation, padding="VALID", strides=(1, 2, 1, 1), size=3, **dilation):
  return lax.reduce_window(x, start, computation, (1, size, 2, 1), strides, padding, **dilation)


def _average(x):
  ones = _window(jnp.ones_like(x), 0.0, lax.add, "SAME")
  return _window(x, 0.0, lax.add, "SAME") / ones


_WINDOWS = {
  "max": lambda x: _window(x, -jnp.inf, lax.max) ** 2,
  "max, padded": lambda x: _window(x, -jnp.inf, lax.max, "SAME"),
  "max, base dilated": lambda x: _window(
    x, -jnp.inf, lax.max, [(0, 0), (1, 2), (0, 1), (0, 0)], size=4, base_dilation=(1, 2, 1, 1)
  ),
  "min": lambda x: _window(x, jnp.inf, lax.min, "SAME") ** 2,
  "add": lambda x: _window(x, 0.0, lax.add, "SAME", window_dilation=(1, 1, 2, 1)) ** 2,
  "average pooling": lambda x: _average(x) ** 2,
  "gradient of max-pooling": jax.grad(lambda x: jnp.sum(_window(x, -jnp.inf, lax.max) ** 3)),
  "gradient of padded min-pooling": jax.grad(
    lambda x: jnp.sum(_window(x, jnp.inf, lax.min, "SAME") ** 3)
  ),
  "tangent of max-pooling": lambda x: jax.jvp(
    lambda x: _window(x, -jnp.inf, lax.max), (x,), (jnp.sin(x),)
  )[1],
}
_FORWARD_WINDOWS = {  # JAX has no transpose of these
  "max, dilated": lambda x: _window(x, -jnp.inf, lax.max, window_dilation=(1, 2, 1, 1)),
  "computation": lambda x: _window(x, jnp.float32(0), lambda a, b: a + b + a * b),
}


def _convolution(x, w, strides=(1, 1), padding="VALID", **how):
  return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=_NHWC, **how)


_CONVOLUTIONS = {
  "strided": lambda x, w: _convolution(x, w, (2, 1), "SAME"),
  "dilated": lambda x, w: _convolution(
    x, w, padding=[(0, 1), (1, 0)], lhs_dilation=(1, 2), rhs_dilation=(2, 1)
  ),
  "negatively padded": lambda x, w: _convolution(x, w, padding=[(-1, 2), (1, -1)]),
  "grouped": lambda x, w: _convolution(x, w[:, :, :2], feature_group_count=2),
  "batch-grouped": lambda x, w: _convolution(x, w, batch_group_count=2),
  "transposed": lambda x, w: lax.conv_transpose(
    x, w, (2, 2), "SAME", rhs_dilation=(1, 2), dimension_numbers=_NHWC
  ),
  "patches": lambda x, w: jnp.max(
    lax.conv_general_dilated_patches(x, (2, 3), (2, 1), "SAME", dimension_numbers=_NHWC), -1
  ) * jnp.sum(w),
  "local": lambda x, w: lax.conv_general_dilated_local(
    x[:, :, 0, :1], jnp.transpose(w[0], (2, 0, 1)), (1,), "VALID", (2,),
    dimension_numbers=("NHC", "HIO", "NHC"),
  ),
  "with relu, 16 bits": lambda x, w: jax.nn.relu(
    _convolution(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
  ),
}  # fmt: skip
_PRODUCTS = {
  "dot_general": lambda x, y: lax.dot_general(x, y, (([2], [1]), ([0], [0]))),
  "dot_general, two batches": lambda x, y: lax.dot_general(
    x, jnp.swapaxes(y, 1, 2), (([], []), ([0, 2], [0, 2]))
  ),
  "dot_general, 16 bits": lambda x, y: lax.dot_general(
    x.astype(jnp.bfloat16), y.astype(jnp.bfloat16), (([2], [1]), ([0], [0])),
    preferred_element_type=jnp.float32,
  ),
  "ragged_dot": lambda x, y: lax.ragged_dot(x[0], y, jnp.array([1, 2])),
  "batch_matmul": lambda x, y: lax.batch_matmul(jnp.abs(x), y),
}  # fmt: skip
_COMPLEX = {
  "real and imag": lambda z: lax.real(z) * lax.imag(z) ** 2,
  "conj": lambda z: lax.conj(z) * z**2,
  "abs of complex": lax.abs,
  "fft": lambda z: jnp.fft.fft(z) ** 2,
  "ifft and angle": lambda z: jnp.angle(jnp.fft.ifft(z) + 2),
  "rfft": lambda z: jnp.abs(jnp.fft.rfft(z.real)) + jnp.fft.irfft(z)[0],
  "fft2": lambda z: jnp.fft.fft2(jnp.outer(z, z.real[:3])),
  "exp and log": lambda z: lax.log(2 + lax.exp(z)),
  "sqrt": lambda z: lax.sqrt(4 + z**2),
  "select of complex": lambda z: jnp.where(z.real > z.imag, z**2, lax.conj(z)),
}

MEMBERS = [
  *(Member(f"lax.{name}", fun, _VECTOR) for name, fun in _ELEMENTWISE.items()),
  *(Member(f"lax.{name}", fun, _PAIR, (0, 1)) for name, fun in _BINARY.items()),
  Member("lax.bitcast of inactive", _bits, _PAIR),
  *(Member(f"lax.{name}", fun, _MATRIX) for name, fun in _REDUCTIONS.items()),
  *(Member(f"lax.scatter {name}", fun, _TRIPLE, (0, 1, 2)) for name, fun in _SCATTERS.items()),
  *(Member(f"lax.reduce_window {name}", fun, _IMAGE) for name, fun in _WINDOWS.items()),
  *(
    Member(f"lax.reduce_window {name}", fun, _IMAGE, is_forward=True)
    for name, fun in _FORWARD_WINDOWS.items()
  ),
  *(Member(f"lax.conv {name}", fun, _CONVOLVED, (0, 1)) for name, fun in _CONVOLUTIONS.items()),
  *(
    Member(f"lax.{name}", fun, normal((2, 3, 4), (2, 4, 3)), (0, 1))
    for name, fun in _PRODUCTS.items()
  ),
  *(
    Member(f"lax.{name}", fun, normal((6,), dtype=jnp.complex64)) for name, fun in _COMPLEX.items()
  ),
]
