"""What a minimisation found, and why it stopped there, as a sentence."""

import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Stop(enum.Enum):
  """Why a minimisation ended, as a sentence; `Solution.stopped` holds its `code`.

  Example:
    >>> import kinkopt
    >>> print(kinkopt.newton.Stop.CONVERGED.code, kinkopt.newton.Stop.CONVERGED.value)
    1 No coordinate of the gradient is above `tol`.
  """

  NOT_YET = "It has not ended."
  CONVERGED = "No coordinate of the gradient is above `tol`."
  PRECISION_FLOOR = (
    "The gradient is still above `tol`, but the loss falls no further than rounding lets it: a "
    "smaller gradient needs a wider dtype, or the loss in better units."
  )
  MAX_STEPS = "The gradient is still above `tol` after `max_steps` updates."
  NO_DESCENT = (
    "The optimizer made no step any more, though the gradient is above `tol`: its line search or "
    "its trials found no lower loss. Check the gradient with `kinkopt.check_gradient`."
  )
  UPHILL = (
    "Each of the first updates climbed: a chain that ends with `scale_by_newton`, `scale_by_lbfgs` "
    "or `scale_by_adam` needs `optax.scale(-1)` or a learning rate behind it."
  )
  NOT_FINITE = (
    "The loss or its gradient became NaN or infinite: the parameters are the last where they were "
    "not, or the first, if they were so there."
  )

  @property
  def code(self) -> int:
    """The number that stands for this reason in a solution: its place in the list."""
    return list(Stop).index(self)


class Solution(NamedTuple):
  """Where a minimisation ended, all arrays, with a leading axis under `vmap`."""

  params: Any  # like the first parameters
  value: jax.Array  # the loss there
  gradient_size: jax.Array  # float[]; the largest magnitude in the gradient there
  steps: jax.Array  # int32[]; how many updates were made
  stopped: jax.Array  # int32[]; the code of a `Stop`
  state: optax.OptState  # of the optimizer
  aux: Any = None  # what else the function returns, there

  @property
  def reason(self) -> Stop:
    """Why it ended.

    Raises:
      ValueError: if the solution is traced, or a batch of solutions.
    """
    if isinstance(self.stopped, jax.core.Tracer):
      raise ValueError(
        "`Solution.reason` makes a sentence of a number, which has no value yet inside `jit`, "
        "`vmap` or `grad`. Ask the solution that comes out; inside, compare "
        "`solution.stopped == Stop.CONVERGED.code`."
      )
    if jnp.shape(self.stopped) != ():
      raise ValueError(
        f"`Solution.reason` tells one reason, but this is a batch of solutions of shape "
        f"{jnp.shape(self.stopped)}. Take one member first: "
        "`jax.tree.map(lambda leaf: leaf[0], solution).reason`."
      )
    return list(Stop)[int(self.stopped)]
