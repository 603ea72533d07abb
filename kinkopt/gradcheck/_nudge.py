"""A point on a kink is left for one beside it, where every rule must agree.

At a tie JAX picks a convention, and a custom rule may pick another; neither is wrong.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt._numerics import machine_eps
from kinkopt._typing import PyTree
from kinkopt.gradcheck._directions import direction
from kinkopt.gradcheck._probes import is_inexact
from kinkopt.kinks import sites

# In units of a leaf's root mean square.
_NUDGE = 2.0**-10


def beside_kinks(
  fun: Callable[..., PyTree], args: tuple[PyTree, ...], argnums: int | Sequence[int], key: jax.Array
) -> tuple[tuple[PyTree, ...], tuple[str, ...]]:
  """Moves the point off its kinks, and names those that it was on."""
  find = jax.jit(lambda args: sites(fun, *args, argnums=argnums))
  ties = [status for status in find(args) if int(status.moving_ties)]
  if not ties:
    return args, ()
  moved = list(args)
  for place, n in enumerate([argnums] if isinstance(argnums, int) else argnums):
    leaves, tree = jax.tree.flatten(args[n])
    keys = jax.random.split(jax.random.fold_in(key, 2 + place), max(len(leaves), 1))
    moved[n] = tree.unflatten([_nudged(k, leaf) for k, leaf in zip(keys, leaves)])
  named = (f"{s.site} ties {int(s.moving_ties):,} times of {int(s.total):,}" for s in ties)
  return tuple(moved), tuple(named)


def _nudged(key: jax.Array, leaf: Any) -> Any:
  if not is_inexact(leaf):
    return leaf
  leaf = jnp.asarray(leaf)
  wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
  size = jnp.sqrt(jnp.mean(jnp.square(jnp.abs(wide)))) if leaf.size else 1.0
  step = jnp.where(size > 0, size, 1.0) * max(_NUDGE, 4 * machine_eps(leaf.dtype))
  return (wide + step * direction(key, wide)).astype(leaf.dtype)
