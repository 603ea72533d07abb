"""The gradient as a function of its own, whose derivative is then checked like any other.

Second order asks whether the derivative of the gradient is right: a rule may give the right
gradient and still be wrong when it is differentiated again, say because it saved a constant.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt import _jax
from kinkopt._typing import PyTree
from kinkopt.gradcheck._point import Layout, wide
from kinkopt.trace._policy import Policy
from kinkopt.trace._program import Program, write_program
from kinkopt.trace._replay import replay


def gradient_of(
  program: Program, layout: Layout, weights: Sequence[Any], policy: Policy, *, custom_rules: bool
) -> Program:
  """Gives the program of the gradient of another one's weighed outputs, by the leaves' names.

  Args:
    program: of any number of outputs.
    layout: with respect to what.
    weights: of its outputs; None where one has none.
    policy: for what is evaluated.
    custom_rules: whether the program's own rules decide. If not, JAX's derivative of what is
      evaluated, where it has one: a loop that is only differentiated by its rule keeps it.
  """

  def written(evaluate: Callable[..., PyTree], is_wide: bool) -> Program:
    def gradient(*args: PyTree) -> dict[str, jax.Array]:
      leaves = list(map(jnp.asarray, layout.leaves(args)))

      def number(leaves: Sequence[jax.Array]) -> jax.Array:
        given = list(args)
        for argnum, value in zip(layout.argnums, layout.moved(args, leaves)):
          given[argnum] = value
        pairs = zip(weights, jax.tree.leaves(evaluate(*given)))
        parts = [jnp.sum(jnp.real(c.astype(y.dtype) * y)) for c, y in pairs if c is not None]
        return sum((part.astype(jnp.result_type(float)) for part in parts), jnp.zeros(()))

      with jax.enable_x64(True) if is_wide else contextlib.nullcontext():
        found = jax.grad(number)([wide(leaf) for leaf in leaves] if is_wide else leaves)
        rounded = [g.astype(leaf.dtype) for g, leaf in zip(found, leaves)]
      return dict(zip(layout.names, rounded, strict=True))

    return write_program("check_gradient", gradient, program.args, layout.argnums)

  def own(*args: PyTree) -> list[jax.Array]:
    code, constants = _jax.closed(program.code)
    return _jax.evaluate(code, constants, jax.tree.leaves(args))

  if not custom_rules:
    bare = dataclasses.replace(policy, of_libraries=True, through_stop_gradient=False)
    # A loop that JAX does not differentiate backwards.
    with contextlib.suppress(ValueError, NotImplementedError):
      return written(lambda *args: replay(program, bare, args), is_wide=True)
  return written(own, is_wide=False)
