"""Functions that bring a derivative of their own.

What is differenced is what a function evaluates, so for most purposes the rule is left out. The
replay in float64 keeps it: it stands there as it does in the program, itself replayed, because it
is the rule that is to be judged.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt import _jax
from kinkopt.trace._interpreter import Interpreter, Lanes, is_active, is_inexact, lane, replaying
from kinkopt.trace._registry import structural


@structural("remat2")
def _remat(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  program = eqn.params["jaxpr"]
  if not run.policy.of_user:
    return run.run(program, values)
  how = {name: eqn.params[name] for name in ("prevent_cse", "policy")}
  return jax.checkpoint(lambda values: run.run(program, values), **how)(values)


class _Border:
  """Between JAX's flat arrays and active values of one lane."""

  def __init__(self, run: Interpreter, values: Sequence[Any]):
    self.run = run
    self.active = list(map(is_active, values))
    self.operands = [lane(value, 0) for value in values]

  def enter(self, operands: Sequence[Any]) -> list[Any]:
    return [Lanes((x,)) if a else x for a, x in zip(self.active, operands, strict=True)]

  def leave(self, results: Sequence[Any]) -> list[Any]:
    return [self.run.widen(lane(value, 0)) for value in results]

  def activate(self, results: Sequence[Any]) -> list[Any]:
    return list(map(self.run.activate, results))


def _zero_tangent(value: Any) -> Any:
  if is_inexact(value):
    return jnp.zeros_like(value)
  return np.zeros(np.shape(value), jax.dtypes.float0)


@structural("custom_jvp_call")
def _custom_jvp(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  rule = _jax.jvp_rule(eqn)
  if not run.policy.keeps(rule.program):
    return run.run(rule.program, values)
  border, start = _Border(run, values), rule.num_consts
  zeros = [rule.takes_symbolic_zeros and not flag for flag in border.active]

  @jax.custom_jvp
  def replayed(*operands: Any) -> list[Any]:
    with replaying(run.float64):
      return border.leave(run.run(rule.program, border.enter(operands)))

  @replayed.defjvp
  def derivative(primals: Any, tangents: Any) -> Any:
    with replaying(run.float64):
      with jax.enable_x64(run.is_x64):
        program, is_zero = rule.derivative(zeros)
      given = [t for t, zero in zip(border.enter(tangents), zeros) if not zero]
      skipped = sum(not zero for zero in zeros[:start])
      results = run.run(program, [*border.enter(primals)[start:], *given[skipped:]])
      values = border.leave(results[: len(is_zero)])
      moving = iter(border.leave(results[len(is_zero) :]))
      rates = [_zero_tangent(v) if zero else next(moving) for v, zero in zip(values, is_zero)]
      return values, [r if is_inexact(v) else _zero_tangent(v) for v, r in zip(values, rates)]

  return border.activate(replayed(*border.operands))


@structural("custom_vjp_call")
def _custom_vjp(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  rule = _jax.vjp_rule(eqn)
  if not run.policy.keeps(rule.program):
    return run.run(rule.program, values)
  border, start = _Border(run, values), rule.num_consts
  shapes: list[Any] = []  # of residuals and of cotangents, in the program's dtypes

  @jax.custom_vjp
  def replayed(*operands: Any) -> list[Any]:
    with replaying(run.float64):
      return border.leave(run.run(rule.program, border.enter(operands)))

  def forward(*operands: Any) -> Any:
    with replaying(run.float64):
      with jax.enable_x64(run.is_x64):
        program, origins = rule.forward(border.active)
      entered = border.enter(operands)
      results = run.run(program, entered[start:])
      count = sum(origin is None for origin in origins)
      fresh = iter(results[:count])
      residuals = [next(fresh) if o is None else entered[o] for o in origins]
      shapes[:] = _jax.shapes_backward(eqn, program, origins)
      return border.leave(results[count:]), residuals

  def backward(residuals: list[Any], cotangents: Sequence[Any]) -> tuple[Any, ...]:
    with replaying(run.float64):
      with jax.enable_x64(run.is_x64):
        program, is_zero = rule.backward(*shapes)
      pairs = zip(cotangents, shapes[1])
      given = [Lanes((ct,)) for ct, seed in pairs if seed.dtype != jax.dtypes.float0]
      found = iter(border.leave(run.run(program, [*residuals, *given])))
      answers = [None if zero else next(found) for zero in is_zero]
      return (None,) * start + tuple(
        answer if flag else None for answer, flag in zip(answers, border.active[start:])
      )

  replayed.defvjp(forward, backward)
  return border.activate(replayed(*border.operands))


@structural("call_hi_primitive")
def _high_level(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  with jax.enable_x64(run.is_x64):
    program, rule = _jax.expanded(eqn), _jax.root_rule(eqn)
  if rule is None or not run.policy.of_user:
    return run.run(program, values)
  border = _Border(run, values)
  ends = np.cumsum([0, *rule.lengths])
  of_function, of_tangent = slice(*ends[2:4]), slice(*ends[3:5])

  @jax.custom_jvp
  def replayed(*operands: Any) -> list[Any]:
    with replaying(run.float64):
      return border.leave(run.run(program, border.enter(operands)))

  @replayed.defjvp
  def derivative(primals: Any, tangents: Any) -> Any:
    """F(p, x(p)) = 0 gives x' = -(dF/dx)^-1 dF/dp p'."""
    with replaying(run.float64):
      solution = replayed(*primals)
      root = [Lanes((x,)) for x in solution[: rule.size]]

      def residual(*operands: Any) -> list[Any]:
        entered = border.enter([*primals[: ends[2]], *operands, *primals[ends[3] :]])
        return border.leave(run.run(rule.function, [*entered[of_function], *root]))

      right = jax.jvp(residual, tuple(primals[of_function]), tuple(tangents[of_function]))[1]
      entered = border.enter(primals)[of_tangent]
      moved = run.run(rule.tangent, [*entered, *root, *(Lanes((r,)) for r in right)])
      rates = [-rate for rate in border.leave(moved)]
      return solution, [*rates, *map(_zero_tangent, solution[rule.size :])]

  return border.activate(replayed(*border.operands))
