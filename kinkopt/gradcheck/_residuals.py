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
from kinkopt.gradcheck._ladder import extrapolate
from kinkopt.gradcheck._probes import Point, Probe, Rise, norm, wide
from kinkopt.kinks import in_float64

# Steps in units of a leaf's root mean square, which a leaf of n coordinates divides by n^(1/4).
_STEPS = 2.0 ** -np.arange(4, 14)


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
  has it. Whatever the number of parameters, a leaf costs `20 * probes` evaluations; no kink is
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
    one wrong coordinate shows at least half of its error. The estimate is extrapolated from ten
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
  point, claim = prepare("residuals", fun, args, argnums, gradient, key, through_stop_gradient)
  rows = [(number, draw) for number in range(len(claim)) for draw in range(probes)]
  rate, estimate, error = (column.reshape(-1, probes) for column in climb(point, claim, rows))
  with jax.enable_x64(True):
    return Residuals(rate, estimate, error, jnp.stack(list(map(norm, claim))))


def prepare(
  caller: str,
  fun: Callable[..., PyTree],
  args: tuple[PyTree, ...],
  argnums: int | Sequence[int],
  gradient: Callable[..., PyTree] | None,
  key: jax.Array,
  through_stop_gradient: bool,
) -> tuple[Point, list[jax.Array]]:
  """Traces a function at a point, and gives the gradient under test, leaf by leaf, in float64."""
  numbers = [argnums] if isinstance(argnums, int) else list(argnums)
  numbers = [n % len(args) if -len(args) <= n < len(args) else n for n in numbers]
  point = Point(fun, args, numbers, key, through_stop_gradient, is_scalar=gradient is not None)
  if not point.places:
    raise TypeError(
      f"`{caller}` found nothing to check: no leaf of the arguments {tuple(numbers)} is floating "
      "point, so none has a gradient. Name another argument by `argnums`."
    )
  if gradient is None:
    return point, point.value_and_claim()[1]
  with jax.enable_x64(True):
    return point, _claim(caller, point, gradient, isinstance(argnums, int))


def look(
  point: Point, claim: list[jax.Array], rows: Sequence[tuple[int, int]], steps: np.ndarray
) -> Rise:
  """Looks along directions, each a leaf and a draw; steps `[rows, k]` in the leaves' units."""
  with jax.enable_x64(True):
    leaf, draw = jnp.asarray(np.array(rows, np.int32).T)
    high = jnp.asarray(np.array([point.leaves[number].size for number, _ in rows], np.int32))
    probes = Probe(leaf, draw, jnp.zeros_like(leaf), high)
    return jax.lax.map(lambda row: point.look(claim, *row), (probes, jnp.asarray(steps)))


def climb(
  point: Point, claim: list[jax.Array], rows: Sequence[tuple[int, int]]
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Gives the claim, the estimate and the bound along each direction, from a ladder of steps."""
  factors = [max(point.leaves[number].size, 1) ** -0.25 for number, _ in rows]
  rise = look(point, claim, rows, np.outer(factors, _STEPS))
  with jax.enable_x64(True):
    estimate, error = jax.vmap(extrapolate)(rise.right, rise.left, rise.steps)
  return rise.claim, estimate, error


def _claim(
  caller: str, point: Point, gradient: Callable[..., PyTree], is_single: bool
) -> list[jax.Array]:
  """Replays a gradient that was handed in."""
  outputs = jax.tree.leaves(jax.eval_shape(point.replay, *point.args))
  if len(outputs) != 1 or outputs[0].shape or not jnp.issubdtype(outputs[0].dtype, jnp.floating):
    found = ", ".join(f"{out.dtype}[{','.join(map(str, out.shape))}]" for out in outputs)
    raise TypeError(
      f"`{caller}(gradient=...)` needs a function of one real scalar, but its outputs are "
      f"{found or 'none'}. A gradient belongs to one number: sum the outputs, or leave `gradient` "
      "out to check JAX's own derivative of all of them."
    )
  replayed = in_float64(gradient, like=point.args, argnums=point.argnums)(*point.args)
  moving: Any = [point.args[argnum] for argnum in point.argnums]
  check_same_tree(
    caller,
    "gradient",
    replayed if is_single else list(replayed),
    "moved argument" if is_single else "tuple of moved arguments",
    moving[0] if is_single else moving,
  )
  leaves = jax.tree.leaves(replayed)
  return [wide(leaves[place]) for place in point.places]
