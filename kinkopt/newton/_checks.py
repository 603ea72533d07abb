"""What an update is called with: checked once, and made a `Point`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kinkopt._checks import (
  Interval,
  check_floating,
  check_integer,
  check_number,
  check_same_tree,
)
from kinkopt._coordinates import leaf_names, split_real
from kinkopt._numerics import compute_dtype
from kinkopt._typing import PyTree
from kinkopt.newton._loss import Loss
from kinkopt.newton._point import Point, scalar


def state_dtype(params: optax.Params) -> jnp.dtype:
  """Gives the dtype that is solved in for these parameters."""
  parts = jax.eval_shape(lambda tree: split_real(tree)[0], params)
  return compute_dtype(*(part.dtype for part in parts))


def check_strategy(caller: str, name: str, strategy: Any, kind: type) -> None:
  """Checks that an argument is one of the strategies of its kind."""
  if not isinstance(strategy, kind):
    is_class = isinstance(strategy, type) and issubclass(strategy, kind)
    way_out = f"Write `{strategy.__name__}()`." if is_class else f"Pass, say, {_example(kind)}."
    raise TypeError(
      f"`{caller}({name}=...)` must be a `{kind.__name__}`, but is {strategy!r}. {way_out}"
    )


def check_option(strategy: Any, name: str, interval: Interval, advice: str) -> None:
  """Checks a number among the fields of a strategy; None passes where it is the default."""
  value = getattr(strategy, name)
  field = next(field for field in dataclasses.fields(strategy) if field.name == name)
  if value is None and field.default is None:
    return
  check = check_integer if "int" in str(field.type) else check_number
  check(type(strategy).__name__, name, value, interval, advice)


def _example(kind: type) -> str:
  return f"`kinkopt.newton.{kind.__subclasses__()[0].__name__}()`"


def check_update(
  caller: str,
  updates: optax.Updates,
  params: optax.Params | None,
  value_fn: Callable[..., ArrayLike] | None,
  arguments: dict[str, Any],
) -> Point:
  """Checks what `update` was called with; gives the point where the loss is looked at."""
  for name, argument in (("params", params), ("value_fn", value_fn)):
    if argument is None:
      raise ValueError(
        f"`{caller}` needs `{name}` to compute the Hessian, but `update` was called without "
        "it. Call `tx.update(grads, state, params, value_fn=loss)`."
      )
  assert value_fn is not None
  _check_unmasked(caller, params)
  check_floating(caller, params, "parameters")
  check_same_tree(caller, "gradient", updates, "parameters", params)
  check_floating(caller, updates, "gradients")
  for index, (g, p) in enumerate(zip(jax.tree.leaves(updates), jax.tree.leaves(params))):
    if jnp.iscomplexobj(g) != jnp.iscomplexobj(p):
      raise TypeError(
        f"`{caller}`: the gradient leaf `{leaf_names(params)[index]}` is "
        f"{jnp.result_type(g)}, but the parameter is {jnp.result_type(p)}. Both must be real or "
        "both complex, because a complex number counts as two coordinates."
      )
  return _traced_once(Point.of(params, value_fn, arguments))


def _traced_once(point: Point) -> Point:
  """Puts its program in the place of a loss, which is looked at in several places."""
  value_fn, named = point.value_fn, point.named_arguments(point.value_fn)

  def value(params: PyTree) -> jax.Array:
    return scalar("value_fn", value_fn(params, **named))

  # Arrays, as those that it is evaluated at, and not the numbers of Python that they may be.
  params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), point.params)
  loss = Loss.traced(value, params, {}, has_aux=False)
  return dataclasses.replace(point, value_fn=lambda params: loss.value_and_aux(params)[0])


def _check_unmasked(caller: str, params: optax.Params) -> None:
  def is_masked(node: PyTree) -> bool:
    return isinstance(node, optax.MaskedNode)

  nodes = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_masked)
  masked = [jax.tree_util.keystr(path) for path, node in nodes if is_masked(node)]
  if masked:
    raise ValueError(
      f"`{caller}` was given parameters without `{masked[0]}`: `optax.masked` or "
      "`optax.partition` took it away, and `value_fn` cannot be called with the rest. Use "
      "`kinkopt.newton.restricted(tx, mask)`, which gives `value_fn` the whole."
    )
