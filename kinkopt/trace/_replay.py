"""The program on one lane: replayed in float64, with or without the derivative rules of its own."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax

from kinkopt._typing import PyTree
from kinkopt.trace._interpreter import Interpreter, Lanes, lane, replaying
from kinkopt.trace._policy import Policy
from kinkopt.trace._program import Program, as_tuple, write_program
from kinkopt.trace._registry import Call, Winner


class Replay(Interpreter):
  """Runs a program as it is, its active path in float64; nothing is frozen.

  Where the policy keeps rules, those, `checkpoint` and implicit solvers stand in the replay as they
  do in the program, each of their own programs replayed: so the replay has the program's own
  derivative, in float64.
  """

  count = 1
  blank: Mapping[Any, Any] | None = MappingProxyType({})

  def run_winner(self, winner: Winner, call: Call, values: list[Any]) -> list[Any]:
    return [self.join([v]) for v in winner.plain(call, [self.widen(lane(v, 0)) for v in values])]

  def stop_gradient(self, value: Any) -> Any:
    return Lanes((jax.lax.stop_gradient(lane(value, 0)),))

  def alone(self) -> "Replay":
    return Replay.within(self)

  @classmethod
  def within(cls, outer: Interpreter) -> "Replay":
    """Gives a replay of what another interpreter runs, on one lane, without its rules."""
    inner = cls(outer.float64, outer.policy.without_rules(), outer.is_x64)
    inner.opaque, inner.cuts, inner.iterated = outer.opaque, outer.cuts, outer.iterated
    return inner


def replay(program: Program, policy: Policy, args: tuple[PyTree, ...]) -> PyTree:
  """Evaluates a program in float64 at arguments like its own."""
  with replaying(float64=True):
    return program.run(Replay(True, policy, program.is_x64), [args])


def in_float64(
  fun: Callable[..., Any],
  *,
  like: tuple[PyTree, ...] | None = None,
  argnums: int | Sequence[int] | None = None,
  through_stop_gradient: bool = False,
  custom_rules: bool = True,
  library_rules: bool = False,
  intended: Sequence[str] = (),
) -> Callable[..., PyTree]:
  """Replays a program in float64, without turning 64 bits on.

  `fun` is traced in the dtypes of its arguments. Then every value that depends on them is computed
  in float64 (complex128), and everything else in its own dtype and cast where the two meet: random
  draws, dropout masks and integers are those of `fun`. Custom derivative rules, `checkpoint` and
  implicit solvers stand in the replay, each replayed in its turn; so the derivative of the replay
  is the derivative that `fun` claims, in float64.

  Args:
    fun: a function of pytrees that JAX can trace.
    like: arguments, or shapes and dtypes in their place, that `fun` is traced with, at once,
      instead of those of the call: so float64 values can be given to a float32 program, and its
      gradient comes back in float64.
    argnums: which arguments count; by default all. Floating leaves of the others keep their dtype.
    through_stop_gradient: whether `stop_gradient` is left out.
    custom_rules: False: derivative rules of the program are left out, so that the derivative of the
      replay is JAX's of what is evaluated, to hold a rule against; implicit solvers are then
      differentiated through their iterations, backwards only where JAX can.
    library_rules: whether the rules of libraries, such as that of `jax.nn.relu`, stand in the
      replay all the same.
    intended: names of functions whose rules do.

  Returns:
    A pure function of the same arguments, under `jit`, `vmap` and `grad` like `fun`. Its inexact
    results are float64 or complex128.

  Raises:
    TypeError: if `like` is no tuple; if an argument is complex where that of `like` is real.
    ValueError: if `argnums` names an argument that is not there; if the trees or the shapes at the
      call are not those of `like`.

  Numerics:
    No setting is changed outside. `jax.grad` of a replay at float32 arguments rounds the gradient
    to float32 at the end; give it `like`, and float64 arguments under `jax.enable_x64(True)`, for
    more. Constants stay what the program has: `0.1` in a float32 program is float32's 0.1. Opaque
    primitives run in their own precision; `freeze` lists them. Under a caller's `jit` without 64
    bits JAX cannot compile the Bessel functions and the incomplete gamma and beta functions in
    float64: put `jax.enable_x64(True)` around that call.

  Example:
    >>> import jax.numpy as jnp, kinkopt
    >>> x = jnp.float32(0.1)
    >>> value = kinkopt.kinks.in_float64(lambda x: x * x)(x)
    >>> print(value.dtype, value)
    float64 0.010000000298023226

  References:
    None; JAX alone offers `jax.enable_x64`, under which a float32 program computes something else.
  """
  policy = Policy(custom_rules, library_rules, tuple(intended), through_stop_gradient)
  known = (
    None
    if like is None
    else write_program("in_float64", fun, as_tuple("in_float64", "like", like), argnums)
  )

  def replayed(*args: PyTree) -> PyTree:
    program = known or write_program("in_float64", fun, args, argnums)
    program.check("argument", args, range(len(args)))
    return replay(program, policy, args)

  return replayed
