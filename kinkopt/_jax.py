"""The one window on JAX's insides.

Programs as JAX writes them down: equations, their parameters, and how control flow divides its
operands. These shapes move from release to release; whoever needs them asks here, in words that do
not move.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal

__all__ = ["ClosedJaxpr", "Literal", "bind", "closed", "scan_lengths", "source", "trace"]


def trace(fun: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
  """Writes a function down as a program.

  Args:
    fun: a function of pytrees.
    *args: arguments, or shapes and dtypes in their place.

  Returns:
    The closed program, and the pytree of its results' shapes and dtypes.
  """
  return jax.make_jaxpr(fun, return_shape=True)(*args)


def closed(program: Any) -> tuple[Any, Sequence[Any]]:
  """Divides a program, closed or open, into its equations' owner and its constants."""
  # From JAX 0.12 on, an open program carries its constants itself.
  return getattr(program, "jaxpr", program), getattr(program, "consts", ())


def bind(eqn: Any, operands: Sequence[Any], **changed: Any) -> list[Any]:
  """Runs one equation on other operands, some of its parameters changed."""
  parameters = eqn.primitive.get_bind_params({**eqn.params, **changed})
  if isinstance(parameters, tuple):  # before JAX 0.9.2
    functions, parameters = parameters
    operands = (*functions, *operands)
  results = eqn.primitive.bind(*operands, **parameters)
  return list(results) if eqn.primitive.multiple_results else [results]


def scan_lengths(eqn: Any) -> tuple[int, int]:
  """Says how many operands of a `scan` are constants, and how many are carried."""
  if "num_consts" in eqn.params:
    return eqn.params["num_consts"], eqn.params["num_carry"]
  # From JAX 0.12 on, a tree of the operands says so.
  constants, carried, _ = eqn.params["ft_in"].update(range(len(eqn.invars))).unpack()
  return len(list(constants)), len(list(carried))


def source(eqn: Any) -> str:
  """Names an equation and the user's line that it comes from, such as `max (model.py:41)`."""
  traceback = eqn.source_info.traceback
  frames = [frame for frame in traceback.frames if _is_users(frame.file_name)] if traceback else []
  place = f" ({frames[0].file_name.rpartition('/')[2]}:{frames[0].line_num})" if frames else ""
  return f"{eqn.primitive.name}{place}"


def _is_users(file_name: str) -> bool:
  return not any(f"/{package}/" in file_name for package in ("jax", "jaxlib", "kinkopt"))
