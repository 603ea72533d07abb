"""A point on a kink is left for one beside it, where every rule must agree.

At a tie JAX picks a convention, and a custom rule may pick another; neither is wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt._numerics import machine_eps
from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import is_inexact
from kinkopt.gradcheck._directions import direction
from kinkopt.kinks import SiteStatus

# In units of a leaf's root mean square.
_NUDGE = 2.0**-10


def tied(found: Sequence[SiteStatus]) -> tuple[SiteStatus, ...]:
  """Picks the kinks that the point is on."""
  return tuple(status for status in found if int(status.moving_ties))


def beside_kinks(
  args: tuple[PyTree, ...], argnums: Sequence[int], key: jax.Array
) -> Iterator[tuple[PyTree, ...]]:
  """Gives points beside a point: to all sides at random, all upwards, all downwards.

  A function may be finite on one side of its kink only.
  """
  for turn in (lambda way: way, jnp.abs, lambda way: -jnp.abs(way)):
    moved = list(args)
    for place, n in enumerate(argnums):
      leaves, tree = jax.tree.flatten(args[n])
      keys = jax.random.split(jax.random.fold_in(key, 2 + place), max(len(leaves), 1))
      moved[n] = tree.unflatten([_nudged(k, leaf, turn) for k, leaf in zip(keys, leaves)])
    yield tuple(moved)


def _nudged(key: jax.Array, leaf: Any, turn: Callable[[jax.Array], jax.Array]) -> Any:
  if not is_inexact(leaf):
    return leaf
  leaf = jnp.asarray(leaf)
  wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
  size = jnp.sqrt(jnp.mean(jnp.square(jnp.abs(wide)))) if leaf.size else 1.0
  step = jnp.where(size > 0, size, 1.0) * max(_NUDGE, 4 * machine_eps(leaf.dtype))
  return (wide + step * turn(direction(key, wide))).astype(leaf.dtype)
