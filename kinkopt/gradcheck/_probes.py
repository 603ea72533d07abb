"""The two programs of a check, at one point: what is evaluated, and what the gradient claims.

Both are replays in float64 of what JAX traced; the first has its winners fixed. A probe moves a
stretch of one leaf's coordinates along a random direction, and sees how far the value moves.
Everything here is a pure function of arrays, to be used inside one trace.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kinkopt._coordinates import leaf_names
from kinkopt._numerics import abs_sq
from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import is_inexact, without_hidden
from kinkopt.gradcheck._directions import direction, leaf_keys
from kinkopt.kinks import freeze, in_float64


class Probe(NamedTuple):
  """Where to look; scalars, or arrays of one shape."""

  leaf: jax.Array  # number of the leaf, among those with a gradient
  draw: jax.Array  # number of its direction
  low: jax.Array  # the first of the leaf's coordinates that moves, row-major
  high: jax.Array  # the first after it that does not
  is_upward: jax.Array  # whether all coordinates grow along the direction


class Rise(NamedTuple):
  """What was seen along a probe; `k` steps."""

  right: jax.Array  # the values at the steps along the direction, [k]
  left: jax.Array  # and against it
  steps: jax.Array  # in the unit of the leaf, [k]
  claim: jax.Array  # the derivative along the direction by the gradient, []
  length: jax.Array  # of the direction, []
  size: jax.Array  # of what the values are summed from, [k]: their rounding is in units of it


class Point:
  """A function at a point, traced and ready to be probed.

  Attributes:
    names: of the leaves that have a gradient.
    leaves: their values, float64 or complex128.
    units: the root mean square of each, to measure steps in.
    weight: of the only output, if that is a real scalar; else 1.
  """

  def __init__(
    self,
    fun: Callable[..., PyTree],
    args: tuple[PyTree, ...],
    argnums: Sequence[int],
    key: jax.Array,
    through_stop_gradient: bool = False,
    is_scalar: bool = False,
    claimed: Callable[..., PyTree] | None = None,
    intended: Sequence[str] = (),
    trusts_libraries: bool = False,
  ):
    """Traces `fun` in the dtypes of `args`.

    Args:
      fun: what is evaluated; of pytrees, any number of outputs.
      args: the point.
      argnums: which arguments move, >= 0.
      key: decides the directions, and the weights of the outputs.
      through_stop_gradient: whether `stop_gradient` is left out of what is evaluated.
      is_scalar: whether the only output keeps the weight 1, as a handed gradient demands.
      claimed: the function whose derivative is under test, if not `fun`: the same values, computed
        otherwise.
      intended: names of functions whose rules are meant to differ from what they evaluate.
      trusts_libraries: whether the rules of libraries are taken for what they evaluate.
    """
    self.fun, self.args, self.argnums = fun, args, tuple(argnums)
    self.claimed, self.intended = claimed or fun, tuple(intended)
    self.through_stop_gradient = through_stop_gradient
    self.frozen = freeze(
      fun,
      *args,
      argnums=self.argnums,
      through_stop_gradient=through_stop_gradient,
      intended=self.intended,
      trusts_libraries=trusts_libraries,
    )
    moving = [args[argnum] for argnum in self.argnums]
    named = moving[0] if len(moving) == 1 else dict(zip(self.argnums, moving))
    self.everything, self.tree = jax.tree.flatten(moving)
    self.places = [i for i, leaf in enumerate(self.everything) if is_inexact(leaf)]
    self.names = [leaf_names(named)[i] for i in self.places]
    keys = leaf_keys(jax.random.fold_in(key, 0), named)
    self.keys = [keys[i] for i in self.places]
    outputs = self.frozen.program.result
    keys = leaf_keys(jax.random.fold_in(key, 1), outputs)
    with jax.enable_x64(True):
      self.leaves = [wide(self.everything[i]) for i in self.places]
      self.weights = [
        None if not is_inexact(out) else jnp.float64(1) if is_scalar else _weight(k, out)
        for k, out in zip(keys, jax.tree.leaves(outputs))
      ]
      self.units = list(map(_unit, self.leaves))
      known = [weight for weight in self.weights if weight is not None]
      is_alone = len(known) == 1 and not known[0].shape and jnp.isrealobj(known[0])
      self.weight = known[0] if is_alone else jnp.float64(1)

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

  def _summed(self, outputs: PyTree) -> jax.Array:
    """Gives that number, and the sum of the sizes of what it is summed from."""
    pairs = zip(self.weights, jax.tree.leaves(outputs), strict=True)
    sizes = [jnp.sum(jnp.abs(c * y)) for c, y in pairs if c is not None]
    return jnp.stack([self.contracted(outputs), sum(sizes, jnp.float64(0))])

  def number(self, custom_rules: bool = True) -> Callable[[Sequence[jax.Array]], jax.Array]:
    """Gives that number as a function of the leaves, to be differentiated.

    By the program's own rules it is the claim; without them, but for those of libraries, JAX's
    derivative of what is evaluated.
    """
    replay = in_float64(
      self.claimed if custom_rules else self.fun,
      like=self.args,
      argnums=self.argnums,
      custom_rules=custom_rules,
      library_rules=True,
      through_stop_gradient=self.through_stop_gradient and not custom_rules,
      intended=self.intended,
    )
    return lambda leaves: self.contracted(replay(*self._with(self.joined(leaves))))

  def gradient(self, custom_rules: bool = True) -> list[jax.Array]:
    """Gives JAX's gradient, leaf by leaf, in float64."""
    number = self.number(custom_rules)  # traced in the caller's mode
    with jax.enable_x64(True):
      return jax.grad(number)(self.leaves)

  def own_gradient(self) -> list[jax.Array]:
    """Gives JAX's gradient in the program's own precision."""

    def number(leaves: Sequence[jax.Array]) -> jax.Array:
      outputs = jax.tree.leaves(self.claimed(*self._with(self.joined(leaves))))
      pairs = [(c, y) for c, y in zip(self.weights, outputs, strict=True) if c is not None]
      parts = [jnp.sum(jnp.real(c.astype(y.dtype) * y)) for c, y in pairs]
      return sum((part.astype(jnp.result_type(float)) for part in parts), jnp.zeros(()))

    return jax.grad(number)([jnp.asarray(self.everything[place]) for place in self.places])

  def leaves_of(self, gradient: PyTree, is_single: bool) -> list[jax.Array]:
    """Picks, of a gradient with the arguments' tree, the leaves that are checked."""
    moving = [self.args[argnum] for argnum in self.argnums]
    whole = without_hidden([gradient] if is_single else list(gradient), moving)
    return [jnp.asarray(jax.tree.leaves(whole)[place]) for place in self.places]

  def _with(self, moved: Sequence[PyTree]) -> tuple[PyTree, ...]:
    args = list(self.args)
    for argnum, value in zip(self.argnums, moved, strict=True):
      args[argnum] = value
    return tuple(args)

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

  def look(
    self,
    claim: Sequence[jax.Array] | Callable[[Sequence[jax.Array]], jax.Array],
    probe: Probe,
    steps: jax.Array,
  ) -> Rise:
    """Moves along a probe, by multiples of the leaf's unit.

    Args:
      claim: the gradient, leaf by leaf; or the function that it is of, to be differentiated
        forwards along the probe.
      probe: where.
      steps: how far, [k].
    """
    with jax.enable_x64(True):
      way = self.along(probe)
      steps = steps * jnp.stack(self.units)[probe.leaf]

      def evaluate(step: jax.Array) -> jax.Array:
        moved = [leaf + step * v for leaf, v in zip(self.leaves, way)]
        return self._summed(self.frozen(*self.joined(moved)))

      def both(step: jax.Array) -> jax.Array:
        # One after the other: under `vmap` each product with weights would be one of batches of
        # weights, which CPUs are slow at, and a callback need not have a rule for it.
        return jax.lax.map(evaluate, jnp.stack([step, -step]))

      (right, left), sizes = jax.lax.map(both, steps).T
      if callable(claim):
        rate = jax.jvp(claim, (self.leaves,), (way,))[1]
      else:
        # What does not move counts for nothing, though its gradient be NaN.
        pairs = [(jnp.where(v == 0, 0, g), v) for g, v in zip(claim, way)]
        rate = sum((product(g, v) for g, v in pairs), jnp.float64(0))
      length = jnp.sqrt(sum((jnp.sum(abs_sq(v)) for v in way), jnp.float64(0)))
      return Rise(right, left, steps, rate, length, sizes.max(0))


def norm(leaf: jax.Array) -> jax.Array:
  """Gives the Euclidean norm; of complex numbers, of both parts."""
  return jnp.sqrt(jnp.sum(abs_sq(leaf)))


def product(gradient: jax.Array, direction: jax.Array) -> jax.Array:
  """Gives the derivative along a direction; JAX's gradient of x + iy is df/dx - i df/dy."""
  return jnp.sum(jnp.real(gradient * direction))


def wide(leaf: jax.typing.ArrayLike) -> jax.Array:
  """Casts to float64 or complex128."""
  leaf = jnp.asarray(leaf)
  return leaf.astype(jnp.complex128 if jnp.iscomplexobj(leaf) else jnp.float64)


def _weight(key: jax.Array, out: jax.ShapeDtypeStruct) -> jax.Array:
  # Rounded to the output's dtype, so that the program's own gradient is weighed alike.
  return wide(direction(key, wide(jnp.zeros(out.shape, out.dtype))).astype(out.dtype))


def _drawn(key: jax.Array, leaf: jax.Array, probe: Probe) -> jax.Array:
  number = jax.lax.iota(probe.low.dtype, leaf.size).reshape(leaf.shape)
  is_moved = (probe.low <= number) & (number < probe.high)
  drawn = direction(jax.random.fold_in(key, probe.draw), leaf)
  upward = jnp.abs(drawn).astype(drawn.dtype)
  return jnp.where(is_moved, jnp.where(probe.is_upward, upward, drawn), jnp.zeros_like(drawn))


def _unit(leaf: jax.Array) -> jax.Array:
  """Gives the length to measure steps in: the root mean square of what is not 0, or else 1."""
  squares, count = jnp.sum(abs_sq(leaf)), jnp.sum(leaf != 0)
  is_usable = (squares > 0) & jnp.isfinite(squares)
  return jnp.where(is_usable, jnp.sqrt(squares / jnp.maximum(count, 1)), 1.0)
