"""Says no to bad input, in a sentence that helps.

Each check names what is wrong, with which value, where, and the way out. All of them look at Python
values, shapes and dtypes only, so they cost nothing under `jit`: of a traced hyperparameter (a
population under `vmap`, `optax.inject_hyperparams`) the shape and the dtype are checked, but not
the value, because it has none yet.
"""

import dataclasses
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt._coordinates import leaf_names
from kinkopt._typing import PyTree


def _plain(value: float) -> str:
  """Writes 1.0 as "1", and nothing that is not 1 as "1"."""
  value, short = float(value), f"{value:g}"
  if float(short) == value or math.isnan(value):
    return short
  return f"{value:.0f}" if value.is_integer() else repr(value)


@dataclasses.dataclass(frozen=True)
class Interval:
  """The finite numbers a hyperparameter may take, ends in or out."""

  low: float
  high: float
  has_low: bool = True
  has_high: bool = False

  def __contains__(self, value: float) -> bool:
    above = value >= self.low if self.has_low else value > self.low
    below = value <= self.high if self.has_high else value < self.high
    return above and below and math.isfinite(value)

  def __str__(self) -> str:
    left, right = "[" if self.has_low else "(", "]" if self.has_high else ")"
    return f"{left}{_plain(self.low)}, {_plain(self.high)}{right}"


NON_NEGATIVE = Interval(0, math.inf)
POSITIVE = Interval(0, math.inf, has_low=False)
FRACTION = Interval(0, 1)
FACTOR = Interval(0, 1, has_low=False, has_high=True)


def check_number(
  caller: str,
  name: str,
  value: Any,
  interval: Interval,
  advice: str,
  *,
  accepts_schedule: bool = False,
) -> None:
  """Checks a scalar hyperparameter; traced scalars pass, and schedules where they are accepted.

  Args:
    caller: the public function, as the user wrote it.
    name: the argument's name.
    value: what was given.
    interval: where it must lie.
    advice: one sentence: what the number means or what to write instead.
    accepts_schedule: whether any callable passes.

  Raises:
    TypeError: if `value` is not a real number; True and False are not.
    ValueError: if it is not a scalar or does not lie in `interval`; NaN and infinity never do.
  """
  if accepts_schedule and callable(value):
    return
  shape, dtype = getattr(value, "shape", ()), getattr(value, "dtype", None)
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if dtype is not None:
    is_number = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
  if not is_number:
    way_out = (
      f" For a schedule of `{name}`, use `optax.inject_hyperparams`." if callable(value) else ""
    )
    raise TypeError(f"`{caller}({name}={value!r})` is not a real number. {advice}{way_out}")
  if shape != ():
    raise ValueError(
      f"`{caller}({name}=...)` must be a scalar, but has shape {shape}. "
      f"For one value per member of a population, put `jax.vmap` around the call. {advice}"
    )
  if not isinstance(value, jax.core.Tracer) and float(value) not in interval:
    raise ValueError(
      f"`{caller}({name}={_plain(float(value))})` is out of range: "
      f"`{name}` must lie in {interval}. {advice}"
    )


def check_integer(caller: str, name: str, value: Any, interval: Interval, advice: str) -> None:
  """Checks a scalar hyperparameter that counts something; traced scalars pass.

  Raises:
    TypeError: if `value` is not an integer; 10.0 and True are not.
    ValueError: if it is not a scalar or does not lie in `interval`.
  """
  is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not is_integer and not jnp.issubdtype(getattr(value, "dtype", bool), jnp.integer):
    raise TypeError(f"`{caller}({name}={value!r})` is not an integer. {advice}")
  check_number(caller, name, value, interval, advice)


def dtype_of(leaf: Any) -> Any:
  """Gives the dtype of an array or of a Python number, and None for anything else."""
  if isinstance(leaf, bool | int | float | complex):
    return jnp.result_type(leaf)
  return getattr(leaf, "dtype", None)


def _dtype_name(leaf: Any) -> str:
  dtype = dtype_of(leaf)
  if dtype is None:
    return type(leaf).__name__
  return "float0" if dtype == jax.dtypes.float0 else str(dtype)


def _stranger(tree: PyTree, kind: Any) -> tuple[str, str] | None:
  """Gives the name and the dtype of the first leaf that is not of a kind of numbers."""
  for index, leaf in enumerate(jax.tree.leaves(tree)):
    dtype = dtype_of(leaf)
    if dtype is None or not jnp.issubdtype(dtype, kind):
      return leaf_names(tree)[index], _dtype_name(leaf)
  return None


def check_floating(
  caller: str,
  tree: PyTree,
  what: str,
  advice: str = "keep counters and masks out of the differentiated tree, or wrap the transform in "
  "`optax.masked`.",
) -> None:
  """Checks that every leaf is real or complex floating point.

  Args:
    caller: the public function, as the user wrote it.
    tree: what was given.
    what: what its leaves are, in the plural, such as "parameters".
    advice: the way out, as the end of a sentence.

  Raises:
    TypeError: naming the first leaf that is not, and its dtype.
  """
  if found := _stranger(tree, jnp.inexact):
    raise TypeError(
      f"`{caller}` needs floating-point {what}, but the leaf `{found[0]}` is {found[1]}. Only real "
      f"and complex floating-point numbers have a gradient: {advice}"
    )


def check_numeric(caller: str, what: str, tree: PyTree, advice: str) -> None:
  """Checks that every leaf is a number or an array of numbers: integers are, truth values are not.

  Raises:
    TypeError: naming the first leaf that is not, and its dtype.
  """
  if found := _stranger(tree, jnp.number):
    raise TypeError(
      f"`{caller}` needs numbers, but the {what} leaf `{found[0]}` is {found[1]}. {advice}"
    )


def _signature(leaf: Any) -> str:
  shape = ",".join(map(str, jnp.shape(leaf)))
  dtype = getattr(leaf, "dtype", None)
  return f"{type(leaf).__name__ if dtype is None else _dtype_name(leaf)}[{shape}]"


def check_same_tree(caller: str, what: str, tree: PyTree, like_what: str, like: PyTree) -> None:
  """Checks that two trees have the same structure and, leaf by leaf, the same shapes.

  Args:
    caller: the public function or transform, as the user wrote it.
    what: the name of `tree` in the message, such as "gradient".
    tree: the tree to check.
    like_what: the name of `like`, such as "parameters".
    like: the tree it must match; dtypes may differ.

  Raises:
    ValueError: naming the leaves that only one of them has, or the first of another shape.
  """
  if jax.tree.structure(tree) != jax.tree.structure(like):
    names, like_names = leaf_names(tree), leaf_names(like)
    missing = [name for name in like_names if name not in names]
    extra = [name for name in names if name not in like_names]
    if missing or extra:
      differences = [f"has no leaf {_quoted(missing)}"] if missing else []
      if extra:
        differences.append(f"has {_quoted(extra)} {'instead' if missing else 'besides'}")
      detail = f"The {what} " + "; it ".join(differences)
    else:
      detail = (
        f"The containers differ: {jax.tree.structure(tree)} against {jax.tree.structure(like)}"
      )
    raise ValueError(
      f"`{caller}`: the {what} does not have the tree of the {like_what}. {detail}. "
      f"Pass {_article(what)} {what} with the same tree as the {like_what}."
    )
  for index, (leaf, like_leaf) in enumerate(zip(jax.tree.leaves(tree), jax.tree.leaves(like))):
    if jnp.shape(leaf) != jnp.shape(like_leaf):
      raise ValueError(
        f"`{caller}`: the {what} leaf `{leaf_names(tree)[index]}` is {_signature(leaf)}, but "
        f"{_signature(like_leaf)} in the {like_what}. Shapes are not broadcast: "
        f"{_article(what)} {what} must have the shape of the {like_what}."
      )


def _is_complex(leaf: Any) -> bool:
  dtype = dtype_of(leaf)
  return dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating)


def check_real(caller: str, what: str, tree: PyTree, like_what: str, like: PyTree) -> None:
  """Checks that no leaf is complex where that of a tree of the same structure is real.

  Raises:
    TypeError: naming the first leaf that is.
  """
  for index, (leaf, like_leaf) in enumerate(zip(jax.tree.leaves(tree), jax.tree.leaves(like))):
    if _is_complex(leaf) and not _is_complex(like_leaf):
      raise TypeError(
        f"`{caller}`: the {what} leaf `{leaf_names(tree)[index]}` is {_signature(leaf)}, but "
        f"{_signature(like_leaf)} in the {like_what}: its imaginary part would be lost. Pass real "
        f"numbers, or a complex {like_what}."
      )


def _article(noun: str) -> str:
  return "an" if noun[0] in "aeiou" else "a"


def _quoted(names: list[str], most: int = 3) -> str:
  shown = ", ".join(f"`{name}`" for name in names[:most])
  return shown + (f" and {len(names) - most} more" if len(names) > most else "")
