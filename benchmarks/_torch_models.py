"""Three of the models in PyTorch, with the same wrong rules as functions of autograd.

Imported only where PyTorch is asked for and installed.
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
from _cases import Case
from _torch_rules import (
  affine_rule,
  cross_entropy,
  cross_entropy_rule,
  dense,
  dense_rule,
  leaky_relu,
  leaky_rule,
  only_hits,
  peak_rule,
  pinball,
  pinball_rule,
  root_before_where,
  root_behind_where,
  ruled,
  scale_and_shift,
  sort,
  sort_rule,
  stopped_loss,
  then,
  times,
  zero_past_block,
)
from jax.tree_util import keystr, tree_leaves_with_path
from torch.autograd.gradcheck import GradcheckError

Fun = Callable[..., Any]
_MESSAGE = "_run_slow_mode_and_get_error"
# More threads wait for each other, and for JAX's: the slow mode then takes ten times as long.
torch.set_num_threads(1)


# The models; parameters by name, data.


def mlp(dense=dense, activation=torch.relu, cross_entropy=cross_entropy):
  def loss(p, x, labels):
    x = activation(dense(x, p["['hidden']['w']"], p["['hidden']['b']"]))
    return cross_entropy(dense(x, p["['out']['w']"], p["['out']['b']"]), labels)

  return loss


def batch_norm(dense=dense, affine=scale_and_shift, activation=torch.relu):
  def loss(p, x, labels):
    x = dense(x, p["['hidden']['w']"], p["['hidden']['b']"])
    x = (x - x.mean(0)) * torch.rsqrt(x.var(0, unbiased=False) + 1e-5)
    x = activation(affine(x, p["['gain']"], p["['shift']"]))
    return cross_entropy(dense(x, p["['out']['w']"], p["['out']['b']"]), labels)

  return loss


def quantile(sort=sort, pinball=pinball, peak=torch.max):
  def loss(p, x, y):
    r = y - x @ p["['coef']"] - p["['bias']"]
    ranks = torch.linspace(-1, 1, 40, dtype=r.dtype)
    trimmed = sort(r**2)[:30].mean()
    return pinball(r).mean() + 0.3 * trimmed + 0.1 * (ranks * sort(r)).mean() + 0.2 * peak(r)

  return loss


MODELS = {"mlp": mlp, "batch norm": batch_norm, "quantile": quantile}
# By bug: the slot, the function, and its rules, the wrong one and the right one.
_LOSS = "cross_entropy", cross_entropy, cross_entropy_rule
_DENSE = "dense", dense, dense_rule
_AFFINE = "affine", scale_and_shift, affine_rule
RULES: Mapping[tuple[str, str], tuple[str, Fun, Fun, Fun]] = {
  ("sign of one bias entry", "dense"): (*_DENSE, then(dense_rule, None, None, times(-1, 3))),
  ("sign of one bias entry", "scale_and_shift"): (
    *_AFFINE,
    then(affine_rule, None, None, times(-1, 3)),
  ),
  ("leaf 1 % off", "dense"): (*_DENSE, then(dense_rule, None, lambda d: 1.01 * d, None)),
  ("leaf 0.1 % off", "dense"): (*_DENSE, then(dense_rule, None, lambda d: 1.001 * d, None)),
  ("one coordinate doubled", "dense"): (*_DENSE, then(dense_rule, None, times(2, 7, 2), None)),
  ("broadcast not summed", "dense"): (
    *_DENSE,
    lambda operands, result, ct: (*dense_rule(operands, result, ct)[:2], ct[0]),
  ),
  ("broadcast not summed", "scale_and_shift"): (
    *_AFFINE,
    lambda operands, result, ct: (*affine_rule(operands, result, ct)[:2], ct[0]),
  ),
  ("wrong past an index", "dense"): (*_DENSE, then(dense_rule, None, zero_past_block, None)),
  ("wrong where a weight is 0", "dense"): (
    *_DENSE,
    lambda operands, result, ct: (
      ct @ operands[1].T,
      torch.where(operands[1] == 0, 0, operands[0].T @ ct),
      ct.sum(0),
    ),
  ),
  ("residual stale", "dense"): (
    *_DENSE,
    lambda o, result, ct: (ct @ o[1].T, torch.roll(o[0], 1, 0).T @ ct, ct.sum(0)),
  ),
  ("mean division missing", "cross_entropy"): (
    *_LOSS,
    then(cross_entropy_rule, lambda d: len(d) * d, None),
  ),
  ("off-diagonal dropped", "cross_entropy"): (*_LOSS, only_hits),
  ("last example counted twice", "cross_entropy"): (
    *_LOSS,
    then(cross_entropy_rule, times(2, -1), None),
  ),
  ("cotangent ignored", "cross_entropy"): (
    *_LOSS,
    lambda operands, result, ct: cross_entropy_rule(operands, result, torch.ones_like(ct)),
  ),
  ("wrong for x < 0", "leaky_relu"): (
    "activation",
    leaky_relu,
    leaky_rule(0.01),
    leaky_rule(0.1),
  ),
  ("wrong for x < 0", "pinball"): ("pinball", pinball, pinball_rule(-0.1), pinball_rule(0.1)),
  ("permutation not inverted", "sort"): (
    "sort",
    sort,
    sort_rule,
    lambda operands, result, ct: ct[torch.argsort(operands[0])],
  ),
  **{
    (f"every tied entry credited{where}", "peak"): (
      "peak",
      torch.max,
      peak_rule,
      lambda operands, result, ct: ct * (operands[0] == result),
    )
    for where in ("", ", on a kink")
  },
}

# By bug and model: the slot, and what is wrong and right in it.
PROGRAMS = {
  ("stop_gradient astray", "mlp"): ("cross_entropy", stopped_loss, cross_entropy),
  ("NaN behind where", "mlp"): ("activation", root_behind_where, root_before_where),
  ("NaN behind where", "batch norm"): ("activation", root_behind_where, root_before_where),
}


def _tensor(leaf: Any) -> torch.Tensor:
  leaf = np.array(leaf)
  return torch.from_numpy(leaf.astype(np.int64) if leaf.dtype == np.int32 else leaf)


def program(case: Case, side: str, params: Any, data: tuple[Any, ...]) -> Any:
  """Gives a function of leaves, the leaves, their names, and the check; None if not written."""
  build, slots = MODELS.get(case.plant.model), _slots(case, side)
  if build is None or (not slots and case.plant.spoil is None):
    return None
  paths = tree_leaves_with_path(params)
  names = [keystr(path) for path, _ in paths]
  leaves = [_tensor(leaf).requires_grad_() for _, leaf in paths]
  loss, tensors = build(**slots), [_tensor(d) for d in data]

  def fun(*leaves):
    return loss(dict(zip(names, leaves)), *tensors)

  if case.plant.spoil is not None and side == "wrong":
    fun = _spoiled(fun, case.plant.spoil, jax.tree.structure(params))
  return fun, tuple(leaves), names, _gradcheck


def _slots(case: Case, side: str) -> dict[str, Fun]:
  """Gives what stands in the slots; empty if it is not written."""
  is_wrong = side == "wrong"
  if (case.bug.name, case.plant.rule) in RULES:
    slot, forward, right, wrong = RULES[case.bug.name, case.plant.rule]
    return {slot: ruled(forward, wrong if is_wrong else right)}
  if (case.bug.name, case.plant.model) in PROGRAMS:
    slot, wrong, right = PROGRAMS[case.bug.name, case.plant.model]
    return {slot: wrong if is_wrong else right}
  return {}


def _spoiled(fun: Fun, spoil: Fun, tree: Any) -> Fun:
  """Ties a gradient that is handed in to the function, as its rule."""

  def backward(operands, result, ct):
    with torch.enable_grad():
      leaves = [leaf.detach().requires_grad_() for leaf in operands]
      found = torch.autograd.grad(fun(*leaves), leaves)
    spoiled = spoil(jax.tree.unflatten(tree, [jnp.asarray(g.numpy()) for g in found]))
    return tuple(ct * _tensor(g) for g in jax.tree.leaves(spoiled))

  return ruled(fun, backward)


def _gradcheck(fun: Fun, leaves: tuple[torch.Tensor, ...], fast_mode: bool) -> None:
  """Raises AssertionError where PyTorch says that the gradient is wrong.

  For its message the fast mode would run the slow one, for minutes: that is left out.
  """
  module = sys.modules["torch.autograd.gradcheck"]
  with warnings.catch_warnings(), mock.patch.object(module, _MESSAGE, return_value=""):
    warnings.simplefilter("ignore")
    try:
      torch.autograd.gradcheck(fun, leaves, fast_mode=fast_mode)
    except GradcheckError as error:
      raise AssertionError(str(error)) from None
