"""Parts of the models in PyTorch, and rules for them, right and wrong, as functions of autograd."""

from collections.abc import Callable
from typing import Any

import torch

Fun = Callable[..., Any]


def ruled(forward: Fun, backward: Fun) -> Fun:
  """Gives `forward` a backward rule `(operands, result, cotangent) -> cotangents`."""

  class Ruled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *operands):
      result = forward(*operands)
      ctx.save_for_backward(*operands, result)
      return result

    @staticmethod
    def backward(ctx, ct):
      *operands, result = ctx.saved_tensors
      return backward(operands, result, ct)

  return Ruled.apply


def then(backward: Fun, *changes: Fun | None) -> Fun:
  def changed(operands, result, ct):
    found = backward(operands, result, ct)
    return tuple(d if change is None else change(d) for d, change in zip(found, changes))

  return changed


def times(factor: float, *index: Any) -> Fun:
  def change(d):
    d = d.clone()
    d[index] *= factor
    return d

  return change


def zero_past_block(d):
  d = d.clone()
  d[len(d) // 128 * 128 :] = 0
  return d


# The plain functions, and the right rules.


def dense(x, w, b):
  return x @ w + b


def dense_rule(operands, result, ct):
  x, w, _ = operands
  return ct @ w.T, x.T @ ct, ct.sum(0)


def cross_entropy(logits, labels):
  return torch.nn.functional.cross_entropy(logits, labels)


def cross_entropy_rule(operands, result, ct):
  logits, labels = operands
  hit = torch.nn.functional.one_hot(labels, logits.shape[1])
  return ct * (torch.softmax(logits, 1) - hit) / len(logits), None


def only_hits(operands, result, ct):
  logits, labels = operands
  hit = torch.nn.functional.one_hot(labels, logits.shape[1])
  return ct * hit * (torch.softmax(logits, 1) - 1) / len(logits), None


def leaky_relu(x):
  return torch.where(x > 0, x, 0.01 * x)


def leaky_rule(slope: float) -> Fun:
  return lambda operands, result, ct: torch.where(operands[0] > 0, ct, slope * ct)


def scale_and_shift(x, gain, shift):
  return x * gain + shift


def affine_rule(operands, result, ct):
  x, gain, _ = operands
  return ct * gain, (ct * x).sum(0), ct.sum(0)


def pinball(r):
  return torch.maximum(0.9 * r, -0.1 * r)


def pinball_rule(low: float) -> Fun:
  return lambda operands, result, ct: torch.where(operands[0] > 0, 0.9 * ct, low * ct)


def sort(x):
  return torch.sort(x).values


def sort_rule(operands, result, ct):
  return torch.zeros_like(ct).scatter(0, torch.argsort(operands[0]), ct)


def peak_rule(operands, result, ct):
  tied = operands[0] == result
  return ct * tied / tied.sum()


def stopped_loss(logits, labels):
  shifted = logits - torch.logsumexp(logits, 1, keepdim=True).detach()
  return torch.nn.functional.nll_loss(shifted, labels)


def root_behind_where(x):
  return torch.where(x > 0, torch.sqrt(x), 0.0)


def root_before_where(x):
  return torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, 1.0)), 0.0)
