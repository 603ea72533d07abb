"""What a check sees, stage by stage: each a program that is compiled once."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._typing import PyTree
from kinkopt.gradcheck._blame import blame
from kinkopt.gradcheck._probes import Point, norm
from kinkopt.gradcheck._residuals import climb, look, prepare

# The first look: one pair of values, near the best step of a centered difference in float64.
_FIRST = 2.0**-18
# A rule that is off by less, relative to its derivative, is not blamed: both sides are rounded.
_UNBLAMED = 1e-7


class Stages:
  """One check: what was asked, and what each stage of it sees."""

  def __init__(
    self,
    fun: Callable[..., PyTree],
    argnums: int | Sequence[int],
    gradient: Callable[..., PyTree] | None,
    key: jax.Array,
    through_stop_gradient: bool,
    slack: float,
  ):
    self.fun, self.argnums, self.gradient, self.key = fun, argnums, gradient, key
    self.through_stop_gradient, self.slack = through_stop_gradient, slack
    self.evaluations = 0
    self.names: list[str] = []
    self.dtypes: list[str] = []
    self.opaque: tuple[str, ...] = ()

  def prepare(self, args: tuple[PyTree, ...]) -> tuple[Point, list[jax.Array]]:
    """Traces the function and its gradient; notes what is known of them from then on."""
    found = prepare(
      "check_gradient",
      self.fun,
      args,
      self.argnums,
      self.gradient,
      self.key,
      self.through_stop_gradient,
    )
    point = found[0]
    moving = jax.tree.leaves([args[argnum] for argnum in point.argnums])
    self.names, self.opaque = point.names, point.frozen.opaque
    self.dtypes = [str(jnp.result_type(moving[place])) for place in point.places]
    return found

  def first(self, args: tuple[PyTree, ...], probes: int) -> Any:
    """Looks along each direction at one step."""

    def run(args: tuple[PyTree, ...]) -> Any:
      point, claim = self.prepare(args)
      rows = [(number, draw) for number in range(len(claim)) for draw in range(probes)]
      rise = look(point, claim, rows, np.full((len(rows), 1), _FIRST))
      with jax.enable_x64(True):
        estimate = (rise.right - rise.left)[:, 0] / (2 * rise.steps[:, 0])
        norms, units = (jnp.stack(x) for x in (list(map(norm, claim)), point.units))
        table = [x.reshape(-1, probes) for x in (rise.claim, estimate)]
        return (*table, norms, units, claim, jnp.max(jnp.abs(rise.right)))

    found = jax.tree.map(np.array, jax.jit(run)(args))
    self.evaluations += 2 * found[0].size
    return found

  def ladder(self, args: tuple[PyTree, ...], numbers: Sequence[int], probes: int) -> Any:
    """Climbs the ladder for some leaves: the claim, the estimate, the bound, `[leaves, probes]`."""
    rows = [(number, draw) for number in numbers for draw in range(probes)]

    def run(args: tuple[PyTree, ...]) -> Any:
      return [x.reshape(-1, probes) for x in climb(*self.prepare(args), rows)]

    found = jax.tree.map(np.array, jax.jit(run)(args))
    self.evaluations += 20 * len(rows)
    return found

  def right_gradient(self, args: tuple[PyTree, ...], probes: int, numbers: Sequence[int]) -> Any:
    """Gives another gradient, and its claims along the directions; None where there is none.

    In the place of one that was handed in, JAX's; in the place of JAX's by the program's rules, the
    one without them.
    """
    rows = [(number, draw) for number in numbers for draw in range(probes)]

    def run(args: tuple[PyTree, ...]) -> Any:
      point, _ = self.prepare(args)
      other = point.value_and_claim(custom_rules=self.gradient is not None)[1]
      rise = look(point, other, rows, np.full((len(rows), 1), _FIRST))
      return [other[number] for number in numbers], rise.claim.reshape(-1, probes)

    try:
      return jax.tree.map(np.array, jax.jit(run)(args))
    except (ValueError, NotImplementedError):  # a loop that JAX does not differentiate backwards
      return None

  def blame(self, args: tuple[PyTree, ...]) -> tuple[str, ...]:
    """Names the custom rules that are wrong by themselves."""
    numbers = [self.argnums] if isinstance(self.argnums, int) else list(self.argnums)
    return blame(self.fun, args, numbers, self.key, _UNBLAMED)
