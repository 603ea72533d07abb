"""Losses that hold a derivative or a solver: penalties, inner steps, equations solved by steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from tests.kinks.corpus import Member
from tests.kinks.families.models import with_parameters


def _net(p, x):
  return nn.relu(x @ p["w1"] + p["b"]) @ p["w2"]


def _smooth_net(p, x):
  return jnp.tanh(x @ p["w1"] + p["b"]) @ p["w2"]


def _gradient_penalty(net, p, x):
  slopes = jax.vmap(jax.grad(net, argnums=1), (None, 0))(p, x)
  norms = jnp.sqrt(jnp.sum(slopes**2, axis=1) + 1e-2)  # a dead sample has the slope 0
  return jnp.mean((norms - 1) ** 2) + net(p, x).mean()


def _loss(net, p, x):
  return jnp.mean((net(p, x) - jnp.sin(x[:, 0])) ** 2)


def _inner_step(net, p, x):
  """The loss after a step of gradient descent on another half of the data."""
  gradient = jax.grad(functools.partial(_loss, net))(p, x[:2])
  return _loss(net, jax.tree.map(lambda a, b: a - 0.3 * b, p, gradient), x[2:])


def _unrolled(net, p, x):
  """Three steps with momentum, clipped by their norm, by scan; moves by their first rate too."""

  def step(state, _):
    q, velocity = state
    value, gradient = jax.value_and_grad(functools.partial(_loss, net))(q, x)
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
    scale = jnp.minimum(1.0, 0.5 / norm)
    velocity = jax.tree.map(lambda v, g: 0.7 * v - 0.2 * scale * g, velocity, gradient)
    return (jax.tree.map(jnp.add, q, velocity), velocity), value

  (q, _), values = lax.scan(step, (p, jax.tree.map(jnp.zeros_like, p)), length=3)
  return _loss(net, q, x), values


def _hessian_trace(p, x):
  hessians = jax.vmap(jax.hessian(_smooth_net, argnums=1), (None, 0))(p, x)
  return jnp.trace(hessians, axis1=1, axis2=2).sum()


def _score_matching(p, x):
  """The density's score, and its divergence by forward over reverse mode."""
  score = jax.grad(_smooth_net, argnums=1)

  def divergence(a):
    basis = jnp.eye(3)
    return sum(jax.jvp(lambda b: score(p, b), (a,), (basis[i],))[1][i] for i in range(3))

  scores = jax.vmap(lambda a: score(p, a))(x)
  return jnp.mean(0.5 * jnp.sum(scores**2, axis=1) + jax.vmap(divergence)(x))


def _physics_informed(p, x):
  """The residual of u'' + u^3 = 0, at points, and its borders."""

  def u(t):
    return _smooth_net(p, jnp.array([t, t**2, 1.0]))

  residual = jax.vmap(jax.grad(jax.grad(u)))(x[:, 0]) + jax.vmap(u)(x[:, 0]) ** 3
  return jnp.mean(residual**2) + jnp.abs(u(0.0) - 0.7)


def _field(p, y):
  return nn.softplus(y @ p["w1"] + p["b"]) @ p["w1"].T - y


def _runge_kutta(field, p, y, steps, size):
  def step(y, _):
    k1 = field(p, y)
    k2 = field(p, y + size / 2 * k1)
    k3 = field(p, y + size / 2 * k2)
    k4 = field(p, y + size * k3)
    return y + size / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

  return lax.scan(step, y, length=steps)[0]


def _neural_ode(p, x):
  return jnp.mean(_runge_kutta(_field, p, x, 4, 0.1) @ p["w1"] * p["w2"])


def _bouncing_ball(p, x):
  """Semi-implicit Euler steps with a floor: an event by `where`."""

  def step(state, force):
    height, speed = state
    speed = speed + 0.2 * (force - 1)
    height = height + 0.2 * speed
    hits = height < 0
    height, speed = jnp.where(hits, -height, height), jnp.where(hits, -0.8 * speed, speed)
    return (height, speed), height

  start = jnp.abs(p["b"]), p["w2"]
  return lax.scan(step, start, x.reshape(-1))[1]


def _adjoint_ode(p, x):
  """The gradient of an energy by a rule of its own, checkpointed by steps."""

  @jax.custom_vjp
  def norm(a):
    return jnp.sqrt(jnp.sum(a**2) + 0.1)

  norm.defvjp(lambda a: (norm(a), (a, norm(a))), lambda saved, g: (g * saved[0] / saved[1],))
  step = jax.checkpoint(lambda y: y + 0.2 * _field(p, y) / norm(y))
  for _ in range(3):
    x = step(x)
  return norm(x) * p["w2"].mean()


def _contraction(p, x, z):
  w = p["w1"] / (1 + jnp.linalg.norm(p["w1"])) / 2
  return nn.relu(z @ w @ w.T + x + p["b"][:3])


def _equilibrium(p, x):
  """A deep equilibrium layer, unrolled."""
  z = lax.fori_loop(0, 12, lambda _, z: _contraction(p, x, z), jnp.zeros_like(x))
  return jnp.mean(z**2) + p["w2"].sum()


def _implicit_equilibrium(p, x):
  """A deep equilibrium layer, by the implicit function theorem through a root solver."""

  def solve(residual, start):
    return lax.fori_loop(0, 80, lambda _, z: z - residual(z), start)

  def tangent_solve(linear, y):
    matrix = jax.jacobian(linear)(jnp.zeros_like(y)).reshape(y.size, y.size)
    return jnp.linalg.solve(matrix, y.reshape(-1)).reshape(y.shape)

  def residual(z):
    return z - jnp.tanh(_contraction(p, x, z) + 0.1 * z)

  return lax.custom_root(residual, jnp.zeros_like(x), solve, tangent_solve) @ p["w1"]


def _bilevel_ridge(p, x):
  """The validation loss of a ridge regression, in its features and its penalty."""
  features = _features(p, x)
  gram = features.T @ features + jnp.exp(p["w2"][0]) * jnp.eye(5)
  weights = jnp.linalg.solve(gram, features.T @ jnp.sin(x[:, 0]))
  return jnp.mean((_features(p, x[::-1] * 0.8) @ weights - 1) ** 2)


def _features(p, x):
  return nn.relu(x @ p["w1"] + p["b"])


def _conjugate_gradients(p, x):
  matrix = p["w1"].T @ p["w1"] + 2 * jnp.eye(5)
  solved, _ = jax.scipy.sparse.linalg.cg(lambda v: matrix @ v, p["w2"], maxiter=40, tol=1e-12)
  return solved @ jnp.arange(5.0) + x.sum()


def _proximal(p, x):
  """The lasso by ten proximal steps: a soft threshold in each."""
  gram = x.T @ x / 4

  def step(w, _):
    w = w - 0.3 * (gram @ w - p["w1"][:, 0])
    return jnp.sign(w) * nn.relu(jnp.abs(w) - 0.05 * jnp.exp(p["b"][0])), None

  return lax.scan(step, p["w1"][:, 1], length=10)[0], p["w2"].sum()


def _sinkhorn(p, x):
  cost = jnp.sum(jnp.abs(x[:, None] - p["w1"].T), axis=-1)

  def step(potentials, _):
    f, g = potentials
    f = -nn.logsumexp(g - cost, axis=1)
    return (f, -nn.logsumexp(f[:, None] - cost, axis=0)), None

  f, g = lax.scan(step, (jnp.zeros(4), p["w2"]), length=5)[0]
  return jnp.sum(jnp.exp(f[:, None] + g - cost) * cost)


def _adaptive_steps(p, x):
  """Steps until the energy falls below a bound: a `while`, forwards."""

  def is_high(state):
    return (jnp.sum(state[0] ** 2) > 1.0) & (state[1] < 20)

  y, count = lax.while_loop(
    is_high, lambda s: (s[0] + 0.1 * _field(p, s[0]) - 0.3 * s[0], s[1] + 1), (x, 0)
  )
  return y, count


def _hutchinson(p, x):
  """The log density under a continuous flow: a vector-Jacobian product in every step."""
  probes = np.sign(np.cos(np.arange(12.0) ** 2)).reshape(4, 3)

  def step(state, _):
    y, total = state
    rate, pull = jax.vjp(functools.partial(_field, p), y)
    return (y + 0.1 * rate, total + 0.1 * jnp.sum(pull(probes)[0] * probes, axis=1)), None

  y, total = lax.scan(step, (x, jnp.zeros(4)), length=3)[0]
  return jnp.mean(total - 0.5 * jnp.sum(y**2, axis=1))


_MODELS = {
  "gradient penalty": functools.partial(_gradient_penalty, _net),
  "gradient penalty, smooth": functools.partial(_gradient_penalty, _smooth_net),
  "maml inner step": functools.partial(_inner_step, _net),
  "maml inner step, smooth": functools.partial(_inner_step, _smooth_net),
  "unrolled optimizer": functools.partial(_unrolled, _net),
  "hessian trace": _hessian_trace,
  "score matching": _score_matching,
  "physics informed": _physics_informed,
  "neural ode by runge-kutta": _neural_ode,
  "continuous flow": _hutchinson,
  "bouncing ball": _bouncing_ball,
  "rule of its own, checkpointed": _adjoint_ode,
  "deep equilibrium, unrolled": _equilibrium,
  "deep equilibrium, implicit": _implicit_equilibrium,
  "bilevel ridge": _bilevel_ridge,
  "conjugate gradients": _conjugate_gradients,
  "lasso by proximal steps": _proximal,
  "sinkhorn": _sinkhorn,
  "adaptive steps": _adaptive_steps,
}
_DRAW = with_parameters((4, 3), w1=(3, 5), b=(5,), w2=(5,))
MEMBERS = [
  Member(f"model.{name}", fun, _DRAW, is_forward=fun is _adaptive_steps)
  for name, fun in _MODELS.items()
]
