"""Newton's method as a link of an Optax chain.

`scale_by_newton` puts the gradient through the inverse Hessian, as `optax.scale_by_lbfgs` does with
an estimate of it: curvature from `_curvature`, direction from `_solver`, and here the tree, the
checks and the state. How far to go along the direction is the next link's business: a learning rate
or one of Optax's line searches.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kinkopt._checks import NON_NEGATIVE, check_floating, check_number
from kinkopt._coordinates import split_real
from kinkopt._numerics import compute_dtype
from kinkopt.newton._checks import check_strategy, check_update, state_dtype
from kinkopt.newton._curvature import Curvature, Hessian
from kinkopt.newton._eager import compiled
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._solver import Cholesky, Solver


class ScaleByNewtonState(NamedTuple):
  """How the last update came about."""

  count: jax.Array  # int32[]; stays at its largest value instead of wrapping round
  outcome: jax.Array  # int32[]; the code of an `Outcome`
  shift: jax.Array  # float[]; the multiple of the identity that was added, damping included


def scale_by_newton(
  damping: optax.ScalarOrSchedule = 0.0,
  *,
  curvature: Curvature = Hessian(),  # noqa: B008
  solver: Solver = Cholesky(),  # noqa: B008
) -> optax.GradientTransformationExtraArgs:
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
    curvature: which matrix `H` is: `Hessian()`, or `GaussNewton`, `BandedHessian`,
      `SparseHessian`, `BlockDiagonal`, `DiagonalHessian`.
    solver: how it is divided by: `Cholesky()`, or `Eigenvalues`, `LU`, or `ConjugateGradients`,
      which makes no matrix.

  Returns:
    A transformation whose updates have the gradient's dtypes. Its state holds `count` and
    `outcome` (int32; see `kinkopt.newton.outcome`) and `shift`, of the dtype that is solved in.

  Raises:
    ValueError: if `damping` is negative; at `update`, if `params` or `value_fn` is missing, if the
      trees or shapes of gradient and parameters differ, or under `optax.masked`.
    TypeError: if `curvature` or `solver` is none; at `update`, if a leaf is not floating point, if
      only one of a parameter and its gradient is complex, or if `value_fn` does not return one
      real number.

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

    Of Optax's line searches take `scale_by_zoom_linesearch` with `initial_guess_strategy="one"`:
    after one batch whose loss is NaN, `scale_by_backtracking_linesearch` tries no step again, ever.
    In float32 give the latter `rtol=1e-6`, or it backs off from what is only rounding.

    In `optax.MultiSteps` the Hessian is that of `value_fn` with the arguments of the last call
    alone, and is computed in every call. `optax.masked` and `optax.partition` hand down only a
    part of the parameters, which `value_fn` cannot be called with: an error says so, and
    `restricted` is the way.
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
  check_strategy("scale_by_newton", "curvature", curvature, Curvature)
  check_strategy("scale_by_newton", "solver", solver, Solver)

  def init(params: optax.Params) -> ScaleByNewtonState:
    check_floating("scale_by_newton", params, "parameters")
    return ScaleByNewtonState(
      count=jnp.zeros([], jnp.int32),
      outcome=jnp.array(Outcome.NOT_STARTED.code, jnp.int32),
      shift=jnp.zeros([], state_dtype(params)),
    )

  def update(
    updates: optax.Updates,
    state: ScaleByNewtonState,
    params: optax.Params | None = None,
    *,
    value_fn: Callable[..., ArrayLike] | None = None,
    **extra_args: Any,
  ) -> tuple[optax.Updates, ScaleByNewtonState]:
    point = check_update("scale_by_newton", updates, params, value_fn, extra_args)
    gradient, join = split_real(updates)
    count = optax.safe_increment(state.count)
    if point.size == 0:
      outcome = jnp.array(Outcome.NEWTON.code, jnp.int32)
      return updates, ScaleByNewtonState(count, outcome, state.shift)
    # A gradient may be wider than its parameter: then all is solved in its dtype.
    dtype = compute_dtype(point.dtype, *(part.dtype for part in gradient))
    point = point.astype(dtype)
    step = solver.direction(
      curvature.at(point),
      point,
      [part.astype(dtype) for part in gradient],
      jnp.asarray(damping(state.count) if callable(damping) else damping, dtype),
      largest=min(float(jnp.finfo(jnp.result_type(leaf)).max) for leaf in jax.tree.leaves(updates)),
    )
    shift = step.shift.astype(state.shift.dtype)
    return join(step.direction), ScaleByNewtonState(count, step.outcome, shift)

  return optax.GradientTransformationExtraArgs(init, compiled(update))
