"""Implicit solutions: `custom_linear_solve`.

Its solver may be blind to moves (JAX's own hides the matrix behind `stop_gradient` before it
factorizes), so a moved solution is not what the solver gives at moved values but what the equation
says, and the point's solver is the way there.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax

from kinkopt.trace._interpreter import Interpreter, Lanes, is_active, lane
from kinkopt.trace._registry import structural

# Each turn multiplies the error by |1 - A0^-1 A|: few turns near the point, and where it does not
# shrink at all the answer is NaN.
_MOST_TURNS = 200


@structural("custom_linear_solve")
def _solve(run: Interpreter, eqn: Any, values: list[Any]) -> list[Any]:
  parts, start = [], 0
  for length in eqn.params["const_lengths"]:
    parts.append(values[start : start + length])
    start += length
  problem = _Problem(run, eqn, parts, list(map(run.activate, values[start:])))
  lanes = [problem.solution(i) for i in range(run.decided_lanes)]
  for i in range(run.decided_lanes, run.count):
    lanes.append(problem.followed(i, lanes[0]))
  return [Lanes(results) for results in zip(*lanes, strict=True)]


class _Problem:
  """A x = b, with A, b and the solver as programs on lanes."""

  def __init__(self, run: Interpreter, eqn: Any, parts: list[Any], right: list[Any]):
    self.run, self.right, self.programs = run, right, eqn.params["jaxprs"]
    self.of_product, _, self.of_solver, self.of_transposed = parts
    self.has_aux = len(eqn.outvars) > len(right)

  def product(self, index: int, x: list[Any]) -> list[Any]:
    values = [*self.of_product, *(Lanes((v,) * self.run.count) for v in x)]
    results = self.run.recorded(lambda: self.run.run(self.programs.matvec, values))[0]
    return [self.run.widen(lane(value, index)) for value in results]

  def solver(self, index: int, transposed: bool = False) -> Any:
    """Gives the solver of one lane, as a function of a right side."""
    alone = self.run.alone()
    program = self.programs.transpose_solve if transposed else self.programs.solve
    held = self.of_transposed if transposed else self.of_solver
    held = [Lanes((lane(v, index),)) if is_active(v) else v for v in held]

    def solve(_: Any, right: list[Any]) -> Any:
      results = alone.run(program, [*held, *(Lanes((r,)) for r in right)])
      results = [alone.widen(lane(value, 0)) for value in results]
      solution = results[: len(self.right)]
      return (solution, results[len(self.right) :]) if self.has_aux else solution

    return solve

  def solution(self, index: int) -> tuple[Any, ...]:
    """Solves in one lane, as the program does, with the derivative of an implicit solution."""
    found = lax.custom_linear_solve(
      lambda x: self.product(index, x),
      [lane(b, index) for b in self.right],
      self.solver(index),
      None if self.programs.transpose_solve is None else self.solver(index, transposed=True),
      has_aux=self.has_aux,
    )
    return (*found[0], *found[1]) if self.has_aux else tuple(found)

  def followed(self, index: int, known: tuple[Any, ...]) -> tuple[Any, ...]:
    """Solves for how far the solution has moved: by nothing, exactly, at the point."""
    size = len(self.right)
    solution, aux = list(map(lax.stop_gradient, known[:size])), known[size:]
    moves = zip(self.product(index, solution), self.product(0, solution), strict=True)
    rest = [
      (lane(b, index) - lane(b, 0)) - (moved - still)
      for b, (moved, still) in zip(self.right, moves)
    ]

    def transposed(vecmat: Any, right: list[Any]) -> list[Any]:
      return self._refined(vecmat, self.solver(0, transposed=True), right)

    shift = lax.custom_linear_solve(
      lambda x: self.product(index, x),
      rest,
      lambda matvec, right: self._refined(matvec, self.solver(0), right),
      None if self.programs.transpose_solve is None else transposed,
    )
    return (*(x + s for x, s in zip(solution, shift)), *aux)

  def _refined(self, product: Any, solver: Any, right: list[Any]) -> list[Any]:
    """Refines with the point's solver for as long as that helps."""

    def solve(right: list[Any]) -> list[Any]:
      # Of length 1: GMRES takes a short one for 0, by a threshold in the program's precision.
      size = jnp.sqrt(sum(jnp.sum(jnp.abs(b) ** 2) for b in right))
      size = jnp.where(size > 0, size, 1)
      found = solver(None, [b / size for b in right])
      return [lax.stop_gradient(x) * size for x in (found[0] if self.has_aux else found)]

    def residual(x: list[Any]) -> tuple[list[Any], Any]:
      left = [b - a for b, a in zip(right, product(x))]
      return left, jnp.sqrt(sum(jnp.sum(jnp.abs(r) ** 2) for r in left))

    def refine(state: Any) -> Any:
      x, left, size, _, turn = state
      better = [a + b for a, b in zip(x, solve(left))]
      left, smaller = residual(better)
      helps = smaller < size
      x = [jnp.where(helps, new, old) for new, old in zip(better, x)]
      return x, left, jnp.minimum(size, smaller), helps, turn + 1

    first = solve(right)
    left, size = residual(first)
    state = (first, left, size, jnp.asarray(True), jnp.int32(0))
    goes_on = lambda state: state[3] & (state[4] < _MOST_TURNS)  # noqa: E731
    x, _, size, _, _ = lax.while_loop(goes_on, refine, state)
    scale = jnp.sqrt(sum(jnp.sum(jnp.abs(b) ** 2) for b in right))
    is_solved = size <= 1e-6 * scale
    return [jnp.where(is_solved, value, jnp.nan) for value in x]
