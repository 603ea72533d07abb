"""A point on a kink is left for one beside it, where every rule must agree.

At a tie JAX picks a convention, and a custom rule may pick another; neither is wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._numerics import machine_eps
from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import is_inexact
from kinkopt.gradcheck._directions import Seed, direction, fold
from kinkopt.kinks import SiteStatus

# In units of a leaf's root mean square.
_NUDGE = 2.0**-10


def tied(found: Sequence[SiteStatus]) -> tuple[SiteStatus, ...]:
  """Picks the kinks that the point is on."""
  return tuple(status for status in found if int(status.moving_ties))


def beside_kinks(
  args: tuple[PyTree, ...], argnums: Sequence[int], seed: Seed
) -> Iterator[tuple[PyTree, ...]]:
  """Gives points beside a point: to all sides at random, all upwards, all downwards.

  A function may be finite on one side of its kink only.
  """
  for turn in (lambda way: way, np.abs, lambda way: -np.abs(way)):
    moved = list(args)
    for place, n in enumerate(argnums):
      leaves, tree = jax.tree.flatten(args[n])
      own = fold(seed, 2 + place)
      moved[n] = tree.unflatten([_nudged(fold(own, i), x, turn) for i, x in enumerate(leaves)])
    yield tuple(moved)


def _nudged(seed: Seed, leaf: Any, turn: Callable[[np.ndarray], np.ndarray]) -> Any:
  if not is_inexact(leaf):
    return leaf
  wide = np.asarray(leaf).astype(jnp.promote_types(leaf.dtype, jnp.float32))
  size = np.sqrt(np.mean(np.square(np.abs(wide)))) if leaf.size else 1.0
  step = (size if size > 0 else 1.0) * max(_NUDGE, 4 * machine_eps(leaf.dtype))
  moved = wide + step * turn(direction(seed, wide.shape, wide.dtype))
  with jax.enable_x64(True):  # else NumPy's float64 would become float32
    return jax.device_put(moved.astype(leaf.dtype), leaf.sharding if leaf.committed else None)
