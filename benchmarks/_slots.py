"""The parts of the models that a rule of one's own may stand in for, written plainly."""

import jax
import jax.numpy as jnp

GROUPS = 7  # of the generalized linear model


def dense(x, w, b):
  return x @ w + b


def product(x, w):
  return x @ w


def cross_entropy(logits, labels):
  return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def max_pool(x):
  """Takes the maximum in windows of 3 x 3 that overlap, two apart."""
  return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")


def sums_to_come(x):
  return jax.lax.cumsum(x, reverse=True)


def normalize(x):
  centered = x - x.mean(0)
  return centered * jax.lax.rsqrt((centered**2).mean(0) + 1e-5)


def scale_and_shift(x, gain, shift):
  return x * gain + shift


def logsumexp(x):
  return jax.nn.logsumexp(x, axis=-1)


def totals(x, groups):
  """Sums up by group; what belongs to no group is dropped."""
  return jnp.zeros(GROUPS, x.dtype).at[groups].add(x, mode="drop")


def penalty(w):
  return ((w - 0.5) ** 2).mean()


def pinball(r):
  return jnp.maximum(0.9 * r, -0.1 * r)


def fixed_point(w, drive):
  """Solves z = tanh(z w + drive) by iterating; w contracts."""
  return jax.lax.fori_loop(0, 60, lambda _, z: jnp.tanh(z @ w + drive), jnp.zeros_like(drive))


def iterated(w, drive):
  """Solves the same equation as solvers do, up to a tolerance."""

  # Far from the point, where numdifftools looks too, it has no end of its own.
  def is_moving(state):
    return (jnp.abs(state[0] - state[1]).max() > 1e-6) & (state[2] < 1000)

  def step(state):
    return jnp.tanh(state[0] @ w + drive), state[0], state[2] + 1

  start = jnp.tanh(drive), jnp.zeros_like(drive), 0
  return jax.lax.while_loop(is_moving, step, start)[0]


def anomaly(e, m):
  """Solves Kepler's equation E - e sin(E) = m by Newton's steps."""

  def step(_, E):
    return E - (E - e * jnp.sin(E) - m) / (1 - e * jnp.cos(E))

  return jax.lax.fori_loop(0, 8, step, m)


def multiply(a, b):
  return a * b


def relu(x):
  return jnp.maximum(x, 0)


def leaky_relu(x):
  return jnp.where(x > 0, x, 0.01 * x)


def tanh(x):
  return jnp.tanh(x)


def softplus(x):
  return jnp.logaddexp(x, 0)


def slope(x):
  return jax.nn.sigmoid(x)


def softmax(x):
  return jax.nn.softmax(x)


def sort(x):
  return jnp.sort(x)


def peak(x):
  return x.max()


def solve(a, b):
  return jnp.linalg.solve(a, b)
