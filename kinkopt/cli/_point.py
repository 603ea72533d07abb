"""The user's function at the user's point: found, called, and moved in some leaves only."""

import contextlib
import fnmatch
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from kinkopt._coordinates import leaf_names
from kinkopt.cli._check_arguments import PointOptions
from kinkopt.cli._errors import UsageError
from kinkopt.cli._suggestion import suggest_point
from kinkopt.cli._target import (
  Target,
  has_users_frames,
  in_users_code,
  load,
  load_function,
  users_traceback,
)


class At(NamedTuple):
  """A function, its arguments, and which of them move."""

  target: Target
  args: tuple[Any, ...]
  argnums: int | tuple[int, ...]

  @property
  def fun(self) -> Callable[..., Any]:
    """The function."""
    return self.target.value


@contextlib.contextmanager
def settings(options: PointOptions) -> Iterator[None]:
  """Turns 64 bits on and chooses the device, while the job runs.

  Raises:
    UsageError: if there is no device of the platform.
  """
  with contextlib.ExitStack() as stack:
    if options.x64:
      stack.enter_context(jax.enable_x64(True))
    if options.platform:
      try:
        device = jax.devices(options.platform)[0]
      except RuntimeError as error:
        raise UsageError(f"`--platform {options.platform}` is not at hand: {error}") from error
      stack.enter_context(jax.default_device(device))
    yield


def find_point(options: PointOptions, command: str) -> At:
  """Loads the function and makes its arguments.

  Args:
    options: what was asked.
    command: the command's name, for what is suggested.

  Raises:
    UsageError: if either cannot be had, or they do not fit together.
  """
  target = load_function(options.target)
  if options.at is None:
    raise UsageError(suggest_point(target, command))
  at = load(options.at, target)
  made = at.value
  if callable(made):
    made = in_users_code(f"`{at.name}` in {at.module} failed:", at.value)
  args = made if type(made) is tuple else (made,)
  try:
    inspect.signature(target.value).bind(*args)
  except TypeError as error:
    raise UsageError(_misfit(target, at, args, error)) from error
  except ValueError:  # no signature is known
    pass
  argnums = options.argnums
  for number in argnums:
    if number >= len(args):
      raise UsageError(
        f"`--argnums {','.join(map(str, argnums))}`: {at.name} gives {_told(args)}, so argument "
        f"{number} is not there. They are counted from 0."
      )
  return At(target, args, argnums[0] if len(argnums) == 1 else argnums)


def only(at: At, patterns: tuple[str, ...], gradient: Any, has_aux: bool) -> tuple[At, Any]:
  """Lets those leaves alone move whose names match one of the patterns, or hold one.

  Args:
    at: the function and its arguments.
    patterns: as of a shell, or parts of names; none of them: everything moves.
    gradient: one that was handed in, or None.
    has_aux: whether that one gives something beside the gradient.

  Raises:
    UsageError: if no leaf's name matches.
  """
  if not patterns:
    return at, gradient
  numbers = (at.argnums,) if isinstance(at.argnums, int) else at.argnums
  moving = tuple(at.args[n] for n in numbers)
  names = leaf_names(moving[0] if len(numbers) == 1 else dict(zip(numbers, moving)))
  is_meant = [any(_matches(name, pattern) for pattern in patterns) for name in names]
  if not any(is_meant):
    known = ", ".join(names[:20]) + ", ..." * (len(names) > 20)
    raise UsageError(f"no leaf is named like {', '.join(map(repr, patterns))}. There are: {known}.")

  def kept(tree: Any, meant: bool = True) -> Any:
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten([x if is_in is meant else None for x, is_in in zip(leaves, is_meant)])

  def whole(args: tuple[Any, ...]) -> list[Any]:
    *given, still = args
    for n, fixed in zip(numbers, still):
      given[n] = jax.tree.map(_either, given[n], fixed, is_leaf=lambda x: x is None)
    return given

  def part(*args: Any) -> Any:
    found = gradient(*whole(args))
    return (kept(found[0]), found[1]) if has_aux else kept(found)

  args = [*at.args, kept(moving, False)]
  for n, moved in zip(numbers, kept(moving)):
    args[n] = moved
  target = at.target._replace(value=lambda *args: at.fun(*whole(args)))
  moved = at._replace(target=target, args=tuple(args))
  if gradient is None or callable(gradient):
    return moved, gradient and part
  return moved, kept(gradient)


def in_the_check(at: At, run: Callable[[], Any]) -> Any:
  """Runs a check; what the user's function raises is shown with the user's own traceback.

  Raises:
    UsageError: if it raises.
  """
  try:
    return run()
  except UsageError:
    raise
  except Exception as error:
    if has_users_frames(error):
      what = f"`{at.target.name}` in {at.target.module} failed at this point:"
      raise UsageError(f"{what}\n\n{users_traceback(error)}") from error
    if isinstance(error, TypeError | ValueError | NotImplementedError):
      raise UsageError(str(error)) from error
    raise


def _matches(name: str, pattern: str) -> bool:
  # Brackets are part of a leaf's name, and no sets of characters.
  return pattern in name or fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _either(moved: Any, still: Any) -> Any:
  return still if moved is None else moved


def _told(args: tuple[Any, ...]) -> str:
  kinds = ", ".join(type(arg).__name__ for arg in args)
  return f"{len(args)} argument{'s' * (len(args) != 1)} ({kinds})" if args else "no argument"


def _misfit(target: Target, at: Target, args: tuple[Any, ...], error: TypeError) -> str:
  return (
    f"`{target.name}{inspect.signature(target.value)}` cannot be called with what `{at.name}` "
    f"gives, {_told(args)}: {error}. Return all arguments as one tuple; what is no tuple is taken "
    "for the only argument."
  )
