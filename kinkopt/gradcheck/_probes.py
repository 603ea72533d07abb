"""The two programs of a check, at one point: what is evaluated, and what the gradient claims.

Both are replays in float64 of what JAX traced; the first has its winners fixed. A probe moves a
stretch of one leaf's coordinates along a random direction, and sees how far the value moves.
Everything here is a pure function of arrays, to be used inside one trace.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kinkopt._coordinates import leaf_names
from kinkopt._numerics import abs_sq
from kinkopt._typing import PyTree
from kinkopt.gradcheck._directions import direction, leaf_keys
from kinkopt.kinks import freeze, in_float64


class Probe(NamedTuple):
  """Where to look; scalars, or arrays of one shape."""

  leaf: jax.Array  # number of the leaf, among those with a gradient
  draw: jax.Array  # number of its direction
  low: jax.Array  # the first of the leaf's coordinates that moves, row-major
  high: jax.Array  # the first after it that does not


class Rise(NamedTuple):
  """What was seen along a probe; `k` steps."""

  right: jax.Array  # the values at the steps along the direction, [k]
  left: jax.Array  # and against it
  steps: jax.Array  # in the unit of the leaf, [k]
  claim: jax.Array  # the derivative along the direction by the gradient, []


class Point:
  """A function at a point, traced and ready to be probed.

  Attributes:
    names: of the leaves that have a gradient.
    leaves: their values, float64 or complex128.
    units: the root mean square of each, to measure steps in.
  """

  def __init__(
    self,
    fun: Callable[..., PyTree],
    args: tuple[PyTree, ...],
    argnums: Sequence[int],
    key: jax.Array,
    through_stop_gradient: bool = False,
    is_scalar: bool = False,
  ):
    """Traces `fun` in the dtypes of `args`.

    Args:
      fun: what is checked; of pytrees, any number of outputs.
      args: the point.
      argnums: which arguments move, >= 0.
      key: decides the directions, and the weights of the outputs.
      through_stop_gradient: whether `stop_gradient` is left out of what is evaluated.
      is_scalar: whether the only output keeps the weight 1, as a handed gradient demands.
    """
    self.fun, self.args, self.argnums = fun, args, tuple(argnums)
    self.frozen = freeze(
      fun, *args, argnums=self.argnums, through_stop_gradient=through_stop_gradient
    )
    self.replay = self._replay(custom_rules=True)
    moving = [args[argnum] for argnum in self.argnums]
    named = moving[0] if len(moving) == 1 else dict(zip(self.argnums, moving))
    everything, self.tree = jax.tree.flatten(moving)
    self.places = [i for i, leaf in enumerate(everything) if is_inexact(leaf)]
    self.names = [leaf_names(named)[i] for i in self.places]
    keys = leaf_keys(jax.random.fold_in(key, 0), named)
    self.keys = [keys[i] for i in self.places]
    with jax.enable_x64(True):
      self.everything = everything
      self.leaves = [wide(everything[i]) for i in self.places]
      outputs = jax.eval_shape(self.frozen, *self.joined(self.leaves))
      keys = leaf_keys(jax.random.fold_in(key, 1), outputs)
      self.weights = [
        jnp.ones((), out.dtype) if is_scalar else direction(k, out) if is_inexact(out) else None
        for k, out in zip(keys, jax.tree.leaves(outputs))
      ]
      self.units = list(map(_unit, self.leaves))

  def joined(self, leaves: Sequence[jax.Array]) -> list[PyTree]:
    """Gives the moved arguments."""
    everything = list(self.everything)
    for place, leaf in zip(self.places, leaves, strict=True):
      everything[place] = leaf
    return jax.tree.unflatten(self.tree, everything)

  def contracted(self, outputs: PyTree) -> jax.Array:
    """Weighs the outputs: the one number that is differenced and differentiated."""
    pairs = zip(self.weights, jax.tree.leaves(outputs), strict=True)
    return sum((jnp.sum(jnp.real(c * y)) for c, y in pairs if c is not None), jnp.float64(0))

  def _replay(self, custom_rules: bool) -> Callable[..., PyTree]:
    return in_float64(self.fun, like=self.args, argnums=self.argnums, custom_rules=custom_rules)

  def value_and_claim(self, custom_rules: bool = True) -> tuple[jax.Array, list[jax.Array]]:
    """Gives the value at the point, and JAX's gradient, by the program's own rules or without."""
    replay = self.replay if custom_rules else self._replay(custom_rules=False)

    def evaluated(leaves: Sequence[jax.Array]) -> jax.Array:
      args = list(self.args)
      for argnum, value in zip(self.argnums, self.joined(leaves)):
        args[argnum] = value
      return self.contracted(replay(*args))

    with jax.enable_x64(True):
      return jax.value_and_grad(evaluated)(self.leaves)

  def along(self, probe: Probe) -> list[jax.Array]:
    """Gives the direction of a probe: 0 for all leaves but one."""
    return [
      jax.lax.cond(
        probe.leaf == number,
        lambda leaf=leaf, key=key: _drawn(key, leaf, probe),
        lambda leaf=leaf: jnp.zeros_like(leaf),
      )
      for number, (leaf, key) in enumerate(zip(self.leaves, self.keys))
    ]

  def look(self, claim: Sequence[jax.Array], probe: Probe, steps: jax.Array) -> Rise:
    """Moves along a probe, by multiples of the leaf's unit.

    Args:
      claim: the gradient, leaf by leaf.
      probe: where.
      steps: how far, [k].
    """
    with jax.enable_x64(True):
      way = self.along(probe)
      steps = steps * jnp.stack(self.units)[probe.leaf]

      def evaluate(step: jax.Array) -> jax.Array:
        moved = [leaf + step * v for leaf, v in zip(self.leaves, way)]
        return self.contracted(self.frozen(*self.joined(moved)))

      def both(step: jax.Array) -> jax.Array:
        return jax.vmap(evaluate)(jnp.stack([step, -step]))

      right, left = jax.lax.map(both, steps).T
      rate = sum((product(g, v) for g, v in zip(claim, way)), jnp.float64(0))
      return Rise(right, left, steps, rate)


def norm(leaf: jax.Array) -> jax.Array:
  """Gives the Euclidean norm; of complex numbers, of both parts."""
  return jnp.sqrt(jnp.sum(abs_sq(leaf)))


def product(gradient: jax.Array, direction: jax.Array) -> jax.Array:
  """Gives the derivative along a direction; JAX's gradient of x + iy is df/dx - i df/dy."""
  return jnp.sum(jnp.real(gradient * direction))


def is_inexact(leaf: Any) -> bool:
  """Whether a leaf or a shape is real or complex floating point."""
  return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def wide(leaf: Any) -> jax.Array:
  """Casts to float64 or complex128."""
  leaf = jnp.asarray(leaf)
  return leaf.astype(jnp.complex128 if jnp.iscomplexobj(leaf) else jnp.float64)


def _drawn(key: jax.Array, leaf: jax.Array, probe: Probe) -> jax.Array:
  number = jax.lax.iota(probe.low.dtype, leaf.size).reshape(leaf.shape)
  is_moved = (probe.low <= number) & (number < probe.high)
  drawn = direction(jax.random.fold_in(key, probe.draw), leaf)
  return jnp.where(is_moved, drawn, jnp.zeros_like(drawn))


def _unit(leaf: jax.Array) -> jax.Array:
  """Gives the length to measure steps in: the root mean square of what is not 0, or else 1."""
  squares, count = jnp.sum(abs_sq(leaf)), jnp.sum(leaf != 0)
  is_usable = (squares > 0) & jnp.isfinite(squares)
  return jnp.where(is_usable, jnp.sqrt(squares / jnp.maximum(count, 1)), 1.0)
