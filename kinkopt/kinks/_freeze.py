"""The selection function of a program at a point.

Near a point where nothing ties, a program with kinks equals one smooth program: that in which each
winner is fixed to who wins at the point. `freeze` makes this program, so that a difference cannot
cross a kink, however long its step.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt import _jax, _places
from kinkopt._typing import PyTree
from kinkopt.trace._interpreter import (
  Interpreter,
  Lanes,
  is_active,
  is_inexact,
  lane,
  replaying,
  without_derivative,
)
from kinkopt.trace._policy import Policy
from kinkopt.trace._program import Program, write_program
from kinkopt.trace._registry import Call, Winner
from kinkopt.trace._replay import Replay
from kinkopt.trace._reveal import reveal

# Samplers that JAX differentiates otherwise than by what they evaluate.
_TRUSTED = ("random_gamma",)
# What JAX raises where it is to transpose something that is not linear.
_NOT_LINEAR = (NotImplementedError, TypeError, ValueError, AssertionError)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Ties:
  """How many units tie at the point, and part where it is moved."""

  count: jax.Array

  def empty(self) -> "_Ties":
    return _Ties(jnp.int32(0))

  def merge(self, other: "_Ties") -> "_Ties":
    return _Ties(self.count + other.count)


class Freezer(Interpreter):
  """Two lanes: the point, which decides, and the moved point, which follows."""

  count = 2
  blank: Mapping[Any, Any] | None = MappingProxyType({})

  def __init__(self, float64: bool, policy: Policy, is_x64: bool, has_direction: bool = False):
    super().__init__(float64, policy, is_x64)
    self.has_direction = has_direction
    self.met: dict[str, bool] = {}  # functions with a rule, and whether they are a library's

  def run_winner(self, winner: Winner, call: Call, values: list[Any]) -> list[Any]:
    point, moved = ([self.widen(lane(value, i)) for value in values] for i in (0, 1))
    if not self.has_direction:
      decision = winner.decide(call, point, None)
      fixed = winner.value(call, decision, point)
      self.watch_ties(winner, call, decision, point, moved)
    else:
      seen, rates = ([jax.lax.stop_gradient(x) for x in part] for part in reveal(point))
      decision = winner.decide(call, seen, rates)
      fixed = winner.follow(call, decision, point, point)
    following = winner.follow(call, decision, point, moved)
    return [Lanes((p, m)) if is_inexact(p) else p for p, m in zip(fixed, following, strict=True)]

  def watch_ties(
    self, winner: Winner, call: Call, decision: Any, point: list[Any], moved: list[Any]
  ) -> None:
    """Sees each winner; what ties is not asked here."""

  def run_opaque(self, eqn: Any, values: list[Any]) -> list[Any]:
    if eqn.primitive.name in _TRUSTED:
      return self._run_by_derivative(eqn, values)
    if not self.has_direction:
      return super().run_opaque(eqn, values)
    return without_derivative(super().run_opaque, eqn, values)

  def run_equation(self, eqn: Any, values: list[Any]) -> list[Any]:
    if eqn.primitive.name in _jax.RULES and any(map(is_active, values)):
      program = eqn.params["call_jaxpr"]
      owner = _places.function(program)
      self.met[owner.name] = _jax.is_library(program)
      if owner.name in self.policy.intended:
        return self._run_intended(owner, eqn, values)
      if self.policy.of_libraries and _jax.is_library(program):
        with contextlib.suppress(*_NOT_LINEAR):
          return self._run_by_derivative(eqn, values)
    return super().run_equation(eqn, values)

  def _run_intended(self, owner: _places.Function, eqn: Any, values: list[Any]) -> list[Any]:
    try:
      return self._run_by_derivative(eqn, values)
    except _NOT_LINEAR as error:
      raise ValueError(
        f"`intended` names `{owner.name}` ({_places.told(owner.file, owner.line)}), whose "
        "rule is not linear in the cotangent, as clipping is not: so it is the derivative of no "
        "function, and nothing can be held against it. Check the function without it."
      ) from error

  def _run_by_derivative(self, eqn: Any, values: list[Any]) -> list[Any]:
    """Gives, for the moved point, the point's results moved as their own derivative says."""
    moving = [i for i, v in enumerate(values) if is_active(v) and is_inexact(lane(v, 0))]
    alone = Replay(self.float64, dataclasses.replace(self.policy, of_user=True), self.is_x64)
    alone.opaque, alone.cuts, alone.iterated = self.opaque, self.cuts, self.iterated

    def at(operands: Sequence[Any]) -> list[Any]:
      entered = [Lanes((lane(v, 0),)) if is_active(v) else v for v in values]
      for i, operand in zip(moving, operands):
        entered[i] = Lanes((operand,))
      with replaying(self.float64):
        return [lane(v, 0) for v in alone.run_equation(eqn, entered)]

    point = [lane(values[i], 0) for i in moving]
    steps = [lane(values[i], 1) - lane(values[i], 0) for i in moving]
    results = at(point)
    which = [is_inexact(result) for result in results]

    def inexact(operands: Sequence[Any]) -> list[Any]:
      return [result for result, flag in zip(at(operands), which) if flag]

    if eqn.primitive.name == "custom_vjp_call":
      shapes, pullback = jax.vjp(inexact, point)
      rates = jax.linear_transpose(lambda cts: pullback(cts)[0], shapes)(steps)[0]
    else:
      rates = jax.jvp(inexact, (point,), (steps,))[1]
    moved = iter(rates)
    return [Lanes((r, r + next(moved))) if flag else r for r, flag in zip(results, which)]

  def stop_gradient(self, value: Any) -> Any:
    point = jax.lax.stop_gradient(lane(value, 0))
    return Lanes((point, point))

  def alone(self) -> Replay:
    return Replay.within(self)


class WatchingFreezer(Freezer):
  """Counts, beside, the units that tie at the point and part where it is moved."""

  def __init__(self, policy: Policy, is_x64: bool):
    super().__init__(True, policy, is_x64)
    self.blank = {None: _Ties(jnp.int32(0))}
    self.records = dict(self.blank)

  @property
  def ties(self) -> jax.Array:
    """How many they were so far."""
    return self.records[None].count

  def watch_ties(
    self, winner: Winner, call: Call, decision: Any, point: list[Any], moved: list[Any]
  ) -> None:
    here = winner.margins(call, decision, point)
    if here is None:
      return
    there = winner.margins(call, decision, moved)
    parted = ((here == 0) & (there != 0)).any(-1)
    self.merge(None, _Ties(jnp.sum(parted, dtype=jnp.int32)))


@dataclasses.dataclass(frozen=True, eq=False)
class Frozen:
  """A function whose winners are decided at a point. See `freeze`."""

  program: Program
  toward: tuple[PyTree, ...] | None
  float64: bool
  policy: Policy
  opaque: tuple[str, ...] = ()
  cuts: tuple[str, ...] = ()
  iterated: tuple[str, ...] = ()
  rules: tuple[str, ...] = ()

  def __call__(self, *moved: PyTree) -> PyTree:
    """Evaluates at moved arguments, those of `argnums` in their order."""
    argnums = self.program.argnums
    if len(moved) != len(argnums):
      raise ValueError(
        f"A function frozen with `argnums={argnums}` takes these arguments alone, but was "
        f"given {len(moved)}. The others are those of the point; leave them out."
      )
    self.program.check("moved argument", moved, argnums)
    return self._run(moved)[0]

  def _run(self, moved: Sequence[PyTree]) -> tuple[PyTree, Freezer]:
    program = self.program.held()
    run = Freezer(self.float64, self.policy, program.is_x64, self.toward is not None)
    args = program.with_moved(moved)
    with replaying(self.float64):
      if self.toward is None:
        result = program.run(run, [program.args, args])
      else:
        result = program.along(
          run, self.toward, lambda point: program.run(run, [program.with_moved(point), args])
        )
    return result, run


def freeze(
  fun: Callable[..., Any],
  *args: PyTree,
  argnums: int | Sequence[int] = 0,
  toward: PyTree | None = None,
  float64: bool = True,
  through_stop_gradient: bool = False,
  intended: Sequence[str] = (),
  trusts_libraries: bool = False,
) -> Frozen:
  """Fixes every winner of a function to who wins at a point.

  Each max, abs, compare, select, clamp, sort, top_k, argmax, rounding, branch and trip count is
  decided by the values at `args`; the moved values follow. So the result is smooth where `fun` has
  kinks, equals `fun` wherever no winner differs, and has the derivative of `fun` at the point.

  Args:
    fun: a function of pytrees that JAX can trace; it is traced once, in the dtypes of `args`.
    *args: the point.
    argnums: which arguments move; integer leaves in them stay the point's.
    toward: a direction, shaped like the moving argument (a tuple of them where `argnums` is one):
      winners that tie at the point are decided by how their margins move along it, and the value
      at the point is the limit from that side. So the derivative of the frozen function along
      `toward` is the exact one-sided derivative, on a kink as well.
    float64: replay what depends on them in float64 (complex128), without `jax_enable_x64`; the rest
      keeps its dtypes, so random draws and masks are those of `fun`. False: in its own precision.
    through_stop_gradient: whether moves pass `stop_gradient`; by default it yields the point's
      value, as the derivative sees it.
    intended: names of functions with a derivative rule that is meant to differ from what they
      evaluate, such as a straight-through estimator: at moved arguments they yield the point's
      result moved as the rule says. What they call is then not looked into.
    trusts_libraries: whether the same goes for the derivative rules of libraries, where they allow.

  Returns:
    A pure function `frozen(*moved)` of the moved arguments alone; it works under `jit`, `vmap` and
    `grad`. `frozen.opaque` names what could not be seen into, with the source line: such primitives
    are run as they are, in their own precision. `frozen.cuts` names each `stop_gradient` that what
    moves runs into, those within libraries left out; `frozen.iterated` each loop whose trip count
    depends on what moves, as that of an iteration to a tolerance does; `frozen.rules` the functions
    with a derivative rule of the user's.

  Raises:
    TypeError: if a moved argument is complex where the point's is real.
    ValueError: if `argnums` names an argument that is not there; if the tree or the shapes of
      `toward`, or, at the call, of the moved arguments are not the point's; if an intended rule is
      not there, or is not linear in its cotangent.

  Numerics:
    At an exact tie the decision is what JAX's derivative of the primitive takes: both halves for
    `max`, `x` for `abs`, all of the tied for `reduce_max`, the first for `sort`. (`jax.nn.relu` has
    a rule of its own, by which its derivative at 0 is 0.) Custom derivative rules are left
    out: the function is what is evaluated. For a caller's `jit` see `in_float64`.

  Example:
    >>> import jax, jax.numpy as jnp, kinkopt
    >>> frozen = kinkopt.kinks.freeze(jnp.abs, jnp.array([-1.0, 2.0]))
    >>> print(frozen(jnp.array([0.5, -3.0])))
    [-0.5 -3. ]

  References:
    Selection functions: Scholtes (2012), "Introduction to Piecewise Differentiable Equations".
  """
  program = write_program("freeze", fun, args, argnums)
  if toward is not None:
    toward = (toward,) if isinstance(argnums, int) else tuple(toward)
    program.check("direction `toward`", toward, program.argnums)
  policy = Policy(False, trusts_libraries, tuple(intended), through_stop_gradient)
  return frozen_at(program, toward, float64, policy)


def frozen_at(
  program: Program, toward: tuple[PyTree, ...] | None, float64: bool, policy: Policy
) -> Frozen:
  """Fixes every winner of a program to who wins at its arguments; see `freeze`."""
  frozen = Frozen(program, toward, float64, policy)
  seen: list[Freezer] = []

  def look(moved: Sequence[PyTree]) -> PyTree:
    value, run = frozen._run(moved)
    seen.append(run)
    return value

  jax.eval_shape(look, [program.args[argnum] for argnum in program.argnums])
  last = seen[-1]
  check_met(policy.intended, last.met)
  rules = tuple(name for name, is_library in last.met.items() if not is_library)
  opaque, cuts, iterated = map(tuple, (last.opaque, last.cuts, last.iterated))
  return dataclasses.replace(frozen, opaque=opaque, cuts=cuts, iterated=iterated, rules=rules)


def check_met(intended: Sequence[str], met: Iterable[str]) -> None:
  """Demands that functions whose rules are meant to differ are there."""
  missing = [name for name in intended if name not in met]
  if missing:
    there = ", ".join(f"`{name}`" for name in met) or "none"
    raise ValueError(
      f"`intended` names `{missing[0]}`, but what moves meets no derivative rule of a function of "
      f"that name. It meets: {there}. Give the function that has the rule, or its name."
    )
