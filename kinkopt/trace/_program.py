"""A function written down as a program, with its arguments; where values enter and leave lanes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import kinkopt.trace._rules  # noqa: F401, its decorators fill the table
from kinkopt import _jax
from kinkopt._checks import check_real, check_same_tree
from kinkopt._typing import PyTree
from kinkopt.trace._interpreter import Interpreter, Lanes, is_inexact, lane


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
  """What `fun(*args)` does, and which arguments move."""

  caller: str
  code: Any
  result: Any  # the pytree of the results, its leaves shapes and dtypes
  args: tuple[PyTree, ...]
  argnums: tuple[int, ...]
  is_x64: bool  # the mode that it was traced in

  def check(self, name: str, args: Sequence[PyTree], argnums: Sequence[int]) -> None:
    """Demands that arguments have the trees and shapes of the program's own, and are no less real.

    Raises:
      TypeError: naming the first leaf that is complex where the program's is real.
      ValueError: naming the first leaf that has another shape.
    """
    if len(args) != len(argnums):
      raise ValueError(
        f"`{self.caller}` was given {len(args)} arguments, but the program was traced with "
        f"{len(self.args)}. Pass the same number."
      )
    for argnum, value in zip(argnums, args):
      check_same_tree(self.caller, name, value, "point", self.args[argnum])
      check_real(self.caller, name, value, "point", self.args[argnum])

  def with_moved(self, moved: Sequence[PyTree]) -> tuple[PyTree, ...]:
    """Gives all arguments, those of `argnums` replaced."""
    args = list(self.args)
    for argnum, value in zip(self.argnums, moved, strict=True):
      args[argnum] = value
    return tuple(args)

  def at(self, args: tuple[PyTree, ...], constants: Sequence[Any]) -> "Program":
    """Gives the same program with other arguments and constants, such as those of a trace."""
    code = _jax.ClosedJaxpr(_jax.closed(self.code)[0], list(constants))
    return dataclasses.replace(self, args=args, code=code)

  def along(self, run: Interpreter, toward: Sequence[PyTree], at: Callable[..., Any]) -> Any:
    """Evaluates `at(moving arguments)` at the point, where `reveal` sees the direction `toward`."""
    leaves, tree = jax.tree.flatten([self.args[argnum] for argnum in self.argnums])
    wide = [jnp.asarray(leaf, run.wide(jnp.result_type(leaf))) for leaf in leaves]
    rates = [_rate(x, rate) for x, rate in zip(wide, jax.tree.leaves(list(toward)), strict=True)]
    return jax.jvp(lambda leaves: at(jax.tree.unflatten(tree, leaves)), (wide,), (rates,))[0]

  def held(self) -> "Program":
    """Gives the same program with arguments and constants that XLA computes with at run time.

    Under `jit` they are constants otherwise, and all that depends on them alone would be evaluated
    while compiling: a second for each second of the program, and more.
    """
    return self.at(*_at_run_time((self.args, list(_jax.closed(self.code)[1]))))

  def run(self, interpreter: Interpreter, lanes: Sequence[Sequence[PyTree]]) -> PyTree:
    """Runs the program, and gives the last lane of its results.

    Args:
      interpreter: how.
      lanes: for each lane all arguments, in the order of `args`.
    """
    values: list[Any] = []
    avals = iter(_jax.closed(self.code)[0].invars)
    for argnum, parts in enumerate(zip(*lanes, strict=True)):
      moves = argnum in self.argnums
      leaves = zip(*map(jax.tree.leaves, parts), strict=True)
      values += [_entered(interpreter, leaf, next(avals).aval, moves) for leaf in leaves]
    results = interpreter.run(self.code, values)
    last = interpreter.count - 1
    return jax.tree.unflatten(jax.tree.structure(self.result), [lane(v, last) for v in results])


def _at_run_time(tree: PyTree) -> PyTree:
  leaves, treedef = jax.tree.flatten(tree)
  is_array = [isinstance(leaf, np.ndarray | jax.Array) and _is_number(leaf) for leaf in leaves]
  held = iter(jax.lax.optimization_barrier([x for x, flag in zip(leaves, is_array) if flag]))
  return treedef.unflatten([next(held) if flag else x for x, flag in zip(leaves, is_array)])


def _is_number(array: Any) -> bool:
  return jnp.issubdtype(array.dtype, jnp.number)


def _rate(value: jax.Array, rate: Any) -> Any:
  if not is_inexact(value):
    return np.zeros(value.shape, jax.dtypes.float0)
  return jnp.asarray(rate, value.dtype)


def _entered(run: Interpreter, leaves: Sequence[Any], aval: Any, moves: bool) -> Any:
  if jnp.issubdtype(aval.dtype, jax.dtypes.extended):  # random keys have no lanes
    return leaves[0]
  if moves and (run.is_apart or jnp.issubdtype(aval.dtype, jnp.inexact)):
    return Lanes(tuple(jnp.asarray(leaf, run.wide(aval.dtype)) for leaf in leaves))
  return jnp.asarray(leaves[0], aval.dtype)


def write_program(
  caller: str,
  fun: Callable[..., Any],
  args: tuple[PyTree, ...],
  argnums: int | Sequence[int] | None,
) -> Program:
  """Traces a function at its arguments.

  Args:
    caller: the public function, as the user wrote it.
    fun: what is traced, once.
    args: its arguments, or shapes and dtypes in their place.
    argnums: which of them move; None: all.

  Raises:
    ValueError: if `argnums` names an argument that is not there.
  """
  chosen = positions(caller, argnums, len(args))
  code, result = _jax.trace(fun, *args)
  return Program(caller, code, result, tuple(args), chosen, jax.config.read("jax_enable_x64"))


def positions(caller: str, argnums: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
  """Gives `argnums` counted from the front; None: all.

  Raises:
    ValueError: if it names an argument that is not there.
  """
  chosen = range(count) if argnums is None else argnums
  found = []
  for argnum in (chosen,) if isinstance(chosen, int) else chosen:
    if not -count <= argnum < count:
      raise ValueError(
        f"`{caller}(argnums={argnums})` names argument {argnum}, but the point has {count} "
        "arguments. Count from 0, and pass the point after the function."
      )
    found.append(argnum % count)
  return tuple(found)


def as_tuple(caller: str, name: str, args: Any) -> tuple[PyTree, ...]:
  """Takes the arguments of a function, given as a tuple or a list; anything else is one of them.

  Raises:
    TypeError: if it is an array or another leaf, whose rows would be taken for the arguments.
  """
  if not isinstance(args, tuple | list):
    raise TypeError(
      f"`{caller}` takes all arguments of the function as a tuple, but `{name}` is of type "
      f"`{type(args).__name__}`. For a function of one argument write `({name},)`."
    )
  return tuple(args)
