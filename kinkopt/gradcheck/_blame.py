"""Which custom rule is wrong: each is held, alone, against the function that it belongs to.

The program is run once, its rules left out. Where one stands, its derivative by the rule and the
derivative of what it evaluates are taken at the operands that it really has there, inside loops and
branches too.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt import _jax
from kinkopt._typing import PyTree
from kinkopt.gradcheck._directions import direction
from kinkopt.gradcheck._probes import norm, product
from kinkopt.kinks._interpreter import Lanes, is_active, is_inexact, lane, replaying
from kinkopt.kinks._program import write_program
from kinkopt.kinks._replay import Replay

_RULES = ("custom_jvp_call", "custom_vjp_call")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Gap:
  """For each operand that moves, how far the rule is off: relative, and at its worst turn."""

  errors: jax.Array

  def empty(self) -> "_Gap":
    return _Gap(jnp.zeros_like(self.errors))

  def merge(self, other: "_Gap") -> "_Gap":
    return _Gap(jnp.maximum(self.errors, other.errors))

  def only_if(self, holds: jax.Array) -> "_Gap":
    return _Gap(jnp.where(holds, self.errors, 0))


class _Judge(Replay):
  """Runs what is evaluated, and judges the user's rules on the way."""

  def __init__(self, key: jax.Array):
    super().__init__(float64=True, keeps_rules=False)
    self.key = key
    self.names: dict[Any, list[str]] = {}  # of the operands that move, of each rule

  def _run_equation(self, eqn: Any, values: list[Any]) -> list[Any]:
    if eqn.primitive.name in _RULES and any(map(is_active, values)):
      owner = _jax.function(eqn.params["call_jaxpr"])
      if not _jax.is_library(eqn.params["call_jaxpr"]):
        self._judge(owner, eqn, values)
    return super()._run_equation(eqn, values)

  def _judge(self, owner: Any, eqn: Any, values: list[Any]) -> None:
    moved = [i for i, v in enumerate(values) if is_active(v) and is_inexact(lane(v, 0))]
    start = eqn.params.get("num_consts", 0)
    point = [lane(values[i], 0) for i in moved]

    def run(keeps_rules: bool) -> Callable[[list[Any]], list[Any]]:
      def evaluate(operands: list[Any]) -> list[Any]:
        inner = Replay(True, self.through_stop_gradient, keeps_rules)
        inner.is_x64 = self.is_x64
        entered = list(values)
        for i, operand in zip(moved, operands):
          entered[i] = Lanes((operand,))
        with replaying(float64=True):
          results = inner._run_equation(eqn, entered)
        return [r for r in (lane(v, 0) for v in results) if is_inexact(r)]

      return evaluate

    keys = jax.random.split(self.key, len(moved) + 1)
    outputs, pullback = jax.vjp(run(keeps_rules=True), point)
    weights = [direction(jax.random.fold_in(keys[0], i), out) for i, out in enumerate(outputs)]
    (claims,) = pullback(weights)
    errors = []
    for i, key in enumerate(keys[1:]):
      way = [direction(key, x) if i == j else jnp.zeros_like(x) for j, x in enumerate(point)]
      # Forward, since what a rule replaces may be a loop that has no other derivative.
      rates = jax.jvp(run(keeps_rules=False), (point,), (way,))[1]
      right = sum(map(product, weights, rates), jnp.float64(0))
      claim = product(claims[i], way[i])
      gap = jnp.abs(claim - right)
      # A direction along which nearly nothing happens would make much of rounding.
      least = 1e-3 * norm(claims[i])
      size = jnp.maximum(jnp.maximum(jnp.abs(claim), jnp.abs(right)), least)
      errors.append(jnp.where(gap > 0, gap / size, 0.0))
    units = jax.ShapeDtypeStruct((len(moved),), jnp.float64)
    site = dataclasses.replace(
      self.site(owner.name, units), file=owner.file, line=owner.line, path=self._path
    )
    self.names[site] = [_called(owner.arguments, i - start) for i in moved]
    self.merge(site, _Gap(jnp.stack(errors)))

  def alone(self) -> Replay:
    return Replay.within(self)


def _called(names: Sequence[str], number: int) -> str:
  if number < 0:
    return "a value that it closes over"
  return f"`{names[number]}`" if number < len(names) else f"argument {number}"


def blame(
  fun: Callable[..., PyTree],
  args: tuple[PyTree, ...],
  argnums: Sequence[int],
  key: jax.Array,
  slack: float,
) -> tuple[str, ...]:
  """Names the custom rules that are not the derivative of their function.

  Args:
    fun: the function that they stand in.
    args: the point.
    argnums: the arguments that move.
    key: decides directions and weights.
    slack: the relative error that is let pass.

  Returns:
    For each a sentence without its stop, in the order of the program.
  """
  judge = _Judge(key)
  found: list[Any] = []

  def run(args: tuple[PyTree, ...]) -> list[_Gap]:
    program = write_program("check_gradient", fun, args, argnums)
    with replaying(float64=True):
      program.run(judge, [args])
    found.extend(judge.records)
    return list(judge.records.values())

  gaps = jax.jit(run)(args)
  return tuple(
    f"the rule of `{site.primitive}` ({site.file.rpartition('/')[2]}:{site.line}) is not its "
    f"derivative in {name}: off by {float(error):.1e}"
    for site, gap in zip(found, gaps)
    for name, error in zip(judge.names[site], gap.errors)
    if float(error) > slack
  )
