"""Loops, branches, calls and functions with derivative rules of their own; each mapped as well."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from tests.kinks.corpus import Member, normal, vmapped

_VECTOR = normal((5,))


def _scan_with_cond(x):
  def body(carry, x):
    carry = lax.cond(carry > x, lambda c: jnp.sin(c) + x, lambda c: c * x + 0.5, carry)
    return carry, jnp.abs(carry)

  return lax.scan(body, jnp.float32(0.3), x)


def _scan_over_tuples(x):
  def body(carry, step):
    state, best, count, is_high, wave = carry
    state = jax.nn.relu(state * step[0] + 1.0) + step[1]["noise"]
    better = jnp.sum(state) > best
    best, count = jnp.maximum(jnp.sum(state), best), count + better
    wave = jnp.where(is_high, wave * 1j, jnp.conj(wave)) + state[0]
    return (state, best, count, ~is_high | better, wave), (count, wave, state[::2])

  carry = (x[:3], jnp.float32(-1), 0, jnp.array(True), jnp.complex64(1 + 0.5j))
  return lax.scan(body, carry, (jnp.sin(x), {"noise": x**2}), unroll=2)


def _recurrent(x):
  weights = jnp.sin(jnp.outer(x, x) * jnp.arange(5.0))
  step = lambda h, t: (jnp.tanh(weights @ h + jnp.abs(t)), None)  # noqa: E731
  return lax.scan(step, jnp.zeros(5), x, reverse=True)[0]


def _early_stop(x):
  """A loop of fixed length whose turns do nothing once it is done."""

  def body(_, state):
    x, is_done = state
    better = jnp.where(is_done, x, 0.5 * x + jnp.cos(x))
    return better, is_done | (jnp.sum(better) > 3.5)

  return lax.fori_loop(0, 6, body, (x, jnp.array(False)))


def _ray_march(x):
  def body(t, _):
    distance = jnp.linalg.norm(x[:2] + t * jnp.array([0.6, 0.8])) + 0.3
    return lax.cond(distance < 3.0, lambda: t + 0.5 * distance, lambda: t), distance

  return lax.scan(body, jnp.abs(x[2]), None, length=5)


def _switch(x):
  branches = [jnp.sin, jnp.abs, lambda x: x**2, lambda x: -2 * jnp.flip(x)]
  return lax.switch(jnp.argmax(x), branches, x) * lax.switch(jnp.int32(x[0] * 3), branches, x)


def _cond_of_conds(x):
  inner = functools.partial(lax.cond, jnp.max(x) > 1.0, jnp.exp, jnp.sin)
  return lax.cond(jnp.sum(x) > 0, lambda x: inner(x) * x, lambda x: (2 + inner(jnp.abs(x))) ** 2, x)


def _associative(x):
  add = lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1])  # noqa: E731
  return lax.associative_scan(add, (jnp.sin(x), x)), lax.associative_scan(jnp.maximum, x)


def _map(x):
  return lax.map(lambda t: lax.cond(t > 0, jnp.exp, lambda t: t**2, t), x, batch_size=2)


def _checkpointed(x):
  layer = jax.checkpoint(lambda h, t: (jax.nn.relu(h + jnp.sin(t)) - 0.3 * h, jnp.max(h)))
  policy = jax.checkpoint_policies.dots_saveable
  product = jax.checkpoint(lambda x: jnp.abs(jnp.outer(x, x) @ x), policy=policy)
  return lax.scan(layer, product(x), x)


@jax.jit
def _jit_in_jit(x):
  inner = jax.jit(lambda x, power: jnp.where(x > 0, x**power, -x), static_argnums=1)
  return inner(inner(x, 2) - 0.3, 3)


@jax.custom_jvp
def _soft_sign(x):
  return x / (1 + jnp.abs(x))


_soft_sign.defjvps(lambda t, out, x: t / (1 + jnp.abs(x)) ** 2)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _applied(fun, power, x, y):
  return fun(x) ** power * y


@_applied.defjvp
def _applied_jvp(fun, power, primals, tangents):
  (x, y), (dx, dy) = primals, tangents
  value, rate = jax.jvp(fun, (x,), (dx,))
  return value**power * y, power * value ** (power - 1) * rate * y + value**power * dy


@jax.custom_jvp
def _with_zeros(x, y):
  return x * jnp.abs(y)


def _zeros_jvp(primals, tangents):
  (x, y), (dx, dy) = primals, tangents
  rate = 0.0 * x if isinstance(dx, SymbolicZero) else dx * jnp.abs(y)
  return x * jnp.abs(y), rate if isinstance(dy, SymbolicZero) else rate + x * jnp.sign(y) * dy


_with_zeros.defjvp(_zeros_jvp, symbolic_zeros=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _leaky(slope, x, scale):
  return jnp.where(x > 0, x, slope * x) * scale, jnp.sum(x > 0)


def _leaky_backward(slope, residuals, cotangents):
  (x, scale), (ct, _) = residuals, cotangents
  leaked = jnp.where(x > 0, x, slope * x)
  return jnp.where(x > 0, ct, slope * ct) * scale, jnp.sum(ct * leaked)


_leaky.defvjp(lambda slope, x, scale: (_leaky(slope, x, scale), (x, scale)), _leaky_backward)


@jax.custom_vjp
def _product_with_zeros(x, y):
  return x * y


def _product_forward(x, y):
  return x.value * y.value, (x.value if y.perturbed else None, y.value if x.perturbed else None)


def _product_backward(residuals, ct):
  x, y = residuals
  if isinstance(ct, SymbolicZero):
    return None, None
  return None if y is None else ct * y, None if x is None else ct * x


_product_with_zeros.defvjp(_product_forward, _product_backward, symbolic_zeros=True)


def _closed_over(x):
  """A rule for a function that closes over what moves."""
  scale = jnp.sum(jnp.abs(x))
  fun, held = jax.closure_convert(lambda y: jnp.sin(y) * scale, x)

  @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
  def cubed(fun, y, *held):
    return fun(y, *held) ** 3

  def forward(fun, y, *held):
    return jax.vjp(lambda *args: fun(*args) ** 3, y, *held)

  cubed.defvjp(forward, lambda fun, pull, ct: pull(ct))
  return cubed(fun, x, *held)


def _rule_in_scan(x):
  def body(carry, t):
    carry, _ = _leaky(0.1, carry + t, jnp.cos(t))
    return _soft_sign(carry) + t, carry

  return lax.scan(body, x[:2], jnp.stack([x, -x, x**2]).reshape(-1))


_BACKWARD = {
  "scan with cond": _scan_with_cond,
  "scan over tuples": _scan_over_tuples,
  "recurrent network": _recurrent,
  "fori_loop": lambda x: lax.fori_loop(1, 5, lambda i, s: jnp.sin(s) + jnp.abs(x) / i, x),
  "fori_loop that writes": lambda x: lax.fori_loop(
    1, 5, lambda i, s: s.at[i].set(jnp.maximum(s[i - 1] * s[i], s[i])), x
  ),
  "fori_loop of fori_loops": lambda x: lax.fori_loop(
    0, 3, lambda i, s: lax.fori_loop(0, 2, lambda j, s: jnp.sin(s) + jnp.abs(x[i + j]), s), x
  ),
  "early stop": _early_stop,
  "ray march": _ray_march,
  "cond": lambda x: lax.cond(x[0] > x[1], jnp.sin, jnp.abs, x) * x,
  "cond of conds": _cond_of_conds,
  "switch": _switch,
  "map": _map,
  "associative_scan": _associative,
  "checkpoint": _checkpointed,
  "jit in jit": _jit_in_jit,
  "custom_jvp": lambda x: _soft_sign(3 * x),
  "custom_jvp with nondiff_argnums": lambda x: _applied(jnp.sin, 3, x, x[0]),
  "custom_jvp with symbolic zeros": lambda x: _with_zeros(x, jnp.arange(5.0) - 2.5)
  + _with_zeros(jnp.arange(5.0), x),
  "custom_vjp": lambda x: _leaky(0.1, x, x[0]),
  "custom_vjp with symbolic zeros": lambda x: _product_with_zeros(x, jnp.arange(5.0))
  + _product_with_zeros(jnp.abs(x), x),
  "closure_convert": _closed_over,
  "rules in scan": _rule_in_scan,
  "gradient in a function": lambda x: jax.grad(lambda x: jnp.sum(jnp.abs(x) ** 3 * x[0]))(x),
  "scan of gradients": lambda x: lax.scan(
    lambda s, t: (s - 0.2 * jax.grad(lambda s: jnp.sum(jnp.abs(s - t) ** 3))(s), s), x, x
  ),
}  # fmt: skip


def _while_of_scans(x):
  """A branch in a scan in a while."""

  def step(s, t):
    return lax.cond(jnp.sum(s) > t, lambda s: s * 2 + 0.25 * t, lambda s: s + jnp.abs(t), s), None

  body = lambda s: (lax.scan(step, s[0], x[:2])[0] + 0.1, s[1] + 1)  # noqa: E731
  go_on = lambda s: (jnp.sum(s[0] ** 2) < 60) & (s[1] < 9)  # noqa: E731
  return lax.while_loop(go_on, body, (x, 0))


def _collatz(x):
  """A loop on integers that are made of what moves, which carries a number and a truth value."""

  def body(s):
    n, x, was_even = s
    is_even = n % 2 == 0
    x = jnp.where(is_even, jnp.sin(x), x * (1 + x))
    return jnp.where(is_even, n // 2, 3 * n + 1), x, was_even ^ is_even

  start = 3 + jnp.int32(jnp.abs(x[0]) * 5)
  return lax.while_loop(lambda s: s[0] > 1, body, (start, x, jnp.array(False)))


def _mandelbrot(x):
  c = lax.complex(0.4 * x, 0.3 * jnp.flip(x))
  body = lambda s: (s[0] ** 2 + c, s[1] + 1)  # noqa: E731
  return lax.while_loop(lambda s: (jnp.max(jnp.abs(s[0])) < 2) & (s[1] < 5), body, (c, 0))


def _while_in_scan(x):
  def body(s, t):
    s = lax.while_loop(lambda s: jnp.abs(s) > 1.0, lambda s: 0.5 * s + 0.125 * jnp.sin(t), s + t)
    return s, s * t

  return lax.scan(body, jnp.float32(0.4), 2 * x)


def _while_in_while(x):
  inner = lambda s: lax.while_loop(lambda s: jnp.sum(s) < 4, lambda s: s + jnp.abs(x), s)  # noqa: E731
  outer = lambda s: (0.5 * inner(s[0]) + jnp.sin(s[0]), s[1] + 1)  # noqa: E731
  return lax.while_loop(lambda s: (jnp.max(s[0]) < 4) & (s[1] < 4), outer, (x, 0))


# A batch of these is compiled even where `jit` is off, and XLA then rounds a product and a sum as
# one: their factors are powers of 2, with which that is the same.
_FORWARD = {
  "while": lambda x: lax.while_loop(lambda s: jnp.sum(s**2) < 50, lambda s: 2 * s + 0.1, x),
  "fori_loop to a traced end": lambda x: lax.fori_loop(
    0, jnp.int32(jnp.abs(x[0]) * 4) + 1, lambda i, s: jnp.sin(s) + jnp.abs(x), x
  ),
  "while of scans of conds": _while_of_scans,
  "while on integers": _collatz,
  "while on complex numbers": _mandelbrot,
  "while in scan": _while_in_scan,
  "while in while": _while_in_while,
  "while in cond": lambda x: lax.cond(
    x[0] > x[1],
    lambda x: lax.while_loop(lambda s: s[0] < 3, lambda s: s + 1 + jnp.abs(x), x),
    jnp.sin,
    x,
  ),
}

_PLAIN = [
  *(Member(f"control.{name}", fun, _VECTOR) for name, fun in _BACKWARD.items()),
  *(Member(f"control.{name}", fun, _VECTOR, is_forward=True) for name, fun in _FORWARD.items()),
]
MEMBERS = [*_PLAIN, *map(vmapped, _PLAIN)]
