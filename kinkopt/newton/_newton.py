"""Newton's method as a link of an Optax chain.

`scale_by_newton` puts the gradient through the inverse Hessian, as `optax.scale_by_lbfgs` does with
an estimate of it: curvature from `_curvature`, direction from `_solver`, and here the tree, the
checks and the state. How far to go along the direction is the next link's business: a learning rate
or one of Optax's line searches.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kinkopt._checks import NON_NEGATIVE, check_floating, check_number, check_same_tree
from kinkopt._coordinates import leaf_names, ravel_real
from kinkopt._typing import PyTree
from kinkopt.newton._curvature import dense_hessian
from kinkopt.newton._solver import Outcome, shifted_cholesky


class ScaleByNewtonState(NamedTuple):
  """How the last update came about."""

  count: jax.Array  # int32[]; stays at its largest value instead of wrapping round
  outcome: jax.Array  # int32[]; the code of an `Outcome`
  shift: jax.Array  # float[]; the multiple of the identity that was added, damping included


def scale_by_newton(damping: optax.ScalarOrSchedule = 0.0) -> optax.GradientTransformationExtraArgs:
  """Multiplies the gradient by the inverse of the Hessian, and never climbs.

  The update is `p = (H + shift I)^-1 g`, where `g` is the incoming update and `H` the Hessian of
  `value_fn` at `params`. The shift is `damping` if that makes the matrix positive definite, and is
  grown until it does otherwise. The loss and its data come as they do for Optax's line searches::

      tx.update(grads, state, params, value_fn=loss, batch=batch)

  where `batch` stands for any argument of `loss` after the parameters; names that `loss` does not
  have are left to other links. As in `optax.scale_by_lbfgs` the sign is `+`: put `optax.scale(-1)`
  or a learning rate behind it. Without one the chain climbs.

  Args:
    damping: a number >= 0 or a schedule `count -> number`, added to the diagonal of the Hessian;
      unit: that of the Hessian. 0 is Newton's method; more shortens steps where the curvature is
      small.

  Returns:
    A transformation whose updates have the gradient's dtypes. Its state holds `count` and
    `outcome` (int32; see `kinkopt.newton.outcome`) and `shift`, of the dtype that is solved in.

  Raises:
    ValueError: if `damping` is negative; at `update`, if `params` or `value_fn` is missing, if the
      trees or shapes of gradient and parameters differ, or under `optax.masked`.
    TypeError: if a leaf is not floating point, if only one of a parameter and its gradient is
      complex, or if `value_fn` does not return one real number.

  Numerics:
    The update is finite and `<g, p> > 0`, or it is the gradient itself, or zero: the gradient where
    the Hessian holds NaN or infinity or is zero, and zero where the gradient holds NaN or infinity
    (so that a chain stays where it is). At a point where the gradient is exactly zero, a saddle or
    a maximum too, the update is zero. A coordinate of the update below the smallest number of its
    dtype is 0. Everything is solved in the widest dtype of parameters and gradient, float32 at the
    least, and costs a dense Hessian: memory n**2, the time of n gradients and n**3 / 6
    multiplications, for n real coordinates; each larger shift costs the latter again.

    Complex parameters count as pairs of reals. As everywhere in Optax the incoming gradient is
    the conjugate of what `jax.grad` gives.

    In `optax.MultiSteps` the Hessian is that of `value_fn` with the arguments of the last call
    alone, and is computed in every call. `optax.masked` and `optax.partition` hand down only a
    part of the parameters, which `value_fn` cannot be called with: an error says so.
    `optax.flatten` hands down one vector: there `value_fn` must take that.

    Forward and reverse derivatives of the update (an unrolled optimizer) pass through the solve.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import kinkopt
    >>> loss = lambda x: jnp.sum(jnp.cos(x))  # a maximum at 0, a minimum at pi
    >>> params = jnp.array([0.3, 0.4])
    >>> tx = optax.chain(
    ...   kinkopt.newton.scale_by_newton(),
    ...   optax.scale(-1),
    ...   optax.scale_by_backtracking_linesearch(max_backtracking_steps=20),
    ... )
    >>> state = tx.init(params)
    >>> for _ in range(8):
    ...   value, grads = jax.value_and_grad(loss)(params)
    ...   updates, state = tx.update(
    ...     grads, state, params, value=value, grad=grads, value_fn=loss
    ...   )
    ...   params = optax.apply_updates(params, updates)
    >>> print(params.round(4), kinkopt.newton.outcome(state).name)
    [3.1416 3.1416] NEWTON

  References:
    CS231n notes, "Second order methods"; Nocedal and Wright, "Numerical Optimization" (2006),
    section 3.4 and Algorithm 3.3.
  """
  advice = "It is added to the diagonal of the Hessian; 0 is Newton's method."
  check_number("scale_by_newton", "damping", damping, NON_NEGATIVE, advice, accepts_schedule=True)

  def init(params: optax.Params) -> ScaleByNewtonState:
    check_floating("scale_by_newton", params, "parameters")
    return ScaleByNewtonState(
      count=jnp.zeros([], jnp.int32),
      outcome=jnp.array(Outcome.NOT_STARTED.code, jnp.int32),
      shift=jnp.zeros([], jax.eval_shape(lambda p: ravel_real(p)[0], params).dtype),
    )

  def update(
    updates: optax.Updates,
    state: ScaleByNewtonState,
    params: optax.Params | None = None,
    *,
    value_fn: Callable[..., ArrayLike] | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, ScaleByNewtonState]:
    value_fn = _check_update(updates, params, value_fn)
    gradient, unravel = ravel_real(updates)
    count = optax.safe_increment(state.count)
    hessian = dense_hessian(value_fn, params, **_arguments_of(value_fn, extra_args))
    if gradient.size == 0:
      outcome = jnp.array(Outcome.NEWTON.code, jnp.int32)
      return updates, ScaleByNewtonState(count, outcome, state.shift)
    dtype = jnp.result_type(hessian, gradient)
    step = shifted_cholesky(
      hessian.astype(dtype),
      gradient.astype(dtype),
      damping(state.count) if callable(damping) else damping,
      largest=min(float(jnp.finfo(jnp.result_type(leaf)).max) for leaf in jax.tree.leaves(updates)),
    )
    shift = step.shift.astype(state.shift.dtype)
    return unravel(step.direction), ScaleByNewtonState(count, step.outcome, shift)

  return optax.GradientTransformationExtraArgs(init, update)


def newton(
  learning_rate: optax.ScalarOrSchedule = 1.0, *, damping: optax.ScalarOrSchedule = 0.0
) -> optax.GradientTransformationExtraArgs:
  """Newton's method: the gradient, divided by the curvature.

  The class notes write::

      x <- x - [Hf(x)]^-1 grad f(x)

  Call it with the loss: `tx.update(grads, state, params, value_fn=loss)`; see `scale_by_newton`.

  Args:
    learning_rate: a number >= 0 or a schedule `count -> number`; the share of the full step to
      take. 1 is Newton's method.
    damping: a number >= 0 or a schedule, added to the diagonal of the Hessian; unit: that of the
      Hessian.

  Returns:
    `optax.chain(scale_by_newton(damping), optax.scale_by_learning_rate(learning_rate))`.

  Raises:
    ValueError: if `learning_rate` or `damping` is negative; see `scale_by_newton` for `update`.
    TypeError: if one of them is not a number; see `scale_by_newton` for `update`.

  Numerics:
    Near a minimum with a positive definite Hessian the number of right digits doubles with every
    step; a quadratic is solved in one. Far from one a full step may raise the loss, although its
    direction descends: chain `scale_by_newton` with a line search there.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import kinkopt
    >>> loss = lambda x: 50 * (x[0] - 1) ** 2 + 0.5 * (x[1] + 2) ** 2
    >>> params = jnp.array([5.0, 5.0])
    >>> tx = kinkopt.newton.newton()
    >>> updates, state = tx.update(jax.grad(loss)(params), tx.init(params), params, value_fn=loss)
    >>> print(optax.apply_updates(params, updates))
    [ 1. -2.]
    >>> print(kinkopt.newton.outcome(state).value)
    The damped Hessian is positive definite: the update is the full Newton step.

  References:
    CS231n notes, "Second order methods"; Nocedal and Wright, "Numerical Optimization" (2006).
  """
  advice = "It is the share of the Newton step to take; the minus sign is the rule's own."
  check_number(
    "newton", "learning_rate", learning_rate, NON_NEGATIVE, advice, accepts_schedule=True
  )
  return optax.chain(scale_by_newton(damping), optax.scale_by_learning_rate(learning_rate))


def outcome(opt_state: optax.OptState) -> Outcome:
  """Says what the last Newton update was, from inside the state of any chain.

  Args:
    opt_state: the state of `newton`, `scale_by_newton`, or any Optax wrapper or chain of one.

  Returns:
    An `Outcome`, whose `value` is a sentence.

  Raises:
    ValueError: if the state holds none or several Newton states, a whole batch of outcomes, or a
      traced one.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> print(kinkopt.newton.outcome(kinkopt.newton.newton().init(jnp.zeros(2))).value)
    No update has been made yet.
  """

  def is_newton(node: PyTree) -> bool:
    return isinstance(node, ScaleByNewtonState)

  found = [node for node in jax.tree.leaves(opt_state, is_leaf=is_newton) if is_newton(node)]
  if len(found) != 1:
    raise ValueError(
      f"`outcome` looks for the state of one `scale_by_newton`, but found {len(found)} in a "
      f"{type(opt_state).__name__}. Pass the state that the optimizer's `init` or `update` "
      "returned, or the part of it that belongs to one `scale_by_newton`."
    )
  code = found[0].outcome
  if isinstance(code, jax.core.Tracer):
    raise ValueError(
      "`outcome` makes a sentence of a number, which has no value yet inside `jit`, `vmap` or "
      "`scan`. Call it on the state that comes out; inside, compare "
      "`state.outcome == Outcome.NEWTON.code`."
    )
  if jnp.shape(code) != ():
    raise ValueError(
      f"`outcome` tells one outcome, but this state holds an array of them, of shape "
      f"{jnp.shape(code)}. Take one member first: "
      "`outcome(jax.tree.map(lambda leaf: leaf[0], opt_state))`."
    )
  return list(Outcome)[int(code)]


def _check_update(
  updates: optax.Updates, params: optax.Params | None, value_fn: Callable[..., ArrayLike] | None
) -> Callable[..., ArrayLike]:
  """Checks what `update` was called with; returns `value_fn`, which then is not None."""
  for name, argument in (("params", params), ("value_fn", value_fn)):
    if argument is None:
      raise ValueError(
        f"`scale_by_newton` needs `{name}` to compute the Hessian, but `update` was called without "
        "it. Call `tx.update(grads, state, params, value_fn=loss)`."
      )
  assert value_fn is not None
  _check_unmasked(params)
  check_floating("scale_by_newton", params, "parameters")
  check_same_tree("scale_by_newton", "gradient", updates, "parameters", params)
  check_floating("scale_by_newton", updates, "gradients")
  for index, (g, p) in enumerate(zip(jax.tree.leaves(updates), jax.tree.leaves(params))):
    if jnp.iscomplexobj(g) != jnp.iscomplexobj(p):
      raise TypeError(
        f"`scale_by_newton`: the gradient leaf `{leaf_names(params)[index]}` is "
        f"{jnp.result_type(g)}, but the parameter is {jnp.result_type(p)}. Both must be real or "
        "both complex, because a complex number counts as two coordinates."
      )
  return value_fn


def _check_unmasked(params: optax.Params) -> None:
  def is_masked(node: PyTree) -> bool:
    return isinstance(node, optax.MaskedNode)

  nodes = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_masked)
  masked = [jax.tree_util.keystr(path) for path, node in nodes if is_masked(node)]
  if masked:
    raise ValueError(
      f"`scale_by_newton` was given parameters without `{masked[0]}`: `optax.masked` or "
      "`optax.partition` took it away, and `value_fn` cannot be called with the rest. Leave the "
      "mask out and give only the parameters to be optimised, with a `value_fn` of those alone: "
      "`lambda part: loss({**frozen, **part})`."
    )


def _arguments_of(value_fn: Callable[..., ArrayLike], extra_args: dict[str, Any]) -> dict[str, Any]:
  """Picks the extra arguments that `value_fn` names, as Optax's line searches do."""
  names = inspect.signature(value_fn).parameters
  return {name: argument for name, argument in extra_args.items() if name in names}
