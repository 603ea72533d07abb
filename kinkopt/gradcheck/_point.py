"""The two programs of a check, at one point: what is evaluated, and what the gradient claims.

Both are replays in float64 of what JAX traced; the first has its winners fixed. To second order the
gradient is a program of its own, whose derivative is checked like any other: a rule may give the
right gradient and be wrong when it is differentiated again. All is a pure function of arrays.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt import _jax
from kinkopt._coordinates import leaf_names
from kinkopt._numerics import abs_sq
from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import is_inexact, without_hidden
from kinkopt.gradcheck._directions import Seed, direction, fold, leaf_seeds
from kinkopt.kinks._freeze import WatchingFreezer, check_met
from kinkopt.trace._interpreter import replaying
from kinkopt.trace._policy import CLAIMED, Policy
from kinkopt.trace._program import Program, write_program
from kinkopt.trace._replay import replay


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
  """Which leaves of a program's arguments are checked, and what they are called."""

  argnums: tuple[int, ...]
  tree: Any  # of the list of arguments that move
  places: tuple[int, ...]  # of the checked leaves, among those of that list
  names: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]
  dtypes: tuple[Any, ...]

  @classmethod
  def of(cls, args: Sequence[PyTree], argnums: Sequence[int]) -> "Layout":
    """Looks at the arguments."""
    moving = [args[argnum] for argnum in argnums]
    leaves, tree = jax.tree.flatten(moving)
    places = tuple(i for i, leaf in enumerate(leaves) if is_inexact(leaf))
    names = leaf_names(named(args, argnums))
    checked = [leaves[place] for place in places]
    return cls(
      tuple(argnums),
      tree,
      places,
      tuple(names[place] for place in places),
      tuple(tuple(leaf.shape) for leaf in checked),
      tuple(jnp.dtype(leaf.dtype) for leaf in checked),
    )

  @property
  def sizes(self) -> list[int]:
    """The number of coordinates of each leaf."""
    return list(map(math.prod, self.shapes))

  def everything(self, args: Sequence[PyTree]) -> list[Any]:
    """Gives all leaves of the arguments that move."""
    return jax.tree.leaves([args[argnum] for argnum in self.argnums])

  def leaves(self, args: Sequence[PyTree]) -> list[Any]:
    """Picks the checked leaves of arguments."""
    everything = self.everything(args)
    return [everything[place] for place in self.places]

  def moved(self, args: Sequence[PyTree], leaves: Sequence[Any]) -> list[PyTree]:
    """Gives the arguments that move, with other values of the checked leaves."""
    everything = self.everything(args)
    for place, leaf in zip(self.places, leaves, strict=True):
      everything[place] = leaf
    return jax.tree.unflatten(self.tree, everything)


def named(args: Sequence[PyTree], argnums: Sequence[int]) -> PyTree:
  """Gives what moves as one tree, whose paths name it."""
  moving = [args[argnum] for argnum in argnums]
  return moving[0] if len(moving) == 1 else dict(zip(argnums, moving))


def weights_of(seed: Seed, outputs: PyTree, is_scalar: bool = False) -> list[Any]:
  """Draws the weights of a program's outputs, float64 or complex128; None for those without.

  Args:
    seed: of the check.
    outputs: shapes and dtypes.
    is_scalar: whether the only output keeps the weight 1, as a handed gradient demands.
  """
  seeds = leaf_seeds(fold(seed, 1), outputs)

  def weight(seed: Seed, out: jax.ShapeDtypeStruct) -> Any:
    if not is_inexact(out):
      return None
    wide = jnp.dtype("complex128" if jnp.issubdtype(out.dtype, jnp.complexfloating) else "float64")
    if is_scalar:
      return seed.__array_namespace__().ones(out.shape, wide)
    # Rounded to the output's dtype, so that the program's own gradient is weighed alike.
    return direction(seed, out.shape, wide).astype(out.dtype).astype(wide)

  return [weight(*row) for row in zip(seeds, jax.tree.leaves(outputs))]


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
  """A function at a point, traced and ready to be evaluated.

  Attributes:
    evaluated: the program that is differenced.
    claimed: the one whose derivative is under test: the same values, maybe computed otherwise.
    layout: of its arguments.
    weights: of the outputs; the sum with them is the one number that is differenced.
    policy: for what is evaluated.
  """

  evaluated: Program
  claimed: Program
  layout: Layout
  weights: Sequence[Any]
  policy: Policy

  @property
  def leaves(self) -> list[jax.Array]:
    """The checked leaves, in float64."""
    return list(map(wide, self.layout.leaves(self.evaluated.args)))

  def contracted(self, outputs: PyTree) -> jax.Array:
    """Weighs the outputs: the one number that is differenced and differentiated."""
    pairs = zip(self.weights, jax.tree.leaves(outputs), strict=True)
    return sum((jnp.sum(jnp.real(c * y)) for c, y in pairs if c is not None), jnp.float64(0))

  def _size(self, outputs: PyTree) -> jax.Array:
    """Gives the sum of the sizes of what that number is summed from."""
    pairs = zip(self.weights, jax.tree.leaves(outputs), strict=True)
    return sum((jnp.sum(jnp.abs(c * y)) for c, y in pairs if c is not None), jnp.float64(0))

  def frozen(
    self, leaves: Sequence[jax.Array]
  ) -> tuple[jax.Array, jax.Array, jax.Array, WatchingFreezer]:
    """Evaluates with the winners of the point, at moved leaves; to be called with 64 bits on.

    Returns:
      The number; the sum of the sizes of what it is summed from; how many winners tie at the point
      and part at the leaves; and the interpreter, which knows what it met.
    """
    program = self.evaluated
    run = WatchingFreezer(self.policy, program.is_x64)
    args = program.with_moved(self.layout.moved(program.args, leaves))
    with replaying(float64=True):
      outputs = program.run(run, [program.args, args])
    check_met(self.policy.intended, run.met)
    return self.contracted(outputs), self._size(outputs), run.ties, run

  def number(self, custom_rules: bool = True) -> Callable[[Sequence[jax.Array]], jax.Array]:
    """Gives that number as a function of the leaves, to be differentiated.

    By the program's own rules it is the claim; without them, but for those of libraries, JAX's
    derivative of what is evaluated.
    """
    program, policy = self.claimed, CLAIMED
    if not custom_rules:
      program, policy = self.evaluated, dataclasses.replace(self.policy, of_libraries=True)

    def number(leaves: Sequence[jax.Array]) -> jax.Array:
      args = program.with_moved(self.layout.moved(program.args, leaves))
      return self.contracted(replay(program, policy, args))

    return number

  def gradient(self, custom_rules: bool = True) -> tuple[jax.Array, list[jax.Array]]:
    """Gives the number, and JAX's gradient of it, leaf by leaf, in float64."""
    with jax.enable_x64(True):
      return jax.value_and_grad(self.number(custom_rules))(self.leaves)

  def own_gradient(self) -> list[jax.Array]:
    """Gives JAX's gradient in the program's own precision."""
    program = self.claimed
    code, constants = _jax.closed(program.code)

    def number(leaves: Sequence[jax.Array]) -> jax.Array:
      args = program.with_moved(self.layout.moved(program.args, leaves))
      outputs = _jax.evaluate(code, constants, jax.tree.leaves(args))
      pairs = [(c, y) for c, y in zip(self.weights, outputs, strict=True) if c is not None]
      parts = [jnp.sum(jnp.real(c.astype(y.dtype) * y)) for c, y in pairs]
      return sum((part.astype(jnp.result_type(float)) for part in parts), jnp.zeros(()))

    return jax.grad(number)(self.layout.leaves(program.args))

  def leaves_of(self, gradient: PyTree, is_single: bool) -> list[jax.Array]:
    """Picks, of a gradient with the arguments' tree, the leaves that are checked."""
    moving = [self.evaluated.args[argnum] for argnum in self.layout.argnums]
    whole = without_hidden([gradient] if is_single else list(gradient), moving)
    return [jnp.asarray(jax.tree.leaves(whole)[place]) for place in self.layout.places]


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


def gradient_of(
  program: Program, layout: Layout, weights: Sequence[Any], policy: Policy, *, custom_rules: bool
) -> Program:
  """Gives the program of the gradient of another one's weighed outputs, by the leaves' names.

  Args:
    program: of any number of outputs.
    layout: with respect to what.
    weights: of its outputs; None where one has none.
    policy: for what is evaluated.
    custom_rules: whether the program's own rules decide. If not, JAX's derivative of what is
      evaluated, where it has one: a loop that is only differentiated by its rule keeps it.
  """

  def written(evaluate: Callable[..., PyTree], is_wide: bool) -> Program:
    def gradient(*args: PyTree) -> dict[str, jax.Array]:
      leaves = list(map(jnp.asarray, layout.leaves(args)))

      def number(leaves: Sequence[jax.Array]) -> jax.Array:
        given = list(args)
        for argnum, value in zip(layout.argnums, layout.moved(args, leaves)):
          given[argnum] = value
        pairs = zip(weights, jax.tree.leaves(evaluate(*given)))
        parts = [jnp.sum(jnp.real(c.astype(y.dtype) * y)) for c, y in pairs if c is not None]
        return sum((part.astype(jnp.result_type(float)) for part in parts), jnp.zeros(()))

      with jax.enable_x64(True) if is_wide else contextlib.nullcontext():
        found = jax.grad(number)([wide(leaf) for leaf in leaves] if is_wide else leaves)
        rounded = [g.astype(leaf.dtype) for g, leaf in zip(found, leaves)]
      return dict(zip(layout.names, rounded, strict=True))

    return write_program("check_gradient", gradient, program.args, layout.argnums)

  def own(*args: PyTree) -> list[jax.Array]:
    code, constants = _jax.closed(program.code)
    return _jax.evaluate(code, constants, jax.tree.leaves(args))

  if not custom_rules:
    bare = dataclasses.replace(policy, of_libraries=True, through_stop_gradient=False)
    # A loop that JAX does not differentiate backwards.
    with contextlib.suppress(ValueError, NotImplementedError):
      return written(lambda *args: replay(program, bare, args), is_wide=True)
  return written(own, is_wide=False)
