"""The very lines that say at which point a function is to be checked.

What its signature tells is used: annotations with shapes, types, defaults. What it does not tell is
left as three dots.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kinkopt.cli._target import Target

_PLAIN = {float: "0.5", int: "3", bool: "True", str: '"..."', complex: "0.5 + 0.5j"}
_UNKNOWN = "..."
_FEW = 10
# Sizes that are unequal, so that a mistaken transpose cannot fit.
_SIZES = (8, 3, 5, 4, 7, 6)


def suggest_point(target: Target, command: str) -> str:
  """Says what to write where nothing says at which point to check.

  Args:
    target: the function.
    command: `check` or `kinks`.

  Returns:
    A message with the lines to add and the command to call then.
  """
  call = f"kinkopt {command} {target.module}:{target.name} --at"
  takes = _signature(target.value)
  near = [name for name, value in vars(target.loaded).items() if _is_maker(name, value)]
  if near:
    return (
      f"nothing says at which point `{target.name}` is to be looked at. {target.module} has "
      f"`{near[0]}`, which may give it:\n\n  {call} {near[0]}"
    )
  sizes: dict[str, int] = {}
  lines = [f"  {name} = {_value(parameter, sizes)}" for name, parameter in takes.items()]
  returned = ", ".join(takes) + "," * (len(takes) == 1)
  body = "\n".join([*lines, f"  return {returned or '()'}"])
  imports = "".join(
    f"{line}\n"
    for word, line in (("jax", "import jax"), ("jnp", "import jax.numpy as jnp"))
    if re.search(rf"\b{word}\.", body) and word not in vars(target.loaded)
  )
  written = f"{imports}\n\n" * bool(imports) + f"def make_args():\n{body}"
  indented = "\n".join(f"  {line}".rstrip() for line in written.splitlines())
  return (
    f"nothing says at which point `{target.name}` is to be looked at. Write in {target.module}, "
    f"with your own values,\n\n{indented}\n\nand call\n\n  {call} make_args"
  )


def _signature(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
  try:
    found = inspect.signature(function, eval_str=True)
  except Exception:  # an annotation in words that cannot be read here
    try:
      found = inspect.signature(function)
    except (ValueError, TypeError):  # written in C
      return {}
  positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
  return {name: p for name, p in found.parameters.items() if p.kind in positional}


def _is_maker(name: str, value: Any) -> bool:
  return (
    inspect.isfunction(value)
    and re.search(r"arg|point|example|input", name, re.IGNORECASE) is not None
    and not _signature(value)
  )


def _value(parameter: inspect.Parameter, sizes: dict[str, int]) -> str:
  default = parameter.default
  if default is not inspect.Parameter.empty:
    written = _default(default)
    if written:
      return written
  return _of_type(parameter.annotation, sizes)


def _default(value: Any) -> str:
  if isinstance(value, np.ndarray | jax.Array):
    return f"jnp.array({np.asarray(value).tolist()})" if value.size <= _FEW else ""
  return repr(value) if isinstance(value, bool | int | float | complex | str | None) else ""


def _of_type(annotation: Any, sizes: dict[str, int]) -> str:
  if annotation in _PLAIN:
    return _PLAIN[annotation]
  dims = getattr(annotation, "dim_str", None)  # jaxtyping's
  if dims is not None:
    return f"jax.random.normal(jax.random.key(0), {_shape(dims, sizes)})  # {dims}"
  if dataclasses.is_dataclass(annotation) or hasattr(annotation, "_fields"):
    fields = getattr(annotation, "__annotations__", {})
    parts = ", ".join(f"{name}={_of_type(kind, sizes)}" for name, kind in fields.items())
    return f"{annotation.__name__}({re.sub(r'  #[^,)]*', '', parts)})"
  words = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
  if re.search(r"\b(Array|ndarray|ArrayLike)\b", words):
    return "jax.random.normal(jax.random.key(0), (3,))  # of the right shape"
  return _UNKNOWN


def _shape(dims: str, sizes: dict[str, int]) -> str:
  numbers = []
  for word in dims.split():
    name = word.rpartition("=")[2].lstrip("#?")
    if name.isdigit():
      numbers.append(int(name))
    elif name.isidentifier():
      numbers.append(sizes.setdefault(name, _SIZES[len(sizes) % len(_SIZES)]))
  return f"({', '.join(map(str, numbers))}{',' * (len(numbers) == 1)})"
