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
from kinkopt.gradcheck._ladder import RATIO, extrapolate, rounding_of
from kinkopt.gradcheck._probes import Point, Probe, norm, wide
from kinkopt.kinks import in_float64
from kinkopt.kinks._program import positions

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
  fun, numbers = of_shown(fun), positions("residuals", argnums, len(args))
  args = tuple(hide(arg, moves=n in numbers) for n, arg in enumerate(args))
  is_handed = gradient is not None
  point = Point(fun, args, numbers, key, through_stop_gradient, is_scalar=is_handed)
  check_something("residuals", point)
  if is_handed:
    claim = handed("residuals", point, gradient, isinstance(argnums, int))
  else:
    claim = point.gradient()
  rows = [(number, draw) for number in range(len(claim)) for draw in range(probes)]
  rate, estimate, error = (column.reshape(-1, probes) for column in _climb(point, claim, rows))
  with jax.enable_x64(True):
    return Residuals(rate, estimate, error, jnp.stack(list(map(norm, claim))))


def check_something(caller: str, point: Point) -> None:
  """Demands that there is a leaf to check.

  Raises:
    TypeError: if none is floating point.
  """
  if not point.places:
    raise TypeError(
      f"`{caller}` found nothing to check: no leaf of the arguments {point.argnums} is floating "
      "point, so none has a gradient. Name another argument by `argnums`."
    )


def steps_of(size: int, count: int = 6) -> np.ndarray:
  """Gives the steps of the ladder along `size` coordinates, in the unit of their leaf."""
  return _LARGEST * max(size, 1) ** -0.25 / RATIO ** np.arange(float(count))


def _climb(
  point: Point, claim: list[jax.Array], rows: Sequence[tuple[int, int]]
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Gives the claim, the estimate and the bound along each direction, from a ladder of steps."""
  with jax.enable_x64(True):
    leaf, draw = jnp.asarray(np.array(rows, np.int32).T)
    sizes = [point.leaves[number].size for number, _ in rows]
    low, high = jnp.zeros_like(leaf), jnp.asarray(np.array(sizes, np.int32))
    probes = Probe(leaf, draw, low, high, jnp.zeros(leaf.shape, bool))
    steps = jnp.asarray(np.stack(list(map(steps_of, sizes))))
    rise = jax.lax.map(lambda row: point.look(claim, *row), (probes, steps))
    noise = rounding_of(rise.size)
    estimate, error = jax.vmap(extrapolate)(rise.right, rise.left, rise.steps, noise)
  return rise.claim, estimate, error


def handed(
  caller: str, point: Point, gradient: Callable[..., PyTree], is_single: bool
) -> list[jax.Array]:
  """Replays a gradient that was handed in; gives it leaf by leaf, in float64.

  Raises:
    TypeError: if the function is not of one real scalar.
    ValueError: if the gradient's tree is not that of the arguments.
  """
  outputs = jax.tree.leaves(point.frozen.program.result)
  if len(outputs) != 1 or outputs[0].shape or not jnp.issubdtype(outputs[0].dtype, jnp.floating):
    found = ", ".join(f"{out.dtype}[{','.join(map(str, out.shape))}]" for out in outputs)
    raise TypeError(
      f"`{caller}(gradient=...)` needs a function of one real scalar, but its outputs are "
      f"{found or 'none'}. A gradient belongs to one number: sum the outputs, or leave `gradient` "
      "out to check JAX's own derivative of all of them."
    )
  traced = lambda *args: hide(gradient(*show(args)))  # noqa: E731
  moving: Any = [point.args[argnum] for argnum in point.argnums]
  like = without_hidden(moving, moving)
  replay = in_float64(traced, like=point.args, argnums=point.argnums)
  with jax.enable_x64(True):
    replayed = replay(*point.args)
    replayed = without_hidden([replayed] if is_single else list(replayed), moving)
    check_same_tree(
      caller,
      "gradient",
      replayed[0] if is_single else replayed,
      "moved argument" if is_single else "tuple of moved arguments",
      like[0] if is_single else like,
    )
    leaves = jax.tree.leaves(replayed)
    return [wide(leaves[place]) for place in point.places]
