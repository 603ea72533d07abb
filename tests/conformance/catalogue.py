"""Every transform that the wings export, found through `__all__`, and the problem they all solve.

A new rule is covered without being listed: it is called with what its signature demands. Whatever
is exported and is no transform must be named here with the reason, so that nothing is left out by
accident; so must what a transform refuses to do, with the words of its refusal.
"""

import contextlib
import dataclasses
import enum
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from kinkopt import monitor, newton, rules
from kinkopt._numerics import abs_sq, compute_dtype

WINGS = (rules, newton, monitor)
ARGUMENTS = {"learning_rate": 0.1, "momentum": 0.9}  # for parameters without a default
NOT_TRANSFORMS = {
  "rules.lookahead_params": "reads a state",
  "newton.ProgressBar": "shows steps",
  "newton.minimize": "runs a transform",
  "newton.outcome": "reads a state",
  "newton.restricted": "wraps a transform",
  "monitor.band": "reads a ratio",
  "monitor.every": "chooses between steps",
  "monitor.everything": "reads a state",
  "monitor.find_update_ratio": "reads a state",
  "monitor.history": "reads a state",
  "monitor.live": "shows a history",
  "monitor.read_update_ratios": "reads a state",
  "monitor.record": "wraps a transform",
  "monitor.tensorboard": "writes numbers",
  "monitor.wandb": "writes numbers",
}


@dataclasses.dataclass(frozen=True)
class Transform:
  """An exported factory of transforms and the arguments that it cannot do without."""

  name: str
  factory: Callable[..., optax.GradientTransformationExtraArgs]
  kwargs: dict[str, Any]

  def make(self) -> optax.GradientTransformationExtraArgs:
    return self.factory(**self.kwargs)


def discover(wings: Iterable[types.ModuleType]) -> dict[str, Transform]:
  """Finds the transforms among what the wings export.

  Raises:
    LookupError: if an export can be taken neither for a transform nor for anything else known.
  """
  found = {}
  for wing in wings:
    for export in getattr(wing, "__all__", ()):
      thing, name = getattr(wing, export), f"{wing.__name__.rpartition('.')[2]}.{export}"
      is_data = isinstance(thing, type) and (
        issubclass(thing, enum.Enum | tuple) or dataclasses.is_dataclass(thing)
      )
      if is_data or name in NOT_TRANSFORMS or not callable(thing):
        continue
      found[name] = Transform(name, thing, _minimal_arguments(name, thing))
  return found


def _minimal_arguments(name: str, thing: Callable[..., object]) -> dict[str, Any]:
  advice = "Name it in NOT_TRANSFORMS with the reason, or its arguments in ARGUMENTS."
  demanded = [
    parameter.name
    for parameter in inspect.signature(thing).parameters.values()
    if parameter.default is parameter.empty
    and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
  ]
  unknown = [parameter for parameter in demanded if parameter not in ARGUMENTS]
  if unknown:
    raise LookupError(f"`{name}` is exported and demands {unknown}. {advice}")
  kwargs = {parameter: ARGUMENTS[parameter] for parameter in demanded}
  made = thing(**kwargs)
  if not isinstance(made, optax.GradientTransformation):
    raise LookupError(f"`{name}` is exported and makes a {type(made).__name__}. {advice}")
  return kwargs


TRANSFORMS = discover(WINGS)


@dataclasses.dataclass(frozen=True)
class Refusal:
  """Something that a transform cannot do, and says so."""

  transform: str  # a pattern
  situation: str  # a pattern, see `refused`
  error: type[Exception]
  match: str
  reason: str


REFUSALS = (
  Refusal(
    "newton.*newton",
    "masked|partition",
    ValueError,
    "restricted",
    "`value_fn` cannot be called with a part of its parameters",
  ),
)


def refused(transform: Transform, *situations: str) -> contextlib.AbstractContextManager:
  """Expects the refusal that is registered for a transform in any of the situations, or none."""
  for refusal in REFUSALS:
    if re.fullmatch(refusal.transform, transform.name) and any(
      re.fullmatch(refusal.situation, situation) for situation in situations
    ):
      return pytest.raises(refusal.error, match=refusal.match)
  return contextlib.nullcontext()


@functools.cache
def params_of(dtype: str) -> optax.Params:
  """Makes leaves of three ranks, none of them 0 at any coordinate."""
  dtype = jnp.dtype(dtype)
  turn = 1 + 0.5j if jnp.issubdtype(dtype, jnp.complexfloating) else 1
  return {
    "dense": {
      "w": jnp.asarray(turn * jnp.array([[1.0, -2.0], [0.5, 3.0], [-0.25, 1.5]]), dtype),
      "b": jnp.asarray(turn * jnp.array([0.75, -1.25]), dtype),
    },
    "scale": jnp.asarray(turn * jnp.array(2.0), dtype),
  }


def loss(params: optax.Params) -> jax.Array:
  """Is convex and smooth, and takes any tree, so a flattened one too."""
  leaves = [leaf.astype(compute_dtype(leaf.dtype)) for leaf in jax.tree.leaves(params)]
  return sum(jnp.sum(abs_sq(x) / 2 + abs_sq(x) ** 2 / 16) for x in leaves)


@functools.partial(jax.jit, static_argnames="dtype")
def gradient_at(params: optax.Params, dtype: str | None = None) -> optax.Updates:
  """Gives the direction of steepest ascent, in the parameters' dtypes or in `dtype`."""
  return jax.tree.map(lambda g: g.conj().astype(dtype or g.dtype), jax.grad(loss)(params))


def extra_args(params: optax.Params) -> dict[str, Any]:
  """Gives what any transform might ask `update` for, and one thing that none knows."""
  return {
    "value": jax.jit(loss)(params),
    "grad": gradient_at(params),
    "value_fn": loss,
    "unheard_of": jnp.ones(()),
  }


def step(
  tx: optax.GradientTransformation,
  params: optax.Params,
  state: optax.OptState,
  dtype: str | None = None,
) -> tuple[optax.Params, optax.OptState]:
  """Takes one step down the loss, with gradients of the given dtype."""
  gradient = gradient_at(params, dtype)
  updates, state = optax.with_extra_args_support(tx).update(
    gradient, state, params, **extra_args(params)
  )
  return optax.apply_updates(params, updates), state
