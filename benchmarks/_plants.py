"""How a bug is planted: in a rule, in a part of the program, or in a gradient that is handed in.

A slot of that name is looked for in all models, so a wrong rule is planted wherever it fits.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import _rules
import _slots
import jax
import numpy as np
from _models import MODELS

Fun = Callable[..., Any]
# Slots that are called otherwise than what may stand in them.
_SLOT = {
  "iterated": "fixed_point",
  "leaky_relu": "activation",
  "max_pool": "pool",
  "scale_and_shift": "affine",
  "sums_to_come": "sums",
  "tanh": "squash",
}


@dataclasses.dataclass(frozen=True)
class Plant:
  """A bug in one model: what stands in the slots, or what happens to the gradient handed in."""

  model: str
  wrong: Mapping[str, Fun] = dataclasses.field(default_factory=dict)
  right: Mapping[str, Fun] = dataclasses.field(default_factory=dict)
  rule: str = ""  # to be blamed
  spoil: Fun | None = None  # what happens to the gradient handed in
  point: Fun | None = None  # changes parameters and data, NumPy arrays, in place


@dataclasses.dataclass(frozen=True)
class Bug:
  """A row of the table."""

  name: str
  how: str
  plants: tuple[Plant, ...]
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _with(slot: str, models: Iterable[str]) -> list[str]:
  return [
    name
    for name, model in MODELS.items()
    if slot in inspect.signature(model.build).parameters and (not models or name in models)
  ]


def in_rule(
  name: str,
  wrong: _rules.Backward,
  *models: str,
  point: Fun | None = None,
  rule: Fun = _rules.ruled,
) -> tuple[Plant, ...]:
  """Plants a wrong rule of the slot function `name` in the models that have its slot.

  Args:
    name: of the function and of its right rule.
    wrong: the wrong rule.
    *models: only these.
    point: changes the point in place.
    rule: how a rule is given to a function.
  """
  forward, right = getattr(_slots, name), getattr(_rules, name)
  slot = _SLOT.get(name, name)
  return tuple(
    Plant(model, {slot: rule(forward, wrong)}, {slot: rule(forward, right)}, name, point=point)
    for model in _with(slot, models)
  )


def in_program(
  slot: str, wrong: Fun, right: Fun, *models: str, rule: str = ""
) -> tuple[Plant, ...]:
  """Plants another program in a slot."""
  return tuple(Plant(model, {slot: wrong}, {slot: right}, rule) for model in _with(slot, models))


def handed(change: Fun, paths: Mapping[str, str]) -> tuple[Plant, ...]:
  """Changes one leaf, named by its path, of the gradient of each model."""

  def spoil(path: str) -> Fun:
    return lambda gradient: jax.tree_util.tree_map_with_path(
      lambda at, leaf: change(leaf) if jax.tree_util.keystr(at) == path else leaf, gradient
    )

  return tuple(Plant(model, spoil=spoil(path)) for model, path in paths.items())


def times(factor: float, *index: Any) -> Fun:
  """Multiplies an array, or one entry of it."""
  return lambda d: d.at[index].multiply(factor) if index else factor * d


def pruned(*path: str) -> Fun:
  """Sets an eleventh of a leaf's weights to 0."""

  def point(params, data):
    for key in path:
      params = params[key]
    params[np.arange(params.size).reshape(params.shape) % 11 == 3] = 0

  return point
