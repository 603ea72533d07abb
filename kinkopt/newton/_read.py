"""Reads the outcome of the last Newton update out of any state."""

import jax
import jax.numpy as jnp
import optax

from kinkopt._typing import PyTree
from kinkopt.newton._newton import NewtonState
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._scale_by_newton import ScaleByNewtonState


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
    return isinstance(node, ScaleByNewtonState | NewtonState)

  found = [node for node in jax.tree.leaves(opt_state, is_leaf=is_newton) if is_newton(node)]
  if len(found) != 1:
    raise ValueError(
      f"`outcome` looks for the state of one `newton` or `scale_by_newton`, but found {len(found)} "
      f"in a {type(opt_state).__name__}. Pass the state that the optimizer's `init` or `update` "
      "returned, or the part of it that belongs to one of them."
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
