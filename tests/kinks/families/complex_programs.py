"""Programs in complex64: holomorphic and real functions of complex numbers, models, and circuits.

JAX's derivative of a real function is the one that pairs with a direction by a product without a
conjugate. Arguments keep away from 0 and from the branch cut on the negative axis.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from tests.kinks.corpus import Member, normal, uniform


def _right(*shapes):
  """Draws numbers of a radius of 0.5 to 2, within 2 of the positive axis in angle."""
  polar = uniform(0.0, 1.0, *[(2, *shape) for shape in shapes])

  def draw(key):
    return tuple(
      ((0.5 + 1.5 * r) * jnp.exp(1j * (4 * a - 2))).astype(jnp.complex64) for r, a in polar(key)
    )

  return draw


_FUNCTIONS = {
  "abs": jnp.abs,
  "square of abs": lambda z: jnp.real(z * jnp.conj(z)),
  "angle": jnp.angle,
  "real and imag": lambda z: (z.real**2, jnp.imag(z) * z.real),
  "conj": lambda z: z**2 * jnp.conj(z),
  "sqrt": jnp.sqrt,
  "rsqrt": lambda z: lax.rsqrt(z),
  "cbrt by power": lambda z: z ** (1 / 3),
  "log": jnp.log,
  "log1p": jnp.log1p,
  "exp": jnp.exp,
  "expm1": jnp.expm1,
  "integer power": lambda z: z**3 + z**-2,
  "power of complex": lambda z: z ** (0.3 - 0.7j) + (1.2 + 0.4j) ** z,
  "trigonometric": lambda z: (jnp.sin(z), jnp.cos(z), jnp.tan(z / 2)),
  "hyperbolic": lambda z: (jnp.sinh(z), jnp.cosh(z), jnp.tanh(z / 3)),
  "inverse trigonometric": lambda z: (jnp.arctan(z / 4), jnp.arcsin(z / 4), jnp.arccos(z / 4)),
  "inverse hyperbolic": lambda z: (jnp.arctanh(z / 4), jnp.arcsinh(z / 4), jnp.arccosh(z + 3)),
  "moebius": lambda z: (2 * z - 1j) / (z + 3),
  "reciprocal": lambda z: 1 / z,
  "sign": jnp.sign,
  "logistic": nn.sigmoid,
  "polynomial": lambda z: jnp.polyval(jnp.array([1, 2j, -0.5 + 1j]), z),
  "prod and cumprod": lambda z: (jnp.prod(z), jnp.cumprod(z), jnp.cumsum(z)),
  "norm": lambda z: jnp.linalg.norm(z) + jnp.linalg.norm(z, 1) + jnp.linalg.norm(z, jnp.inf),
  "standard deviation": lambda z: jnp.std(z) + jnp.var(z),
  "vdot": lambda z: (jnp.vdot(z, z[::-1]), jnp.vdot(z, 1j * z)),
  "select by a real part": lambda z: jnp.where(z.real > 0.6, z**2, 1j * jnp.conj(z)),
  "sort by abs": lambda z: z[jnp.argsort(jnp.abs(z))] * np.arange(6),
  "sort": lambda z: jnp.sort(z) * np.arange(6),
  "modulus relu": lambda z: nn.relu(jnp.abs(z) - 0.9) * z / jnp.abs(z),
  "polar": lambda z: jnp.abs(z) ** 1.5 * jnp.exp(2j * jnp.angle(z)),
  "unwrapped phase": lambda z: jnp.unwrap(3 * jnp.angle(z)),
}
if jax.__version_info__ < (0, 12):  # later ones do not differentiate a maximum of complex numbers
  _FUNCTIONS["maximum"] = lambda z: jnp.max(z) + jnp.maximum(z, z[::-1])
_FREQUENCIES = np.fft.fftfreq(6)


def _filter(z):
  return jnp.fft.ifft(jnp.fft.fft(z) * jnp.exp(-30 * _FREQUENCIES**2)).real


def _threshold(z):
  """Keeps the strong frequencies."""
  spectrum = jnp.fft.fft2(z.reshape(2, 3))
  return jnp.fft.ifft2(jnp.where(jnp.abs(spectrum) > 2, spectrum, 0))


def _power_spectrum(x):
  spectrum = jnp.fft.rfft(x * np.hanning(8))
  return jnp.log(jnp.abs(spectrum) ** 2 + 0.1), jnp.argmax(jnp.abs(spectrum))


def _convolution(x):
  return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(jnp.tanh(x)), 8)


def _spectrogram(x):
  return jnp.abs(jnp.fft.rfft(jnp.stack([x[i : i + 4] for i in (0, 2, 4)]))) ** 0.8


def _analytic_signal(x):
  spectrum = jnp.fft.fft(x) * np.array([1, 2, 2, 2, 1, 0, 0, 0])
  signal = jnp.fft.ifft(spectrum)
  return jnp.abs(signal), jnp.cos(jnp.angle(signal))


def _fourier_layer(w, x):
  spectrum = jnp.fft.rfft(x)
  return nn.gelu(jnp.fft.irfft(jnp.zeros(5, w.dtype).at[:3].set(w * spectrum[:3]), 8) + x)


def _mandelbrot(c):
  """Iterates until escape, and keeps the last point within."""

  def step(state, _):
    z, count = state
    new = z**2 + c
    is_in = jnp.abs(new) < 2
    return (jnp.where(is_in, new, z), count + is_in), None

  (z, count), _ = lax.scan(step, (jnp.zeros_like(c), jnp.zeros(6, int)), length=5)
  return z, count


def _escape(c):
  """Iterates the slowest until escape, by a `while`."""
  z, _ = lax.while_loop(
    lambda s: (jnp.max(jnp.abs(s[0])) < 4) & (s[1] < 6), lambda s: (s[0] ** 2 + c, s[1] + 1), (c, 0)
  )
  return jnp.abs(z)


def _newton(z):
  for _ in range(2):
    z = z - (z**3 - 1) / (3 * z**2)
  return z


def _mlp(p, z):
  hidden = z @ p["w"] + p["b"]
  hidden = nn.relu(hidden.real) + 1j * nn.relu(hidden.imag)
  return jnp.mean(jnp.abs(hidden @ p["u"]) ** 2)


def _modulus_mlp(p, z):
  hidden = z @ p["w"]
  radius = jnp.abs(hidden)
  hidden = nn.relu(radius + p["b"].real) * hidden / (radius + 0.1)
  return -jnp.mean(nn.log_softmax(jnp.abs(hidden @ p["u"]))[:, 0])


def _hermitian(p, z):
  h = p["w"] @ jnp.conj(p["w"]).T + jnp.eye(3)
  factor = jnp.linalg.cholesky(h)
  return jnp.linalg.slogdet(h)[1], jnp.linalg.solve(h, z.T), jnp.linalg.eigvalsh(h), factor


def _unitary_rnn(p, z):
  """A recurrent net whose step is a reflection and a phase."""
  v = p["u"][:, 0]
  v = v / jnp.linalg.norm(v)

  def step(h, a):
    h = h * jnp.exp(1j * p["b"].real)
    h = h - 2 * v * jnp.vdot(v, h) + a @ p["w"]
    radius = jnp.abs(h)
    h = h * nn.relu(radius - 0.1) / radius
    return h, jnp.abs(h).max()

  return lax.scan(step, jnp.ones(4, z.dtype), z)


def _gate(kind, angle):
  c, s = jnp.cos(angle / 2) + 0j, jnp.sin(angle / 2) + 0j
  if kind == "x":
    return jnp.array([[c, -1j * s], [-1j * s, c]])
  return jnp.array([[jnp.exp(-0.5j * angle), 0], [0, jnp.exp(0.5j * angle)]])


def _circuit(angles):
  """Three qubits, turned and entangled; the energy and the most probable outcome."""
  state = jnp.zeros((2, 2, 2), jnp.complex64).at[0, 0, 0].set(1)
  for layer in angles:
    for qubit in range(3):
      gate = _gate("z", layer[1, qubit]) @ _gate("x", layer[0, qubit])
      state = jnp.moveaxis(jnp.tensordot(gate, state, (1, qubit)), 0, qubit)
    state = state.at[1].set(state[1, ::-1])  # a controlled negation
  probabilities = jnp.abs(state.reshape(-1)) ** 2
  return probabilities @ np.cos(np.arange(8.0)), jnp.argmax(probabilities)


def _evolution(angles):
  """The propagator of a Hamiltonian by a matrix exponential."""
  real = angles.reshape(-1)[:9].reshape(3, 3) * 0.3
  h = real + real.T + 1j * (real - real.T)
  return jnp.abs(jax.scipy.linalg.expm(-1j * h)[0]) ** 2


def _parameters(key):
  shapes = {"w": (3, 4), "b": (4,), "u": (4, 2)}
  drawn = normal(*shapes.values(), (5, 3), dtype=jnp.complex64)(key)
  return dict(zip(shapes, drawn, strict=False)), drawn[-1]


_OF_REAL = {
  "power spectrum": _power_spectrum,
  "convolution by fft": _convolution,
  "spectrogram": _spectrogram,
  "analytic signal": _analytic_signal,
}
_OF_COMPLEX = {
  "fft filter": _filter,
  "fft threshold": _threshold,
  "newton's fractal": _newton,
  "holomorphic gradient within": lambda z: jax.vmap(jax.grad(_polynomial, holomorphic=True))(z),
  "gradient of a real loss within": lambda z: jax.grad(lambda a: jnp.sum(jnp.abs(a) ** 3))(z),
  "jvp within": lambda z: jax.jvp(jnp.exp, (z,), (jnp.conj(z),))[1],
}
_OF_PARAMETERS = {
  "mlp": _mlp,
  "modulus mlp": _modulus_mlp,
  "hermitian matrix": _hermitian,
  "unitary rnn": _unitary_rnn,
}


def _polynomial(z):
  return z**3 - (1 + 2j) * z


MEMBERS = [
  *(Member(f"complex.{name}", fun, _right((6,))) for name, fun in _FUNCTIONS.items()),
  *(Member(f"complex.{name}", fun, _right((6,))) for name, fun in _OF_COMPLEX.items()),
  *(Member(f"complex.{name}", fun, normal((8,))) for name, fun in _OF_REAL.items()),
  *(Member(f"complex.{name}", fun, _parameters, (0, 1)) for name, fun in _OF_PARAMETERS.items()),
  Member(
    "complex.fourier layer",
    _fourier_layer,
    lambda key: (*normal((3,), dtype=jnp.complex64)(key), *normal((8,))(key)),
    (0, 1),
  ),
  Member("complex.mandelbrot", _mandelbrot, normal((6,), dtype=jnp.complex64)),
  Member("complex.escape by while", _escape, uniform(0.3, 0.9, (6,)), is_forward=True),
  Member("complex.quantum circuit", _circuit, normal((2, 2, 3))),
  Member("complex.propagator", _evolution, normal((2, 2, 3))),
  Member("complex.matrix product", lambda a, b: jnp.abs(a @ b), _right((3, 4), (4, 2)), (0, 1)),
  Member(
    "complex.einsum",
    functools.partial(jnp.einsum, "ij,kj,k->i"),
    _right((3, 4), (2, 4), (2,)),
    (0, 1, 2),
  ),
]
