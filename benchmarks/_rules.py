"""Rules as people write them by hand, right ones; a bug is a change to one of them.

A backward rule is `(operands, result, cotangent) -> a cotangent for each operand`; the cotangent of
what is no floating-point number is None.
"""

from collections.abc import Callable
from typing import Any

import _slots
import jax
import jax.numpy as jnp

Backward = Callable[[tuple[Any, ...], Any, Any], tuple[Any, ...]]


def ruled(forward: Callable[..., Any], backward: Backward) -> Callable[..., Any]:
  """Gives `forward` a rule for reverse mode; it keeps its name and its line."""
  fun = jax.custom_vjp(forward)

  def remember(*operands):
    result = forward(*operands)
    return result, (operands, result)

  fun.defvjp(remember, lambda saved, ct: backward(*saved, ct))
  return fun


def pushed(forward: Callable[..., Any], tangent: Callable[..., Any]) -> Callable[..., Any]:
  """Gives `forward` a rule for forward mode: `(operands, result, tangents) -> tangent`."""
  fun = jax.custom_jvp(forward)

  @fun.defjvp
  def push(operands, tangents):
    result = fun(*operands)
    return result, tangent(operands, result, tangents)

  return fun


def then(backward: Backward, *changes: Callable[[Any], Any] | None) -> Backward:
  """Changes what a rule gives to each operand; None leaves it alone."""

  def changed(operands, result, ct):
    found = backward(operands, result, ct)
    return tuple(d if change is None else change(d) for d, change in zip(found, changes))

  return changed


def before(backward: Backward, change: Callable[[Any], Any]) -> Backward:
  """Changes the cotangent that a rule receives."""
  return lambda operands, result, ct: backward(operands, result, change(ct))


def dense(operands, result, ct):
  x, w, _ = operands
  return ct @ w.T, x.T @ ct, ct.sum(0)


def product(operands, result, ct):
  x, w = operands
  rows, cts = x.reshape(-1, x.shape[-1]), ct.reshape(-1, ct.shape[-1])
  return (ct @ w.T, rows.T @ cts)


def cross_entropy(operands, result, ct):
  logits, labels = operands
  hit = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
  return ct * (jax.nn.softmax(logits) - hit) / len(logits), None


def relu(operands, result, ct):
  return (jnp.where(operands[0] > 0, ct, 0),)


def leaky_relu(operands, result, ct):
  return (jnp.where(operands[0] > 0, ct, 0.01 * ct),)


def tanh(operands, result, ct):
  return (ct * (1 - result**2),)


def max_pool(operands, result, ct):
  return (pooled(operands[0], result, ct, lambda place: place),)


def pooled(x, result, ct, place: Callable[[Any], Any]):
  """Adds each window's cotangent to its winner, the first of 9; `place` may name another."""
  rows, columns = (2 * (n - 1) + 1 for n in ct.shape[1:3])
  windows = [
    (slice(None), slice(i, i + rows, 2), slice(j, j + columns, 2))
    for i in range(3)
    for j in range(3)
  ]
  winner = place(jnp.argmax(jnp.stack([x[window] == result for window in windows]), 0))
  dx = jnp.zeros_like(x)
  for number, window in enumerate(windows):
    dx = dx.at[window].add(jnp.where(winner == number, ct, 0))
  return dx


def sums_to_come(operands, result, ct):
  return (jnp.cumsum(ct, 0),)


def softmax(operands, result, ct):
  return (result * (ct - (result * ct).sum(-1, keepdims=True)),)


def normalize(operands, result, ct):
  (x,) = operands
  scale = jax.lax.rsqrt(x.var(0) + 1e-5)
  return (scale * (ct - ct.mean(0) - result * (ct * result).mean(0)),)


def scale_and_shift(operands, result, ct):
  x, gain, _ = operands
  return ct * gain, (ct * x).sum(0), ct.sum(0)


def logsumexp(operands, result, ct):
  return (ct[:, None] * jnp.exp(operands[0] - result[:, None]),)


def totals(operands, result, ct):
  _, groups = operands
  return ct.at[groups].get(mode="fill", fill_value=0), None


def penalty(operands, result, ct):
  (w,) = operands
  return (ct * 2 * (w - 0.5) / w.size,)


def sort(operands, result, ct):
  order = jnp.argsort(operands[0])
  return (jnp.zeros_like(ct).at[order].set(ct),)


def pinball(operands, result, ct):
  return (ct * jnp.where(operands[0] > 0, 0.9, -0.1),)


def peak(operands, result, ct):
  tied = operands[0] == result
  return (ct * tied / tied.sum(),)


def fixed_point(operands, result, ct):
  return implicit(operands, result, ct, lambda system: system)


iterated = fixed_point


def implicit(operands, result, ct, which: Callable[[Any], Any]):
  """Differentiates z = tanh(z w + drive) implicitly, one small system a row."""
  w, _ = operands
  eye = jnp.eye(len(w), dtype=w.dtype)
  slope = 1 - result**2
  ddrive = slope * jax.vmap(lambda s, c: jnp.linalg.solve(which(eye - w * s), c))(slope, ct)
  return result.T @ ddrive, ddrive


def solve(operands, result, ct):
  a, _ = operands
  db = jnp.linalg.solve(a.T, ct)
  return -jnp.outer(db, result), db


def anomaly(operands, result, tangents):
  e, _ = operands
  de, dm = tangents
  return (dm + jnp.sin(result) * de) / (1 - e * jnp.cos(result))


def multiply(operands, result, ct):
  a, b = operands
  return (ct * b).sum(0), ct * a


def softplus_of(slope_tangent: Callable[..., Any]) -> Callable[..., Any]:
  """Gives a softplus whose derivative, `slope`, has the given rule of its own."""
  slope = pushed(_slots.slope, slope_tangent)
  return pushed(_slots.softplus, lambda operands, _, tangents: slope(*operands) * tangents[0])


def slope(operands, result, tangents):
  return result * (1 - result) * tangents[0]
