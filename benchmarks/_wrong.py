"""Rules that are wrong in their formula, as their writers believed it to be right."""

import _rules
import jax
import jax.numpy as jnp


def only_hits(operands, result, ct):
  """Cross-entropy: knows the label's own logit only, the diagonal of the softmax's Jacobian."""
  logits, labels = operands
  hit = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
  return ct * hit * (jax.nn.softmax(logits) - 1) / len(logits), None


def diagonal_softmax(operands, result, ct):
  return (ct * result * (1 - result),)


def unweighted_loss(operands, result, ct):
  return _rules.cross_entropy(operands, result, jnp.ones_like(ct))


def unweighted_tanh(operands, result, ct):
  return _rules.tanh(operands, result, jnp.ones_like(ct))


def unweighted_logsumexp(operands, result, ct):
  return _rules.logsumexp(operands, result, jnp.ones_like(ct))


def one_row_of_bias(operands, result, ct):
  """x @ w + b: takes the first row of the cotangent in the place of their sum."""
  return (*_rules.dense(operands, result, ct)[:2], ct[0])


def one_row_of_shift(operands, result, ct):
  return (*_rules.scale_and_shift(operands, result, ct)[:2], ct[0])


def one_row_of_filter(operands, result, ct):
  return (ct * operands[1])[0], ct * operands[0]


def stale_dense(operands, result, ct):
  """x @ w + b: forms dw with the example before."""
  x, w, _ = operands
  return ct @ w.T, jnp.roll(x, 1, 0).T @ ct, ct.sum(0)


def stale_normalize(operands, result, ct):
  """Uses what went in where what came out is due."""
  return _rules.normalize(operands, operands[0] - operands[0].mean(0), ct)


def frozen_statistics(operands, result, ct):
  return (ct * jax.lax.rsqrt(operands[0].var(0) + 1e-5),)


def steep_leaky_relu(operands, result, ct):
  return (jnp.where(operands[0] > 0, ct, 0.1 * ct),)


def rising_pinball(operands, result, ct):
  return (ct * jnp.where(operands[0] > 0, 0.9, 0.1),)


def dense_blind_to_zero(operands, result, ct):
  dx, dw, db = _rules.dense(operands, result, ct)
  return dx, jnp.where(operands[1] == 0, 0, dw), db


def penalty_blind_to_zero(operands, result, ct):
  return (jnp.where(operands[0] == 0, 0, _rules.penalty(operands, result, ct)[0]),)


def sums_so_far(operands, result, ct):
  return (jnp.flip(jnp.cumsum(jnp.flip(ct, 0), 0), 0),)


def clipped_totals(operands, result, ct):
  _, groups = operands
  return ct.at[groups].get(mode="clip"), None


def wrong_winner(operands, result, ct):
  """Takes the last corner of a window for its neighbor."""
  return (_rules.pooled(operands[0], result, ct, lambda place: jnp.where(place == 8, 7, place)),)


def overwritten_pool(operands, result, ct):
  """Where windows overlap and have one winner, lets the last of them win."""
  dx = _rules.max_pool(operands, result, ct)[0]
  once = _rules.max_pool(operands, result, jnp.ones_like(ct))[0]
  return (jnp.where(once > 1, dx / jnp.maximum(once, 1), dx),)


def every_tied_pool(operands, result, ct):
  x = operands[0]
  return (sum(_rules.pooled(x, result, ct, lambda _, n=n: _tied(x, result, n)) for n in range(9)),)


def _tied(x, result, number: int):
  """Names window place `number` as the winner where it ties with the maximum, and else none."""
  i, j = divmod(number, 3)
  rows, columns = (2 * (n - 1) + 1 for n in result.shape[1:3])
  window = x[:, i : i + rows : 2, j : j + columns : 2]
  return jnp.where(window == result, number, -1)


def every_tied_peak(operands, result, ct):
  return (ct * (operands[0] == result),)


def permuted_again(operands, result, ct):
  return (ct[jnp.argsort(operands[0])],)


def untransposed_fixed_point(operands, result, ct):
  return _rules.implicit(operands, result, ct, lambda system: system.T)


def one_step_of_fixed_point(operands, result, ct):
  return _rules.implicit(operands, result, ct, lambda system: jnp.eye(len(system)))


def untransposed_solve(operands, result, ct):
  db = jnp.linalg.solve(operands[0], ct)
  return -jnp.outer(db, result), db


def conjugated(operands, result, ct):
  """Treats complex numbers as a textbook does; JAX's cotangents are not conjugated."""
  a, b = operands
  return (ct * b.conj()).sum(0), ct * a.conj()


def backward_orbit(operands, result, tangents):
  return -_rules.anomaly(operands, result, tangents)


def one_backward_output(operands, result, tangents):
  return _rules.anomaly(operands, result, tangents).at[500].multiply(-1)


# Programs in which something else is wrong than a rule.


def stopped_loss(logits, labels):
  shifted = logits - jax.lax.stop_gradient(jax.nn.logsumexp(logits, -1, keepdims=True))
  return -jnp.take_along_axis(shifted, labels[:, None], 1).mean()


def shifted_loss(logits, labels):
  """Stops the gradient of the maximum, as is usual and right: it cancels."""
  shifted = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
  shifted = shifted - jnp.log(jnp.exp(shifted).sum(-1, keepdims=True))
  return -jnp.take_along_axis(shifted, labels[:, None], 1).mean()


def stopped_normalize(x):
  centered = x - jax.lax.stop_gradient(x.mean(0))
  return centered * jax.lax.rsqrt((centered**2).mean(0) + 1e-5)


def root_behind_where(x):
  return jnp.where(x > 0, jnp.sqrt(x), 0)


def root_before_where(x):
  return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


def curved(factor: float):
  """Gives a softplus whose derivative has a rule that is off by a factor."""

  def tangent(operands, result, tangents):
    return factor * _rules.slope(operands, result, tangents)

  return _rules.softplus_of(tangent)
