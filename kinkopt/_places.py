"""Where in the user's files a program's equations and functions stand, and what is written there.

JAX keeps for each equation the lines that called it, and for each function where it is defined.
Lines of JAX, of kinkopt and of libraries say nothing to a user, so the nearest line of theirs is
given.
"""

import inspect
import linecache
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from kinkopt import _jax

# Of a function, the lines that are shown; of what surrounds a line, those before and after it.
_MOST_LINES = 16
_AROUND = 2


class Place(NamedTuple):
  """A line of a file; an empty name and line 0 where nobody knows."""

  file: str = ""
  line: int = 0


def told(file: str, line: int) -> str:
  """Writes a place as it is told to a user: `model.py:4`."""
  return f"{file.rpartition('/')[2]}:{line}"


def place(eqn: Any) -> Place | None:
  """Finds the user's line that an equation comes from, and None where there is none."""
  traceback = eqn.source_info.traceback
  frames = [(f.file_name, f.line_num) for f in traceback.frames] if traceback else []
  frames = [frame for frame in frames if not frame[0].startswith(_jax.OURS)]
  own = [frame for frame in frames if not _jax.is_file_of_library(frame[0])]
  return Place(*(own or frames)[0]) if frames else None


def places(program: Any) -> Iterator[Place | None]:
  """Gives the user's line of each equation of a program, those of the programs in it too."""
  for eqn in _jax.closed(program)[0].eqns:
    yield cut(eqn) if eqn.primitive.name == "stop_gradient" else place(eqn)
    if eqn.primitive.name in _jax.RULES:
      yield from (Place(f.file, f.line) for f in (function(eqn.params["call_jaxpr"]), rule(eqn)))
    for inner in _jax.programs_in(eqn):
      yield from places(inner)


def cut(eqn: Any) -> Place | None:
  """Finds the user's line that calls `stop_gradient`; None for the calls that libraries make."""
  traceback = eqn.source_info.traceback
  frames = list(traceback.frames) if traceback else []
  names = [frame.function_name for frame in frames]
  callers = frames[names.index("stop_gradient") + 1 :] if "stop_gradient" in names else []
  if not callers or _jax.is_file_of_library(callers[0].file_name):
    return None
  return Place(callers[0].file_name, callers[0].line_num)


class Function(NamedTuple):
  """A function of the user's: its name, and where it is defined."""

  name: str
  file: str
  line: int


def function(program: Any) -> Function:
  """Says whose body a program is."""
  return _function(_jax.closed(program)[0].debug_info)


def rule(eqn: Any) -> Function:
  """Says which function of the user's is the derivative rule of a call that has one of its own."""
  wrapped = eqn.params.get("bwd") or eqn.params.get("jvp_jaxpr_fun")
  info = getattr(wrapped, "debug_info", None)
  return _function(info) if info else Function("", "", 0)


def argument(eqn: Any, number: int) -> str:
  """Says what an operand of a call with a rule of its own is called where it is defined."""
  number -= eqn.params.get("num_consts", 0)
  if number < 0:
    return "a value that it closes over"
  # JAX keeps the names of a custom_jvp with the function, of a custom_vjp with its forward rule.
  holder = eqn.params.get("fwd_jaxpr_thunk") or _jax.closed(eqn.params["call_jaxpr"])[0]
  names = getattr(getattr(holder, "debug_info", None), "arg_names", None) or ()
  name = names[number] if number < len(names) else ""
  return f"`{name}`" if name else f"argument {number}"


def _function(info: Any) -> Function:
  written, _, line = (info.func_src_info or "").rpartition(":")
  file = written.rpartition(" at ")[2]
  return Function(info.func_name or "", file, int(line) if line.isdigit() else 0)


def name_stack(eqn: Any) -> str:
  """Gives the names of `jax.named_scope` and of transformations that an equation stands in."""
  return str(eqn.source_info.name_stack)


class Excerpt(NamedTuple):
  """Some lines of a file: a function, or a line with those around it."""

  file: str
  line: int  # the one that is meant
  first: int  # the number of the first of `lines`
  lines: tuple[str, ...]
  marked: int | None  # `line`; None: all of a function is meant


def excerpt(place: Place) -> Excerpt | None:
  """Reads the lines at a place: the function that is defined there, or the line and some around.

  None where the file cannot be read, as in a session that is typed in.
  """
  written = [line.rstrip() for line in linecache.getlines(place.file)]
  if not 0 < place.line <= len(written):
    return None
  start, marked = place.line - 1, place.line
  if re.match(r"\s*(@|def |async def )", written[start]):
    block = inspect.getblock([f"{line}\n" for line in written[start:]])
    lines, marked = written[start : start + min(len(block), _MOST_LINES)], None
  else:
    stop = place.line + _AROUND
    start = max(start - _AROUND, 0)
    while start < place.line - 1 and not written[start]:
      start += 1
    lines = "\n".join(written[start:stop]).rstrip().split("\n")
  return Excerpt(place.file, place.line, start + 1, tuple(lines), marked)
