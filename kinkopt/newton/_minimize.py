"""Minimises a function by any Optax transform, in one compiled loop."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kinkopt import _jax
from kinkopt._checks import NON_NEGATIVE, Interval, check_floating, check_integer, check_number
from kinkopt._coordinates import split_real
from kinkopt._numerics import machine_eps
from kinkopt.newton._implicit import minimiser
from kinkopt.newton._kept import has_own_functions, programs_of
from kinkopt.newton._lanes import Loop
from kinkopt.newton._lanes import loop as lanes_loop
from kinkopt.newton._loss import Form, Loss, OtherShapes, without_constants, write_loss
from kinkopt.newton._newton import newton
from kinkopt.newton._point import with_names
from kinkopt.newton._rounds import Rounds
from kinkopt.newton._solution import Solution
from kinkopt.trace._program import Program

NEWTON = newton()  # one object, so that one compiled loop serves all calls without an optimizer


def minimize(
  fun: Callable[..., Any],
  params: optax.Params,
  optimizer: optax.GradientTransformation = NEWTON,
  *,
  data: Mapping[str, Any] | None = None,
  tol: float | jax.Array | None = None,
  max_steps: int = 1000,
  has_aux: bool = False,
  callback: Callable[[int, float, float], None] | None = None,
  batch_size: int | None = None,
) -> Solution:
  """Minimises a function of a pytree, by Newton's method or any chain of Optax.

  Each link of the chain is handed what it may ask for: `value`, `grad`, `value_fn` and the data.

  Args:
    fun: `(params, **data) -> loss`, one real number; with `has_aux`, `(loss, aux)`.
    params: where to start; a tree of floating or complex arrays.
    optimizer: `newton()` by default. Keep the object if you call often: the loop is compiled once
      for each optimizer and each text that `fun` is traced to, whatever arrays it closes over; once
      for each `fun`, if functions of your own stand in the optimizer.
    data: further arguments of `fun`, by name.
    tol: what no coordinate of the gradient may exceed in the end, in the unit of the gradient. None
      takes `sqrt(machine_eps)` of the parameters' widest dtype.
    max_steps: the most updates.
    has_aux: whether `fun` returns something else besides the loss.
    callback: called with the number of the step, the loss and the size of the gradient, after each
      step, from wherever the device stands; `kinkopt.newton.ProgressBar` is one.
    batch_size: how many problems run at once under `jax.vmap`. None takes 16 on a CPU, and 1024
      elsewhere; where a problem is done, the next takes its place.

  Returns:
    A `Solution`; its `reason` says why it ended.

  Raises:
    TypeError: if a leaf of `params` is not floating point, `fun` does not return one real number,
      or an option is no number.
    ValueError: if `tol` or `max_steps` is negative, or `batch_size` is not at least 1.

  Numerics:
    Steps from which loss or gradient come back NaN or infinite are not taken, and end it. Under
    `vmap` each problem stops by itself, and none changes a bit of another.

    `Solution.params` and `value` have derivatives with respect to whatever `fun` depends on, `data`
    or closed over, forward and reverse, at the cost of one solve with the Hessian, whatever the
    number of steps (the implicit function theorem). They are right as far as the gradient is zero
    there, and NaN where the Hessian is not positive definite. The start has no part in them.

  Differs from Optax:
    Optax leaves the loop to you.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> def rosenbrock(x, a=1.0):
    ...   return (a - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> found = kinkopt.minimize(rosenbrock, jnp.array([-1.2, 1.0]))
    >>> print(found.params.round(3), found.reason.name)
    [1. 1.] CONVERGED
    >>> where = lambda a: kinkopt.minimize(rosenbrock, jnp.zeros(2), data={"a": a}).params
    >>> print(jax.jacobian(where)(2.0).round(2))  # the minimum is at (a, a**2)
    [1. 4.]
  """
  advice = "close over counters and masks, or hand them on as `data`."
  check_floating("minimize", params, "parameters", advice)
  advice = "It is what no coordinate of the gradient may exceed in the end."
  if tol is not None:
    check_number("minimize", "tol", tol, NON_NEGATIVE, advice)
  check_integer("minimize", "max_steps", max_steps, NON_NEGATIVE, "It counts updates.")
  if batch_size is not None:
    advice = "It is how many problems run at once under `jax.vmap`."
    check_integer("minimize", "batch_size", batch_size, Interval(1, math.inf), advice)
  if not isinstance(optimizer, optax.GradientTransformation):
    raise TypeError(
      f"`minimize(optimizer=...)` must be an Optax transform, but is {optimizer!r}. Pass, say, "
      "`kinkopt.newton.newton()` or `optax.lbfgs()`."
    )
  params = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), params)
  operands = params, dict(data or {}), tol, jnp.int32(max_steps)
  way = _Way(optimizer, has_aux, callback, batch_size)
  if not (_jax.is_traced() or has_own_functions(optimizer)):
    found = _by_text(fun, way, operands)
    if found is not None:
      return found
  return _minimize(*operands, fun=fun, way=way)


class _Way(NamedTuple):
  """How a loss is minimised, all but the numbers."""

  optimizer: optax.GradientTransformation
  has_aux: bool
  callback: Callable[[int, float, float], None] | None
  batch_size: int | None


@functools.partial(jax.jit, static_argnames=("fun", "way"))
def _minimize(
  params: optax.Params,
  data: dict[str, Any],
  tol: ArrayLike | None,
  max_steps: jax.Array,
  *,
  fun: Callable[..., Any],
  way: _Way,
) -> Solution:
  loss = Loss.traced(fun, params, data, way.has_aux)
  value_fn, loop = _posed(loss, way, params, tol, max_steps)
  _, join = split_real(params)

  def gradient(parts: list[jax.Array]) -> list[jax.Array]:
    return jax.grad(lambda parts: value_fn(join(parts)))(parts)

  end = minimiser(loop, gradient, params)
  value, aux = loss.value_and_aux(end.params)  # once more, since the loop has no derivative
  return Solution(end.params, value, end.size, end.steps, end.stopped, end.state, aux)


def _by_text(fun: Callable[..., Any], way: _Way, operands: tuple[Any, ...]) -> Solution | None:
  """Minimises by what was compiled for a program of the same text; None: nothing can be kept."""
  params, data, *_ = operands
  write = functools.partial(write_loss, fun, params, data, way.has_aux)
  program = write()
  kept = programs_of(write, program, (Form.of(program), way))
  if kept is None:
    return None
  if "run" not in kept:
    kept["run"] = _compiled(program, way)
  try:
    return kept["run"] and kept["run"](list(_jax.closed(program.code)[1]), *operands)
  except OtherShapes:
    kept["run"] = None
    return None


def _compiled(program: Program, way: _Way) -> Callable[..., Solution]:
  form, code = Form.of(program), without_constants(program)

  @jax.jit
  def _minimize(constants: list[Any], params: Any, data: Any, tol: Any, max_steps: Any) -> Solution:
    run = lambda leaves: _jax.evaluate(code, [], [*constants, *leaves])  # noqa: E731
    loss = Loss(form, run, data)
    _, loop = _posed(loss, way, params, tol, max_steps)
    end = loop.carry.unflatten(loop.run(loop.constants, jax.tree.leaves(params)))
    value, aux = loss.value_and_aux(end.params) if way.has_aux else (end.value, None)
    return Solution(end.params, value, end.size, end.steps, end.stopped, end.state, aux)

  return _minimize


def _posed(
  loss: Loss, way: _Way, params: optax.Params, tol: ArrayLike | None, max_steps: jax.Array
) -> tuple[Callable[..., jax.Array], Loop]:
  """Gives the loss alone, as an optimizer asks for it, and the loop that minimises it."""
  if tol is None:
    parts, _ = split_real(params)
    tol = machine_eps(parts[0].dtype if parts else jnp.float32) ** 0.5

  def value_fn(params: optax.Params, **named: Any) -> jax.Array:
    return loss.value_and_aux(params, **named)[0]

  with_names(value_fn, loss.data)
  optimizer = optax.with_extra_args_support(way.optimizer)
  rounds = Rounds(value_fn, optimizer, loss.data, tol, max_steps, way.callback)
  return value_fn, lanes_loop(rounds.begin, rounds.advance, rounds.is_done, params, way.batch_size)
