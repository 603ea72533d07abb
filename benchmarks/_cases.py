"""A bug in a model in a dtype: two programs, compiled once, and what there is to be found.

The truth is computed: the derivatives of the wrong and of the right program are compared in
float64, at each point, for a cotangent that is not 1.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _models import MODELS, cast
from _plants import Bug, Plant
from jax.tree_util import keystr, tree_leaves_with_path

# What differs by less is rounding: of the leaf's gradient, and of all of it.
_ROUNDING, _ROUNDING_OF_ALL = 1e-10, 1e-14
# A checker is expected to name coordinates up to this number.
SPARSE = 4


@dataclasses.dataclass(frozen=True)
class Truth:
  """What a checker should name."""

  leaves: frozenset[str]
  coordinates: frozenset[str]  # empty unless they are few
  rule: str


class Case:
  """One bug in one model and dtype, with its twin."""

  def __init__(self, bug: Bug, plant: Plant, dtype: str):
    model = MODELS[plant.model]
    self.bug, self.plant, self.dtype, self.model = bug, plant, dtype, model
    # Each its own function, compiled once for all seeds.
    self.raw = {"wrong": model.build(**plant.wrong), "right": model.build(**plant.right)}
    self.funs = {side: jax.jit(fun) for side, fun in self.raw.items()}
    self.gradients: dict[str, Any] = {"wrong": None, "right": None}
    if plant.spoil is not None:
      spoil = plant.spoil
      self.gradients = {
        "right": jax.jit(lambda *args: jax.grad(self.raw["right"])(*args)),
        "wrong": jax.jit(lambda *args: spoil(jax.grad(self.raw["wrong"])(*args))),
      }
    self.weighed = {side: jax.jit(_weighed(fun)) for side, fun in self.raw.items()}
    self.weighed_gradients = {
      side: self.gradients[side] or jax.jit(jax.grad(_weighed(fun)))
      for side, fun in self.raw.items()
    }
    self._derivatives = {side: jax.jit(self._derivative(side)) for side in self.raw}

  @property
  def name(self) -> str:
    words = (self.bug.name, self.plant.model, self.plant.rule, self.dtype)
    return " / ".join(word for word in words if word)

  def at(self, seed: int) -> tuple[Any, tuple[Any, ...]]:
    """Gives parameters and data."""
    params, data = self.model.at(seed, np.float32)
    if self.plant.point is not None:
      params, data = jax.tree.map(np.array, (params, data))
      self.plant.point(params, data)
    return cast((params, data), self.dtype)

  def _derivative(self, side: str) -> Any:
    if self.gradients[side] is not None:
      return self.gradients[side]
    fun = self.raw[side]

    def first(params, *data):
      value, pullback = jax.vjp(lambda p: fun(p, *data), params)
      return pullback(
        0.7 + jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)
      )[0]

    if self.bug.options.get("order", 1) == 1:
      return first

    def second(params, *data):
      rows = jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)
      return jax.vjp(lambda p: first(p, *data), params)[1](rows)[0]

    return second

  def truth(self, params: Any, data: tuple[Any, ...]) -> Truth:
    """Compares the two programs at a point."""
    with jax.enable_x64(True):
      args = cast((params, *data), np.float64)
      wrong, right = (tree_leaves_with_path(self._derivatives[side](*args)) for side in self.funs)
    size = np.sqrt(sum(np.sum(np.abs(np.nan_to_num(r)) ** 2) for _, r in right))
    leaves, places = set(), []
    for (path, a), (_, b) in zip(wrong, right):
      name, gap = keystr(path) or "(root)", np.abs(np.asarray(a) - np.asarray(b))
      gap = np.where(np.isnan(gap), np.inf, gap)
      if gap.max() > _ROUNDING * np.linalg.norm(b) + _ROUNDING_OF_ALL * size:
        leaves.add(name)
        worst = np.argwhere(gap > _ROUNDING * np.maximum(np.abs(b), gap.max()))
        # Of a leaf that is one number there is no coordinate to name.
        places += [f"{name}[{', '.join(map(str, at))}]" if len(at) else None for at in worst]
    is_sparse = len(places) <= SPARSE and None not in places
    few = frozenset(places) if is_sparse else frozenset()
    return Truth(frozenset(leaves), few, self.plant.rule)


def _weighed(fun: Any) -> Any:
  """Makes one number of many; one stays as it is."""

  def weighed(*args):
    value = fun(*args)
    weights = jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)
    return jnp.vdot(weights, value)

  return weighed


def cases(
  bugs: tuple[Bug, ...], models: list[str], dtypes: list[str]
) -> list[tuple[Bug, Plant, str]]:
  """Lists what is to be run."""
  return [
    (bug, plant, dtype)
    for bug in bugs
    for plant in bug.plants
    if plant.model in models
    for dtype in dtypes
  ]
