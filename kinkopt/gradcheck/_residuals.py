"""What a gradient claims along random directions, beside what frozen differences say.

Arrays in, arrays out: so a population of parameters is checked by `jax.vmap`, and a sharded model
where it lies. What to make of the numbers is decided by whoever reads them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._checks import Interval, check_integer, check_same_tree
from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import hide, of_shown, show, without_hidden
from kinkopt.gradcheck._differences import RATIO, extrapolate, rounding_of
from kinkopt.gradcheck._directions import direction, fold, leaf_seeds, seed_of
from kinkopt.gradcheck._point import Layout, Point, named, norm, product, weights_of, wide
from kinkopt.trace._policy import CLAIMED, Policy
from kinkopt.trace._program import Program, positions, write_program
from kinkopt.trace._replay import replay

# The first step, in units of a leaf's root mean square, which n coordinates divide by n^(1/4).
_LARGEST = 2.0**-6


class Residuals(NamedTuple):
  """A gradient and frozen differences along the same directions; all arrays float64.

  Attributes:
    claim: the derivative along each direction by the gradient, `[leaves, probes]`.
    estimate: by differences, `[leaves, probes]`.
    error: a bound on the error of `estimate`, `[leaves, probes]`; NaN: nothing is known.
    norm: the norm of each leaf's gradient, `[leaves]`, to hold `claim - estimate` against.
  """

  claim: jax.Array
  estimate: jax.Array
  error: jax.Array
  norm: jax.Array


def residuals(
  fun: Callable[..., PyTree],
  *args: PyTree,
  key: jax.Array,
  argnums: int | Sequence[int] = 0,
  gradient: Callable[..., PyTree] | None = None,
  probes: int = 2,
  through_stop_gradient: bool = False,
) -> Residuals:
  """Holds a gradient against differences of the function with its winners fixed.

  Each leaf is moved along random directions of its own, so that an error is seen in the leaf that
  has it. Whatever the number of parameters, a leaf costs `12 * probes` evaluations; no kink is
  crossed at any step, and everything is computed in float64.

  Args:
    fun: a function of pytrees. Outputs of any number and shape are weighed by random numbers, so
      that a rule that ignores its cotangent is seen.
    *args: the point.
    key: decides the directions and the weights. A leaf's own directions depend on the key and on
      the leaf's name alone.
    argnums: which arguments move.
    gradient: the gradient under test, a function of `args` such as `jax.grad(fun, argnums)`, which
      it is by default. With it, `fun` must have one real scalar output.
    probes: the number of directions for each leaf.
    through_stop_gradient: whether what moves passes `stop_gradient`: then a gradient that is cut
      there disagrees.

  Returns:
    `Residuals`, the leaves in the order of `jax.tree.leaves` of the moved arguments; leaves that
    have no gradient (integers, masks, keys) are left out.

  Raises:
    TypeError: if no leaf has a gradient, or if `gradient` is given and the output of `fun` is not
      one real number.
    ValueError: if `probes` is less than 1, or the gradient's tree is not that of the arguments.

  Numerics:
    A coordinate of a direction is a random sign times a number from [0.5, 1.43], of mean square 1:
    the mean square of `(claim - estimate) / norm` is the squared relative error of the leaf, and
    one wrong coordinate shows at least half of its error. The estimate is extrapolated from six
    steps; its bound comes from how the extrapolations agree, and from rounding. A handed gradient
    of a float32 program holds constants such as 1/n as float32 has them, up to 6e-8 off.

  Example:
    >>> import jax, jax.numpy as jnp, kinkopt
    >>> def loss(w):
    ...   return jnp.sum(jnp.abs(w) ** 3)
    >>> wrong = lambda w: 1.01 * jax.grad(loss)(w)
    >>> w = jnp.array([-1.0, 1e-8, 2.0])
    >>> found = kinkopt.gradcheck.residuals(loss, w, key=jax.random.key(0), gradient=wrong)
    >>> print((found.claim / found.estimate).round(6))
    [[1.01 1.01]]

  References:
    CS231n notes, "Gradient checks"; Richardson (1911).
  """
  check_integer("residuals", "probes", probes, Interval(1, 2**31), "It counts random directions.")
  numbers = positions("residuals", argnums, len(args))
  args = tuple(hide(arg, moves=n in numbers) for n, arg in enumerate(args))
  program = write_program("residuals", of_shown(fun), args, numbers)
  layout = Layout.of(args, numbers)
  check_something("residuals", layout)
  seed, is_handed = seed_of(key), gradient is not None
  policy = Policy(through_stop_gradient=through_stop_gradient)
  with jax.enable_x64(True):
    weights = weights_of(seed, program.result, is_handed)
  point = Point(program, program, layout, weights, policy)
  if gradient is not None:
    check_scalar("residuals", program)
    is_single = isinstance(argnums, int)
    claim = handed("residuals", write_gradient(gradient, args, numbers), layout, is_single)
  else:
    claim = point.gradient()[1]
  seeds = leaf_seeds(fold(seed, 0), named(args, numbers))
  seeds = [seeds[place] for place in layout.places]
  rows = [(number, draw) for number in range(len(claim)) for draw in range(probes)]
  rate, estimate, error = (c.reshape(-1, probes) for c in _climb(point, claim, seeds, rows))
  with jax.enable_x64(True):
    return Residuals(rate, estimate, error, jnp.stack(list(map(norm, claim))))


def check_something(caller: str, layout: Layout) -> None:
  """Demands that there is a leaf to check.

  Raises:
    TypeError: if none is floating point.
  """
  if not layout.places:
    raise TypeError(
      f"`{caller}` found nothing to check: no leaf of the arguments {layout.argnums} is floating "
      "point, so none has a gradient. Name another argument by `argnums`."
    )


def steps_of(size: int, count: int = 6) -> np.ndarray:
  """Gives the steps of the ladder along `size` coordinates, in the unit of their leaf."""
  return _LARGEST * max(size, 1) ** -0.25 / RATIO ** np.arange(float(count))


def _climb(
  point: Point, claim: list[jax.Array], seeds: Sequence[Any], rows: Sequence[tuple[int, int]]
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Gives the claim, the estimate and the bound along each direction, from a ladder of steps."""
  with jax.enable_x64(True):
    leaves, sizes = point.leaves, point.layout.sizes
    units = jnp.stack(list(map(unit_of, leaves)))
    table = np.array(rows, np.int32)
    steps = units[table[:, 0]][:, None] * np.stack([steps_of(sizes[number]) for number, _ in rows])

    def look(row: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
      number, draw, steps = row
      draw = draw.astype(jnp.uint32)[None]

      def drawn(leaf: jax.Array, seed: Any) -> jax.Array:
        return direction(fold(jnp.asarray(seed), draw), leaf.shape, leaf.dtype)

      way = [
        jax.lax.cond(number == n, drawn, lambda leaf, _: jnp.zeros_like(leaf), leaf, seed)
        for n, (leaf, seed) in enumerate(zip(leaves, seeds))
      ]

      def evaluate(step: jax.Array) -> tuple[jax.Array, jax.Array]:
        return point.frozen([leaf + step * v for leaf, v in zip(leaves, way)])[:2]

      values, size = jax.lax.map(evaluate, jnp.concatenate([steps, -steps]))
      (right, left), size = values.reshape(2, -1), size.reshape(2, -1).max(0)
      # What does not move counts for nothing, though its gradient be NaN.
      pairs = [(jnp.where(v == 0, 0, g), v) for g, v in zip(claim, way)]
      rate = sum((product(g, v) for g, v in pairs), jnp.float64(0))
      return rate, *extrapolate(right, left, steps, rounding_of(size))

    return jax.lax.map(look, (jnp.asarray(table[:, 0]), jnp.asarray(table[:, 1]), steps))


def check_scalar(caller: str, program: Program) -> None:
  """Demands a function of one real scalar.

  Raises:
    TypeError: if it is not.
  """
  outputs = jax.tree.leaves(program.result)
  if len(outputs) != 1 or outputs[0].shape or not jnp.issubdtype(outputs[0].dtype, jnp.floating):
    found = ", ".join(f"{out.dtype}[{','.join(map(str, out.shape))}]" for out in outputs)
    raise TypeError(
      f"`{caller}(gradient=...)` needs a function of one real scalar, but its outputs are "
      f"{found or 'none'}. A gradient belongs to one number: sum the outputs, or leave `gradient` "
      "out to check JAX's own derivative of all of them."
    )


def write_gradient(
  gradient: Callable[..., PyTree], args: tuple[PyTree, ...], argnums: Sequence[int]
) -> Program:
  """Traces a gradient that was handed in; some leaves of its arguments are hidden."""
  traced = lambda *args: hide(gradient(*show(args)))  # noqa: E731
  return write_program("check_gradient", traced, args, argnums)


def handed(caller: str, program: Program, layout: Layout, is_single: bool) -> list[jax.Array]:
  """Replays a gradient that was handed in; gives it leaf by leaf, in float64.

  Raises:
    ValueError: if the gradient's tree is not that of the arguments.
  """
  with jax.enable_x64(True):
    replayed = replay(program, CLAIMED, program.args)
    return list(map(wide, leaves_of_gradient(caller, replayed, program.args, layout, is_single)))


def leaves_of_gradient(
  caller: str, gradient: PyTree, args: tuple[PyTree, ...], layout: Layout, is_single: bool
) -> list[Any]:
  """Picks the leaves that are checked of a gradient that was handed in.

  Raises:
    ValueError: if its tree is not that of the arguments.
  """
  moving: Any = [args[argnum] for argnum in layout.argnums]
  like = without_hidden(moving, moving)
  found = without_hidden([gradient] if is_single else list(gradient), moving)
  check_same_tree(
    caller,
    "gradient",
    found[0] if is_single else found,
    "moved argument" if is_single else "tuple of moved arguments",
    like[0] if is_single else like,
  )
  leaves = jax.tree.leaves(found)
  return [leaves[place] for place in layout.places]


def unit_of(leaf: Any) -> Any:
  """Gives the length to measure steps in: the root mean square of what is not 0, or else 1."""
  xp = leaf.__array_namespace__()
  squares, count = xp.sum(xp.abs(leaf) ** 2), xp.sum(leaf != 0)
  is_usable = (squares > 0) & xp.isfinite(squares)
  return xp.where(is_usable, xp.sqrt(squares / xp.maximum(count, 1)), 1.0)
