"""The gradient check: is it right, and if not, where and how is it wrong?

Left to right: the point, moved off its kinks if it is on one; a first look along random directions
at one step, which a right gradient passes; a ladder of steps where that disagrees; a verdict for
each leaf; and for what is wrong, a right gradient to hold it against.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._checks import Interval, check_integer
from kinkopt._coordinates import leaf_names
from kinkopt._numerics import machine_eps, real_dtype
from kinkopt._typing import PyTree
from kinkopt.gradcheck._describe import describe
from kinkopt.gradcheck._nudge import beside_kinks
from kinkopt.gradcheck._probes import is_inexact
from kinkopt.gradcheck._report import GradientReport, LeafReport
from kinkopt.gradcheck._stages import Stages
from kinkopt.gradcheck._verdict import Verdict, verdict

# What constants of a rule that were rounded to float32 may cost, in units of the gradient.
_SLACK = 3e-8
# An array's own rounding, after a program's sums, in units of its machine_eps.
_ROUNDINGS = 64
# A gradient is known to be 0 if moving a leaf by its size moves the value less than this share.
_NOTHING = 1e-7
# Above this relative error the notes would call nothing okay.
_BLIND = 1e-4
_WRONG = (Verdict.TOO_HIGH, Verdict.UNCOMFORTABLE, Verdict.WRONG)


def check_gradient(
  fun: Callable[..., PyTree],
  *args: PyTree,
  argnums: int | Sequence[int] = 0,
  gradient: Callable[..., PyTree] | PyTree | None = None,
  has_aux: bool = False,
  probes: int = 2,
  key: jax.Array | None = None,
  through_stop_gradient: bool = False,
) -> GradientReport:
  """Says whether a gradient is right, which leaf is wrong if not, and what the error looks like.

  The function is differenced with its winners fixed and in float64, so neither a kink nor float32
  makes a right gradient fail, and there is no step and no tolerance to choose.

  Args:
    fun: a function of pytrees, with outputs of any number and shape, which are weighed by random
      numbers. It is traced, and may be jitted.
    *args: the point.
    argnums: which arguments to check, as for `jax.grad`.
    gradient: the gradient under test: a function of `args`, such as `jax.grad(fun, argnums)`, or
      its result. By default JAX's derivative of `fun`, with all custom rules in it.
    has_aux: whether `fun` returns a pair `(value, aux)`, and so `gradient` `(gradient, aux)`.
    probes: the number of random directions for each leaf.
    key: decides the directions; by default `jax.random.key(0)`.
    through_stop_gradient: whether what moves passes `stop_gradient`: then a gradient that is cut
      there is wrong.

  Returns:
    A `GradientReport`: print it, ask for its `ok`, or let `raise_if_wrong()` raise. Where JAX's own
    derivative is wrong it names the custom rules that are to blame, with their lines. A leaf passes
    if no error was seen above the bound of the differences, and says which error would have been
    seen.

  Raises:
    TypeError: if no leaf has a gradient, or `gradient` is given and `fun` is not a real scalar.
    ValueError: if `probes` is less than 1, or a tree is not that of the arguments.

  Numerics:
    A right gradient costs two evaluations for each leaf and probe. Errors below 3e-8 of a leaf's
    gradient pass, since a rule may hold constants as float32 has them; of a gradient that is given
    as arrays, errors below 64 roundings of their dtype. See `residuals` for the rest.

  Example:
    >>> import jax, jax.numpy as jnp, kinkopt
    >>> def loss(params):
    ...   return jnp.sum(jnp.maximum(params["w"], 0.0) ** 2) + params["b"]
    >>> params = {"b": jnp.float32(1.0), "w": jnp.array([-1.0, 0.5, 2.0])}
    >>> kinkopt.gradcheck.check_gradient(loss, params).ok
    True
    >>> def forgets_the_two(params):
    ...   return {"b": jnp.float32(1.0), "w": jnp.maximum(params["w"], 0.0)}
    >>> report = kinkopt.gradcheck.check_gradient(loss, params, gradient=forgets_the_two)
    >>> report.leaves[1].detail
    'is the right one times 0.5'

  Differs from JAX:
    `jax.test_util.check_grads` takes one plain difference of everything at once, in the program's
    precision: it rejects right gradients near kinks, and names no place.

  References:
    CS231n notes, "Gradient checks".
  """
  check_integer("check_gradient", "probes", probes, Interval(1, 2**31), "It counts directions.")
  key = jax.random.key(0) if key is None else key
  claim, slack = _given(gradient, has_aux)
  value = (lambda *args: fun(*args)[0]) if has_aux else fun
  check = Stages(value, argnums, claim, key, through_stop_gradient, slack)
  args, ties = beside_kinks(value, args, argnums, key)
  leaves = _judged(check, args, probes)
  seed = tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())
  skipped = _skipped(args, argnums)
  is_wrong = any(leaf.verdict in _WRONG for leaf in leaves)
  blamed = check.blame(args) if is_wrong and gradient is None else ()
  return GradientReport(leaves, skipped, blamed, ties, check.opaque, seed, check.evaluations)


def _judged(check: Stages, args: tuple[PyTree, ...], probes: int) -> tuple[LeafReport, ...]:
  """Judges each leaf."""
  claims, estimates, norms, units, gradients, size = check.first(args, probes)
  errors = np.full_like(claims, np.nan)
  scale = np.maximum(norms, np.abs(estimates).max(1))
  agrees = (np.abs(claims - estimates) <= check.slack * scale[:, None]).all(1)
  doubtful = [int(i) for i in np.flatnonzero(~agrees & np.isfinite(norms))]
  if doubtful:
    claims[doubtful], estimates[doubtful], errors[doubtful] = check.ladder(args, doubtful, probes)
  scale = np.maximum(norms, np.nan_to_num(np.abs(estimates)).max(1))
  zero = _NOTHING * size / units
  found = [
    _judge(claims[i], estimates[i], errors[i], scale[i], check.slack, bool(agrees[i]), zero[i])
    if np.isfinite(norms[i])
    else (Verdict.NOT_FINITE, np.nan, np.nan)
    for i in range(len(norms))
  ]
  details = _details(check, args, found, gradients, estimates, errors, probes)
  return tuple(
    LeafReport(
      name, gradient.shape, dtype, kind, float(error), float(power), float(size), details.get(i, "")
    )
    for i, (name, dtype, gradient, (kind, error, power), size) in enumerate(
      zip(check.names, check.dtypes, gradients, found, norms)
    )
  )


def _given(gradient: Any, has_aux: bool) -> tuple[Callable[..., PyTree] | None, float]:
  if gradient is None:
    return None, _SLACK
  if callable(gradient):
    return (lambda *args: gradient(*args)[0]) if has_aux else gradient, _SLACK
  dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(gradient) if is_inexact(leaf)]
  eps = max((machine_eps(real_dtype(dtype)) for dtype in dtypes), default=0.0)
  return lambda *args: gradient, max(_SLACK, _ROUNDINGS * eps)


def _judge(
  claim: np.ndarray,
  estimate: np.ndarray,
  error: np.ndarray,
  scale: float,
  slack: float,
  agrees: bool,
  zero: float,
) -> tuple[Verdict, float, float]:
  """Gives the verdict on a leaf, its relative error, and the error that would have been seen."""
  gap = np.abs(claim - estimate)
  if agrees:
    return Verdict.HAPPY, float(gap.max() / (scale or 1.0)), slack
  if not np.isfinite(error).all():
    return Verdict.UNDECIDED, np.nan, np.nan
  is_seen = gap > error + slack * scale
  if is_seen.any():
    size = np.maximum(np.abs(claim), np.abs(estimate))[is_seen]
    relative = float((gap[is_seen] / size).max())
    return verdict(relative, kinks=False), relative, slack
  if scale <= error.max() <= zero:  # a gradient of 0, as far as differences can tell
    return Verdict.HAPPY, 0.0, np.nan
  power = float(max(error.max() / (scale or 1.0), slack))
  relative = float(gap.max() / (scale or 1.0))
  return (Verdict.UNDECIDED if power > _BLIND else Verdict.HAPPY), relative, power


def _details(
  check: Stages,
  args: tuple[PyTree, ...],
  found: Sequence[tuple[Verdict, float, float]],
  gradients: Sequence[np.ndarray],
  estimates: np.ndarray,
  errors: np.ndarray,
  probes: int,
) -> dict[int, str]:
  """Says of each wrong leaf what is wrong with it."""
  details = {
    i: _not_finite(gradients[i], check.names[i])
    for i, (kind, _, _) in enumerate(found)
    if kind is Verdict.NOT_FINITE
  }
  numbers = [i for i, (kind, _, _) in enumerate(found) if kind in _WRONG]
  right = check.right_gradient(args, probes, numbers) if numbers else None
  if right is not None:
    lengths = {n for leaf in jax.tree.leaves(args) for n in np.shape(leaf)}
    for i, other, claims in zip(numbers, *right):
      room = errors[i] + check.slack * np.linalg.norm(other)
      if (np.abs(claims - estimates[i]) <= room).all():
        details[i] = describe(gradients[i], other, check.names[i], lengths)
  for i in numbers:
    details.setdefault(i, f"is off by {found[i][1]:.1e} along random directions")
  return details


def _not_finite(gradient: np.ndarray, name: str) -> str:
  where = np.argwhere(~np.isfinite(gradient))
  first = ", ".join(map(str, where[0]))
  return (
    f"is not finite at {len(where):,} of {gradient.size:,} coordinates, first `{name}[{first}]`"
  )


def _moving(args: tuple[PyTree, ...], argnums: int | Sequence[int]) -> list[PyTree]:
  return [args[n] for n in ([argnums] if isinstance(argnums, int) else argnums)]


def _skipped(args: tuple[PyTree, ...], argnums: int | Sequence[int]) -> tuple[str, ...]:
  moving = _moving(args, argnums)
  named = moving[0] if len(moving) == 1 else moving
  pairs = zip(leaf_names(named), jax.tree.leaves(named))
  return tuple(name for name, leaf in pairs if not is_inexact(leaf))
