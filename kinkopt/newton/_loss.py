"""The loss as a program: traced once, and evaluated wherever a minimisation looks at it.

Newton's method looks at a loss in half a dozen places, its value here, its gradient or its
curvature there. Each place evaluates the same program on other operands, so that the user's
function is called once, and what stands for it is known by its text: see `_kept`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt import _jax
from kinkopt._typing import PyTree
from kinkopt.newton._point import scalar
from kinkopt.trace._program import Program, write_program


class OtherShapes(Exception):  # noqa: N818, it may be evaluated otherwise
  """Raised where a loss without its function is evaluated at other shapes than it was traced."""


def write_loss(
  fun: Callable[..., Any], params: PyTree, data: dict[str, Any], has_aux: bool
) -> Program:
  """Writes a loss down as the program of `(params, data) -> (value, aux)`."""

  # Made anew, so that JAX does not take it for one that it has traced: `fun` may have changed.
  def value_and_aux(params: PyTree, data: dict[str, Any]) -> tuple[jax.Array, Any]:
    return _checked(fun(params, **data), has_aux)

  return write_program("minimize", value_and_aux, (params, data), 0)


def _checked(found: Any, has_aux: bool) -> tuple[jax.Array, Any]:
  value, aux = found if has_aux else (found, None)
  return scalar("fun", value), aux


class Form(NamedTuple):
  """The trees that a traced loss takes and gives; of the first, the shapes and dtypes too."""

  taken: Any
  leaves: tuple[tuple[tuple[int, ...], Any], ...]
  given: Any

  @classmethod
  def of(cls, program: Program) -> "Form":
    avals = [variable.aval for variable in _jax.closed(program.code)[0].invars]
    leaves = tuple((aval.shape, aval.dtype) for aval in avals)
    return cls(jax.tree.structure(program.args), leaves, jax.tree.structure(program.result))


def without_constants(program: Program) -> Any:
  """Gives the code of a program whose constants are its first operands, so that none is held."""
  code, constants = _jax.closed(program.code)

  def run(constants: list[Any], operands: list[Any]) -> list[Any]:
    return _jax.evaluate(code, constants, operands)

  operands = [jax.ShapeDtypeStruct(*leaf) for leaf in Form.of(program).leaves]
  return _jax.closed(_jax.trace(run, list(constants), operands)[0])[0]


class Loss:
  """A traced loss with what it is evaluated on beside the parameters.

  Args:
    form: what it takes and gives.
    run: evaluates its program on leaves.
    data: by name.
    fun: takes over where the shapes or dtypes are others, as in a line search of Optax that leaves
      bfloat16. None: `OtherShapes` is raised there.
    has_aux: whether `fun` returns something else besides the loss.
  """

  def __init__(
    self,
    form: Form,
    run: Callable[[list[Any]], list[Any]],
    data: dict[str, Any],
    fun: Callable[..., Any] | None = None,
    has_aux: bool = False,
  ):
    self._form, self._run, self.data = form, run, data
    self._fun, self._has_aux = fun, has_aux

  @classmethod
  def traced(
    cls, fun: Callable[..., Any], params: PyTree, data: dict[str, Any], has_aux: bool
  ) -> "Loss":
    """Traces a loss; what it closes over may be traced itself."""
    program = write_loss(fun, params, data, has_aux)
    run = functools.partial(_jax.evaluate, *_jax.closed(program.code))
    return cls(Form.of(program), run, data, fun, has_aux)

  def value_and_aux(self, params: PyTree, **named: Any) -> tuple[jax.Array, Any]:
    """Gives the loss and what else the function returns; `named` replace some of the data."""
    data = {**self.data, **named}
    operands, taken = jax.tree.flatten((params, data))
    if taken == self._form.taken and tuple(map(_shape_of, operands)) == self._form.leaves:
      found = self._run(list(map(jnp.asarray, operands)))
      return jax.tree.unflatten(self._form.given, found)
    if self._fun is None:
      raise OtherShapes
    return _checked(self._fun(params, **data), self._has_aux)


def _shape_of(operand: Any) -> tuple[tuple[int, ...], Any]:
  dtype = operand.dtype if hasattr(operand, "dtype") else jnp.result_type(operand)
  return np.shape(operand), dtype
