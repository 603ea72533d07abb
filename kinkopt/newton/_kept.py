"""Which compiled minimisation serves a loss: the one that was made of a program of the same text.

Arrays that a loss closes over are operands, so a function written anew over another batch finds
what the first one compiled. The optimizer is known by its identity alone, which says nothing of
functions of the user's that stand in it: these may close over the same batch.
"""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Hashable
from typing import Any

from kinkopt import _jax
from kinkopt.trace._fingerprint import fingerprints
from kinkopt.trace._program import Program

_KEPT = 128


def programs_of(
  write: Callable[[], Program], program: Program, rest: Hashable
) -> dict[str, Any] | None:
  """Gives what is kept for a program, at first nothing; None where nothing can be kept.

  Args:
    write: traces the program once more, where nothing is kept yet.
    program: what it gave.
    rest: what else has to be the same.
  """
  key = fingerprints([program])
  if key is None:
    return None
  found = _kept(key, rest)
  # Functions of the trace's making, such as callbacks, are equal to no other: each call would
  # compile.
  return found if found or key == fingerprints([write()]) else None


@_jax.kept(_KEPT)
def _kept(key: Hashable, rest: Hashable) -> dict[str, Any]:
  return {}


def has_own_functions(thing: Any) -> bool:
  """Whether a function that no library wrote stands in a transform, or in what it closes over."""
  seen: set[int] = set()
  todo = [thing]
  while todo:
    thing = todo.pop()
    if id(thing) in seen:
      continue
    seen.add(id(thing))
    inner = _within(thing)
    if inner is None or (isinstance(thing, types.FunctionType) and not _is_of_library(thing)):
      return True
    todo += inner
  return False


def _is_of_library(function: types.FunctionType) -> bool:
  # Not the file of its code, which what is typed at a prompt lacks, and so does a generated method.
  return _jax.is_file_of_library(function.__globals__.get("__file__", ""))


def _within(thing: Any) -> list[Any] | None:
  """Gives what a value is made of; None for a callable that cannot be looked into."""
  if isinstance(thing, types.FunctionType):
    cells = [cell for cell in thing.__closure__ or () if cell != types.CellType()]  # not empty
    closed_over = [cell.cell_contents for cell in cells]
    return [*closed_over, *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
  if isinstance(thing, functools.partial):
    return [thing.func, *thing.args, *thing.keywords.values()]
  if isinstance(thing, types.MethodType):
    return [thing.__self__, thing.__func__]
  if isinstance(thing, tuple | list):
    return list(thing)
  if isinstance(thing, dict):
    return list(thing.values())
  if isinstance(thing, type | types.BuiltinFunctionType):
    return []
  if hasattr(thing, "__wrapped__"):
    return [thing.__wrapped__]
  if dataclasses.is_dataclass(thing):
    return [*vars(thing).values(), *filter(inspect.isfunction, vars(type(thing)).values())]
  return None if callable(thing) else []
