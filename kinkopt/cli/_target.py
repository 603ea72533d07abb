"""From `FILE.py:FUNCTION` to the object; what cannot be found or loaded is told as it is.

A file is loaded as a script is: its folder comes first on the path. What fails in the user's own
code is shown with its own traceback, without the frames of Python, JAX and kinkopt.
"""

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from kinkopt import _jax
from kinkopt.cli._errors import UsageError


class Target(NamedTuple):
  """An object of the user's, and how it was named."""

  module: str  # as it was written: `model.py` or `nets.losses`
  name: str
  value: Any
  loaded: ModuleType


def load(text: str, beside: Target | None = None) -> Target:
  """Finds what `FILE.py:NAME`, `package.module:NAME` or, beside a target, `NAME` stands for.

  Args:
    text: the words.
    beside: where a name alone is looked up.

  Raises:
    UsageError: if there is no such file, module or name, or it cannot be loaded.
  """
  written, separator, name = text.rpartition(":")
  if not separator:
    if beside is None or text.endswith(".py"):
      raise UsageError(_nameless(text))
    written, name = beside.module, text
  module = beside.loaded if beside and written == beside.module else _module(written)
  value: Any = module
  for part in name.split("."):
    if not hasattr(value, part):
      raise UsageError(_no_such_name(written, name, module))
    value = getattr(value, part)
  return Target(written, name, value, module)


def load_function(text: str, beside: Target | None = None) -> Target:
  """Finds a function.

  Raises:
    UsageError: as `load`, and if what is found cannot be called.
  """
  target = load(text, beside)
  if not callable(target.value):
    raise UsageError(
      f"`{target.name}` in {target.module} is a {type(target.value).__name__}, and no function."
      + _it_has(target.loaded)
    )
  return target


def in_users_code(what: str, run: Callable[[], Any]) -> Any:
  """Runs what the user wrote.

  Args:
    what: a sentence that says what failed, if it does.
    run: calls it.

  Raises:
    UsageError: with the user's traceback, if it raises.
  """
  try:
    return run()
  except UsageError:
    raise
  except (Exception, SystemExit) as error:
    raise UsageError(f"{what}\n\n{users_traceback(error)}") from error


def users_traceback(error: BaseException) -> str:
  """Writes a traceback of the user's own frames alone."""
  told = traceback.TracebackException.from_exception(error)
  own = [frame for frame in told.stack if not _jax.is_file_of_library(frame.filename)]
  told.stack = traceback.StackSummary.from_list(own)
  notes = getattr(error, "__notes__", ())  # JAX adds that it has left out frames of its own
  told.__notes__ = [note for note in notes if "JAX_TRACEBACK_FILTERING" not in note]
  told.__cause__ = told.__context__ = None
  return "".join(told.format()).rstrip()


def has_users_frames(error: BaseException) -> bool:
  """Whether an error passed through code that is neither a library's nor kinkopt's."""
  frames = traceback.extract_tb(error.__traceback__)
  return any(not _jax.is_file_of_library(frame.filename) for frame in frames)


def _module(written: str) -> ModuleType:
  is_file = written.endswith(".py") or "/" in written or "\\" in written
  return _from_file(Path(written)) if is_file else _from_path(written)


def _from_file(path: Path) -> ModuleType:
  if not path.is_file():
    neighbours = [p.name for p in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, neighbours, n=1)
    hint = f" Did you mean {path.with_name(near[0])}?" if near else ""
    raise UsageError(f"there is no file {path}.{hint}")
  folder = str(path.resolve().parent)
  if folder not in sys.path:
    sys.path.insert(0, folder)
  name = path.stem
  if name in sys.modules or not name.isidentifier():
    name = f"_kinkopt_target_{abs(hash(str(path.resolve())))}"  # `json.py` must not be json
  spec = importlib.util.spec_from_file_location(name, path.resolve())
  if spec is None or spec.loader is None:
    raise UsageError(f"{path} is no Python file. Name a file that ends in .py.")
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  loader = spec.loader
  in_users_code(f"{path} cannot be loaded:", lambda: loader.exec_module(module))
  return module


def _from_path(written: str) -> ModuleType:
  here = str(Path.cwd())
  if here not in sys.path:
    sys.path.insert(0, here)

  def run() -> ModuleType:
    try:
      return importlib.import_module(written)
    except ModuleNotFoundError as error:
      # What the user's module imports may be missing as well; that is another message.
      if error.name and (written == error.name or written.startswith(f"{error.name}.")):
        raise UsageError(
          f"there is no module `{written}` here or among the installed ones. To name a file, write "
          f"{written.replace('.', '/')}.py:FUNCTION."
        ) from None
      raise

  return in_users_code(f"{written} cannot be loaded:", run)


def _nameless(text: str) -> str:
  if Path(text).is_file() or not text.isidentifier():
    return f"`{text}` names no function. Write {text}:FUNCTION." + (
      _it_has(_module(text)) if Path(text).is_file() else ""
    )
  return f"`{text}` does not say where it is. Write FILE.py:{text} or package.module:{text}."


def _no_such_name(written: str, name: str, module: ModuleType) -> str:
  near = difflib.get_close_matches(name, _functions(module), n=1)
  hint = f" Did you mean `{near[0]}`?" if near else ""
  return f"{written} has no `{name}`.{hint}{_it_has(module)}"


def _it_has(module: ModuleType) -> str:
  found = _functions(module)
  return f" It has: {', '.join(f'`{name}`' for name in found)}." if found else ""


def _functions(module: ModuleType) -> list[str]:
  """Names the public functions that a module defines itself."""
  return [
    name
    for name, value in vars(module).items()
    if callable(value)
    and not name.startswith("_")
    and not inspect.isclass(value)
    and getattr(value, "__module__", None) == module.__name__
  ]
