"""The gradient check: is it right, and if not, where and how is it wrong?

Left to right: the point, moved off its kinks if it is on one; a first look along random directions
at one step, which a right gradient passes; a ladder of steps where that disagrees; a verdict for
each leaf; and for what is wrong, the place and the kind of the error, and the rule to blame.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._checks import Interval, check_integer
from kinkopt._coordinates import leaf_names
from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import hide, is_inexact, of_shown
from kinkopt.gradcheck._directions import seed_of
from kinkopt.gradcheck._judge import WRONG
from kinkopt.gradcheck._pictures import sources_of
from kinkopt.gradcheck._point import Layout
from kinkopt.gradcheck._report import GradientReport
from kinkopt.gradcheck._residuals import (
  check_scalar,
  check_something,
  leaves_of_gradient,
  write_gradient,
)
from kinkopt.gradcheck._run import Run, slack_of
from kinkopt.gradcheck._stages import Question, Stages
from kinkopt.kinks import SiteStatus
from kinkopt.trace._policy import Policy
from kinkopt.trace._program import Program, positions, write_program

_MODES = {"rev": (False,), "fwd": (True,), "both": (False, True)}


def check_gradient(
  fun: Callable[..., PyTree],
  *args: PyTree,
  argnums: int | Sequence[int] = 0,
  gradient: Callable[..., PyTree] | PyTree | None = None,
  has_aux: bool = False,
  mode: Literal["rev", "fwd", "both"] = "rev",
  order: Literal[1, 2] = 1,
  probes: int = 2,
  sweep: int = 100,
  key: jax.Array | None = None,
  intended: Sequence[str | Callable[..., Any]] = (),
  through_stop_gradient: bool = False,
  locate: bool = True,
  batch_size: int = 1,
  progress: Callable[[int, int], None] | None = None,
) -> GradientReport:
  """Says whether a gradient is right, which leaf is wrong if not, and what the error looks like.

  The function is differenced with its winners fixed and in float64, so neither a kink nor float32
  makes a right gradient fail, and there is no step and no tolerance to choose.

  Args:
    fun: a function of pytrees, with outputs of any number and shape, which are weighed by random
      numbers. It is traced once. What is compiled of it is kept by its equations and its rules: a
      second check at the same shapes compiles nothing, also of a function written anew.
    *args: the point.
    argnums: which arguments to check, as for `jax.grad`.
    gradient: the gradient under test: a function of `args`, such as `jax.grad(fun, argnums)`, or
      its result. By default JAX's derivative of `fun`, with all custom rules in it.
    has_aux: whether `fun` returns a pair `(value, aux)`, and so `gradient` `(gradient, aux)`.
    mode: `"rev"`: `jax.grad` and `jax.vjp`; `"fwd"`: `jax.jvp`; `"both"`: one after the other.
    order: 2: the derivative of the gradient is checked, against differences of JAX's gradient of
      what is evaluated.
    probes: the number of random directions for each leaf.
    sweep: with up to this many coordinates in all, each is moved alone as well, which gives the
      notes' relative error of each.
    key: decides the directions; by default `jax.random.key(0)`.
    intended: functions, or their names, whose derivative rules are meant to differ from what they
      evaluate: straight-through estimators, gradient reversal. What they feed is checked through
      them.
    through_stop_gradient: whether what moves passes `stop_gradient`: then a gradient that is cut
      there is wrong.
    locate: whether to find out which coordinates and which rules are wrong.
    batch_size: how many pairs of values are evaluated at once. On a CPU 1 is the fastest; memory
      grows with it.
    progress: called after each group of evaluations with how many are done, and how many of those
      that are known to be needed there are. If it raises `gradcheck.StopCheck`, the check ends:
      what was not seen by then is undecided.

  Returns:
    A `GradientReport`: print it, ask for its `ok`, or let `raise_if_wrong()` raise. Where JAX's own
    derivative is wrong it names the custom rules that are to blame, with their lines. A leaf passes
    if no error was seen above the bound of the differences, and says which error would have been
    seen.

  Raises:
    TypeError: if no leaf has a gradient, or `gradient` is given and `fun` is not a real scalar.
    ValueError: if `probes` is less than 1, or a tree is not that of the arguments; if `mode` or
      `order` is none of the above, or not the default beside a `gradient`; if an intended rule is
      not linear.

  Numerics:
    A right gradient costs two evaluations for each probe, in which all leaves move at once; two for
    each leaf and probe whose own gradient is too small to show there; and two for each coordinate
    that is swept. On a CPU the programs are compiled quickly rather than to run fast, unless there
    is much to look at. Errors below 3e-8 of a leaf's gradient pass, since a rule may hold constants
    as float32 has them; of a gradient that is handed in, below 6e-8, and of arrays below 64
    roundings of their dtype, or 4 times what JAX's gradient is off by in the program's own
    precision (above 1e-2 they are undecided): on a GPU products of float32 take ten bits of it, so
    hand in the function instead. What that precision costs is told apart. Callbacks and kernels run
    in their own precision, with the noise measured: what is below 1e-2 there is undecided at worst.
    At the edge of where the function is finite the differences are one-sided. See `residuals` for
    the rest.

  Example:
    >>> import jax, jax.numpy as jnp, kinkopt
    >>> def loss(params):
    ...   return jnp.sum(jnp.maximum(params["w"], 0.0) ** 2) + params["b"]
    >>> params = {"b": jnp.float32(1.0), "w": jnp.array([-1.0, 0.5, 2.0])}
    >>> kinkopt.check_gradient(loss, params).ok
    True
    >>> def forgets_the_two(params):
    ...   return {"b": jnp.float32(1.0), "w": jnp.maximum(params["w"], 0.0)}
    >>> report = kinkopt.check_gradient(loss, params, gradient=forgets_the_two)
    >>> report.leaves[1].detail
    'is the right one times 0.5'

  Differs from JAX:
    `jax.test_util.check_grads` takes one plain difference of everything at once, in the program's
    precision: it rejects right gradients near kinks, and names no place.

  References:
    CS231n notes, "Gradient checks"; Moré and Wild (2011), "Estimating computational noise".
  """
  check_integer("check_gradient", "probes", probes, Interval(1, 2**31), "It counts directions.")
  check_integer("check_gradient", "sweep", sweep, Interval(0, 2**31), "It counts coordinates.")
  check_integer("check_gradient", "batch_size", batch_size, Interval(1, 2**31), "It counts pairs.")
  _check_mode(mode, order, gradient is not None)
  numbers = positions("check_gradient", argnums, len(args))
  hidden = (hide(arg, moves=n in numbers) for n, arg in enumerate(args))
  # Once they are arrays, 64 bits can be turned on around them.
  point = jax.tree.map(jnp.asarray, tuple(hidden))
  layout = Layout.of(point, numbers)
  check_something("check_gradient", layout)
  policy = Policy(intended=tuple(map(_name, intended)), through_stop_gradient=through_stop_gradient)
  is_single = isinstance(argnums, int)
  question = Question(policy, is_single, gradient is not None, order, batch_size)
  program = write_program("check_gradient", _values(of_shown(fun), has_aux), point, numbers)
  written, given = _handed(gradient, has_aux, program, layout, is_single)
  stages = Stages(question, program, written, layout, seed_of(key))
  run = Run(stages, given, slack_of(gradient), probes, progress)
  with np.errstate(all="ignore"):  # what is not finite is told, not warned of
    leaves = run.judge(_MODES[mode], sweep, locate)
  is_wrong = any(leaf.verdict in WRONG for leaf in leaves)
  is_blamed = is_wrong and locate and gradient is None and not run.watch.is_stopped
  blame = run.blame() if is_blamed else ()
  origins = [place for inspection in run.inspections for place in inspection.origins]
  first = run.inspections[0]
  return GradientReport(
    leaves,
    _skipped(args, numbers),
    tuple(finding.sentence for finding in blame),
    tuple(map(_told, run.tied)),
    first.cuts,
    first.opaque,
    run.approximations(),
    tuple(stages.seed.tolist()),
    sum(inspection.evaluations for inspection in run.inspections),
    through_stop_gradient,
    sources_of(blame, origins, run.tied),
    is_complete=not run.watch.is_stopped,
  )


def _values(fun: Callable[..., Any], has_aux: bool) -> Callable[..., Any]:
  return (lambda *args: fun(*args)[0]) if has_aux else fun


def _handed(
  gradient: Callable[..., PyTree] | PyTree | None,
  has_aux: bool,
  program: Program,
  layout: Layout,
  is_single: bool,
) -> tuple[Program | None, list[Any] | None]:
  """Gives the program of a gradient that was handed in as a function, or the leaves of arrays."""
  if gradient is None:
    return None, None
  check_scalar("check_gradient", program)
  if callable(gradient):
    return write_gradient(_values(gradient, has_aux), program.args, layout.argnums), None
  found = hide(gradient[0] if has_aux else gradient)
  return None, leaves_of_gradient("check_gradient", found, program.args, layout, is_single)


def _told(tied: SiteStatus) -> str:
  return f"{tied.site} ties in {int(tied.moving_ties):,} of {int(tied.total):,} units"


def _name(rule: str | Callable[..., Any]) -> str:
  return rule if isinstance(rule, str) else getattr(rule, "__name__", repr(rule))


def _check_mode(mode: str, order: int, is_handed: bool) -> None:
  if mode not in _MODES or order not in (1, 2):
    raise ValueError(
      f"`check_gradient(mode={mode!r}, order={order!r})` is not known: `mode` is 'rev', 'fwd' or "
      "'both', and `order` 1 or 2."
    )
  if is_handed and (mode, order) != ("rev", 1):
    raise ValueError(
      f"`check_gradient(gradient=..., mode={mode!r}, order={order})`: a gradient that is handed in "
      "is a result, with no mode and no derivative of its own. Leave `gradient` out to check "
      "JAX's, or check the gradient itself as a function."
    )


def _skipped(args: tuple[PyTree, ...], argnums: Sequence[int]) -> tuple[str, ...]:
  moving = [args[argnum] for argnum in argnums]
  named = moving[0] if len(moving) == 1 else dict(zip(argnums, moving))
  pairs = zip(leaf_names(named), jax.tree.leaves(named))
  return tuple(name for name, leaf in pairs if not is_inexact(leaf))
