"""Implicit and iterative solvers: those of JAX, and the loops that people write by hand."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.ode import odeint
from jax.scipy.optimize import minimize
from jax.scipy.sparse.linalg import bicgstab, cg, gmres

from tests.kinks.corpus import Member, normal, uniform, vmapped

_POSITIVE = uniform(0.5, 2.0, (4,))
_SPECTRUM = jnp.array([1.0, 1.6, 2.3, 3.1], jnp.float32)


def _system(key):
  """Draws what makes a well-conditioned matrix, and a right side."""
  a, b = normal((4, 4), (4,))(key)
  return 0.15 * a, b


def _symmetric(a):
  return jnp.diag(_SPECTRUM) + a + a.T


def _custom_root(x):
  """Solves t + tanh(t) = x by Newton, and differentiates that implicitly."""

  def newton(f, t):
    def body(state):
      t, n = state
      value, rate = jax.jvp(f, (t,), (jnp.ones_like(t),))
      return t - value / rate, n + 1

    return lax.while_loop(lambda s: (s[1] < 12) & jnp.any(jnp.abs(f(s[0])) > 0), body, (t, 0))[0]

  scalar_solve = lambda g, y: y / g(jnp.ones_like(y))  # noqa: E731
  return lax.custom_root(lambda t: t + jnp.tanh(t) - x, jnp.zeros_like(x), newton, scalar_solve)


def _linear_root(a, b):
  """Finds the root of an affine function by one step of Newton: the path is the solution."""

  def direct(f, x):
    jacobian = jax.jacobian(f)(x)
    return x - jnp.linalg.solve(jacobian, f(x))

  tangent = lambda g, y: jnp.linalg.solve(jax.jacobian(g)(y), y)  # noqa: E731
  return lax.custom_root(lambda x: _symmetric(a) @ x - jnp.abs(b), b, direct, tangent)


def _custom_linear_solve(is_symmetric):
  def solved(a, b):
    matrix = _symmetric(a) if is_symmetric else jnp.diag(_SPECTRUM) + a

    def direct(matvec, b):
      return jnp.linalg.solve(lax.stop_gradient(matrix), b)

    def transposed(vecmat, b):
      return jnp.linalg.solve(lax.stop_gradient(matrix).T, b)

    return lax.custom_linear_solve(
      lambda x: matrix @ x, jnp.abs(b), direct, transposed, symmetric=is_symmetric
    )

  return solved


def _flow(y, t, rate):
  return jnp.stack([rate[0] * y[1], -rate[1] * y[0] - 0.3 * jnp.abs(y[1]), y[0] * y[1], -y[3]])


def _odeint(x, rate):
  return odeint(_flow, x, jnp.array([0.0, 0.7]), rate, rtol=1e-3, atol=1e-3)[1]


def _runge_kutta(x, rate):
  def step(y, _):
    k = _flow(y, 0.0, rate)
    middle = _flow(y + 0.05 * k, 0.0, rate)
    return y + 0.1 * middle, jnp.max(y)

  return lax.scan(step, x, None, length=5)


def _bfgs(x):
  loss = lambda t: jnp.sum(jnp.cosh(t - x)) + jnp.sum(t) ** 2  # noqa: E731
  return minimize(loss, jnp.zeros(4), method="BFGS", options={"maxiter": 2}).x


def _newton(x):
  """Takes cube roots by Newton until the residual is small."""
  body = lambda t: t - (t**3 - x) / (3 * t**2)  # noqa: E731
  return lax.while_loop(lambda t: jnp.max(jnp.abs(t**3 - x)) > 1e-3, body, 1.5 * jnp.ones_like(x))


def _bisection(x):
  """Bisects between bounds that move: the derivative is that of the bounds."""

  def body(_, bounds):
    low, high = bounds
    middle = (low + high) / 2
    is_low = middle**3 < x
    return jnp.where(is_low, middle, low), jnp.where(is_low, high, middle)

  return lax.fori_loop(0, 8, body, (jnp.zeros_like(x), 1 + x))


def _fixed_point(a, b):
  """Iterates with two factors; where they are powers of 2 the products are exact."""

  def found(x):
    def body(state):
      t, _, n = state
      new = jnp.cos(t) * a + b * jnp.abs(x - t)
      return new, jnp.max(jnp.abs(new - t)), n + 1

    go_on = lambda s: (s[1] > 1e-2) & (s[2] < 30)  # noqa: E731
    return lax.while_loop(go_on, body, (x, jnp.float32(jnp.inf), 0))

  return found


def _sinkhorn(a, b):
  cost = jnp.abs(4 * a - b)
  logs = (jax.nn.log_softmax(b), jax.nn.log_softmax(-b))

  def body(state, _):
    f, g = state
    f = logs[0] - jax.nn.logsumexp(g[None] - cost, axis=1)
    g = logs[1] - jax.nn.logsumexp(f[:, None] - cost, axis=0)
    return (f, g), None

  (f, g), _ = lax.scan(body, (jnp.zeros(4), jnp.zeros(4)), None, length=6)
  return jnp.sum(jnp.exp(f[:, None] + g[None] - cost) * cost)


def _power_iteration(a, b):
  body = lambda _, v: (lambda w: w / jnp.linalg.norm(w))(_symmetric(a) @ v)  # noqa: E731
  v = lax.fori_loop(0, 8, body, jnp.ones(4))
  return v @ _symmetric(a) @ v, v


def _lasso(a, b):
  """Proximal gradient steps, with soft thresholds."""
  matrix = jnp.diag(_SPECTRUM) + a

  def step(w, _):
    w = w - 0.1 * matrix.T @ (matrix @ w - b)
    return jnp.sign(w) * jax.nn.relu(jnp.abs(w) - 0.02), None

  return lax.scan(step, jnp.zeros(4), None, length=6)[0]


def _backtracking(a, b):
  """Gradient descent whose steps are halved until they help."""
  matrix = _symmetric(a)
  loss = lambda w: jnp.sum(jnp.abs(matrix @ w - b) ** 3)  # noqa: E731

  def step(w, _):
    direction = jax.grad(loss)(w)
    worse = lambda size: (loss(w - size * direction) > loss(w)) & (size > 1e-3)  # noqa: E731
    return w - lax.while_loop(worse, lambda size: size / 2, jnp.float32(1)) * direction, None

  return lax.scan(step, b[::-1], None, length=4)[0]


def _projected(a, b):
  """Projects onto the simplex by sorting, between steps with momentum."""

  def project(v):
    ordered = jnp.sort(v)[::-1]
    excess = (jnp.cumsum(ordered) - 1) / jnp.arange(1.0, 5.0)
    return jax.nn.relu(v - excess[jnp.sum(ordered > excess) - 1])

  def step(state, _):
    w, v = state
    new = project(v - 0.2 * (_symmetric(a) @ v - b / 4))
    return (new, new + 0.5 * (new - w)), None

  return lax.scan(step, (jnp.ones(4) / 4, jnp.ones(4) / 4), None, length=4)[0]


def _unrolled(optimize):
  """Differentiates through a few steps of training, by the step size as well."""

  def trained(a, b):
    loss = lambda w: jnp.sum(jnp.tanh(_symmetric(a) @ w - b) ** 2) + jnp.sum(jnp.abs(w))  # noqa: E731
    w, state = 0.3 + jnp.sin(b), jnp.ones(4)
    for _ in range(3):
      w, state = optimize(w, jax.grad(loss)(w), state)
    return w

  return trained


def _krylov(solver, **how):
  def solved(a, b):
    matrix = _symmetric(a) if solver is cg else jnp.diag(_SPECTRUM) + a
    return solver(lambda x: matrix @ x, jnp.sin(b), **how)[0]

  return solved


_OF_SYSTEM = {
  "cg": _krylov(cg, tol=1e-12),
  "cg, preconditioned": _krylov(cg, tol=1e-12, M=lambda x: x / _SPECTRUM),
  "bicgstab": _krylov(bicgstab, tol=1e-12),
  "custom_linear_solve": _custom_linear_solve(False),
  "custom_linear_solve, symmetric": _custom_linear_solve(True),
  "custom_root of an affine function": _linear_root,
  "Sinkhorn": _sinkhorn,
  "power iteration": _power_iteration,
  "lasso": _lasso,
  "projection onto the simplex": _projected,
  "unrolled descent": _unrolled(lambda w, g, s: (w - 0.1 * g, s)),
  "unrolled descent with clipping": _unrolled(
    lambda w, g, s: (w - 0.1 * g / jnp.maximum(1.0, jnp.linalg.norm(g)), s)
  ),
  "unrolled Adagrad": _unrolled(lambda w, g, s: (w - 0.1 * g / jnp.sqrt(s + g**2), s + g**2)),
}
_OF_POSITIVE = {"custom_root": _custom_root, "bisection": _bisection}
_FORWARD = {
  "Newton": _newton,
  "fixed point": _fixed_point(0.7, 0.2),
  "fixed point, exact products": _fixed_point(0.5, 0.25),
  "BFGS": _bfgs,
}
_FLOW = uniform(0.5, 1.5, (4,), (2,))

_PLAIN = [
  *(Member(f"solvers.{name}", fun, _system, (0, 1)) for name, fun in _OF_SYSTEM.items()),
  *(Member(f"solvers.{name}", fun, _POSITIVE) for name, fun in _OF_POSITIVE.items()),
  *(Member(f"solvers.{name}", fun, _POSITIVE, is_forward=True) for name, fun in _FORWARD.items()),
  Member("solvers.backtracking", _backtracking, _system, (0, 1), is_forward=True),
  Member("solvers.Runge-Kutta", _runge_kutta, _FLOW, (0, 1)),
]
_SLOW = [  # to compile
  Member("solvers.gmres", _krylov(gmres, tol=1e-12, restart=4, maxiter=1), _system, (0, 1)),
  Member("solvers.odeint", _odeint, _FLOW, (0, 1)),
]
MEMBERS = [*_PLAIN, *map(vmapped, _PLAIN), *_SLOW]
