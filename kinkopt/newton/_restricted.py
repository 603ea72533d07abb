"""Optimises some leaves of the parameters, with a loss that takes them all."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kinkopt._checks import check_same_tree
from kinkopt._coordinates import leaf_names
from kinkopt._typing import PyTree
from kinkopt.newton._point import with_names


def restricted(
  inner: optax.GradientTransformation, mask: PyTree | Callable[[optax.Params], PyTree]
) -> optax.GradientTransformationExtraArgs:
  """Gives a transform the chosen leaves alone, and a loss that takes these alone.

  `newton`, `optax.lbfgs` and Optax's line searches evaluate the loss, which `optax.masked` and
  `optax.partition` break: they hand parameters down that the loss cannot be called with. Here
  `value_fn` is made a function of the chosen leaves, with the others where they are, and `grad` is
  cut to match.

  Args:
    inner: what is applied to the chosen leaves; a whole chain with its line search.
    mask: a tree of bools like the parameters, or a prefix of it, or a function that makes one of
      the parameters. True chooses.

  Returns:
    A transformation. The chosen leaves are updated by `inner`; the others get the update 0, and may
    be integers. Its state is that of `inner` for the chosen leaves.

  Raises:
    TypeError: if a leaf of the mask is no bool.
    ValueError: if the mask does not fit the parameters; at `update`, if gradient and parameters
      have different trees.

  Differs from Optax:
    `optax.masked` passes the gradient of what is not chosen on unchanged, which a chain would then
    subtract.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import kinkopt
    >>> loss = lambda p: 2 * jnp.sum((p["w"] - p["shift"]) ** 2)
    >>> tx = kinkopt.newton.restricted(kinkopt.newton.newton(), {"shift": False, "w": True})
    >>> params = {"shift": jnp.array(3.0), "w": jnp.array([1.0, 2.0])}
    >>> updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params, value_fn=loss)
    >>> print(updates["shift"], updates["w"])
    0.0 [2. 1.]
  """
  inner = optax.with_extra_args_support(inner)

  def init(params: optax.Params) -> optax.OptState:
    return inner.init(_cut(params, _chosen(mask, params)))

  def update(
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, optax.OptState]:
    if params is not None:
      check_same_tree("restricted", "gradient", updates, "parameters", params)
    chosen = _chosen(mask, updates if params is None else params)
    if extra_args.get("grad") is not None:
      extra_args["grad"] = _cut(extra_args["grad"], chosen)
    if extra_args.get("value_fn") is not None and params is not None:
      extra_args["value_fn"] = _restrict(extra_args["value_fn"], params, chosen)
    sub = None if params is None else _cut(params, chosen)
    moved, state = inner.update(_cut(updates, chosen), state, sub, **extra_args)
    still = jax.tree.map(_zero, updates, updates if params is None else params)
    return _join(moved, still, chosen), state

  return optax.GradientTransformationExtraArgs(init, update)


def _chosen(mask: PyTree | Callable[[optax.Params], PyTree], params: PyTree) -> list[bool]:
  """Says of each leaf whether it is chosen."""
  made = mask(params) if callable(mask) else mask
  try:
    flags = jax.tree.leaves(jax.tree.broadcast(made, params))
  except ValueError as error:
    raise ValueError(
      f"`restricted(mask=...)` must be a tree of bools like the parameters, or a prefix of it, "
      f"but has the leaves {leaf_names(made)} for the parameters {leaf_names(params)}."
    ) from error
  for name, flag in zip(leaf_names(params), flags):
    if not isinstance(flag, bool | np.bool_):
      raise TypeError(
        f"`restricted(mask=...)` must be a tree of bools, but is {flag!r} for the leaf `{name}`. "
        "True chooses the leaf; the choice cannot depend on values that are traced."
      )
  return [bool(flag) for flag in flags]


def _cut(tree: PyTree, chosen: list[bool]) -> PyTree:
  """Puts None, which is no leaf, in the place of what is not chosen."""
  leaves, treedef = jax.tree.flatten(tree)
  return treedef.unflatten([leaf if flag else None for leaf, flag in zip(leaves, chosen)])


def _join(sub: PyTree, whole: PyTree, chosen: list[bool]) -> PyTree:
  leaves, treedef = jax.tree.flatten(whole)
  moved = iter(jax.tree.leaves(sub))
  return treedef.unflatten([next(moved) if flag else x for x, flag in zip(leaves, chosen)])


def _restrict(
  value_fn: Callable[..., Any], params: optax.Params, chosen: list[bool]
) -> Callable[..., Any]:
  def restricted_fn(sub: PyTree, **named: Any) -> Any:
    return value_fn(_join(sub, params, chosen), **named)

  with_names(restricted_fn, list(inspect.signature(value_fn).parameters)[1:])
  return restricted_fn


def _zero(update: Any, param: Any) -> jax.Array:
  dtype = jnp.result_type(update)
  return jnp.zeros(
    jnp.shape(param), jnp.result_type(param) if dtype == jax.dtypes.float0 else dtype
  )
