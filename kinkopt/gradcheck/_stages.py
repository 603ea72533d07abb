"""What a check sees, stage by stage: each a program that is compiled once.

A gradient is claimed in one program and looked at in another, which serves all probes of a check.
Where the user's functions are jitted, and so fixed for good, the programs are kept for the next
check; other functions may have changed meanwhile, and are traced anew.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._numerics import safe_divide
from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import of_shown, show
from kinkopt.gradcheck._blame import Blame, find_blame
from kinkopt.gradcheck._nonfinite import Origins, find_origins
from kinkopt.gradcheck._probes import Point, Probe, norm, wide
from kinkopt.gradcheck._question import Claim, Question, Row, Seen
from kinkopt.gradcheck._residuals import check_something, handed
from kinkopt.gradcheck._second import gradient_of
from kinkopt.kinks import SiteStatus, sites

# Rows that are looked at in one call, between which progress is told.
_ROWS = 32
_TOO_LARGE = (
  "`check_gradient` needs the memory of one gradient, and of `batch_size` pairs of evaluations, in "
  "float64. Lower `batch_size` if it is above 1, or check on fewer examples: what is wrong with a "
  "rule seldom needs all of them to show."
)


class Stages:
  """The programs of one question."""

  def __init__(self, question: Question):
    self.question, self._is_wide = question, False
    stages = (
      self._survey, self._claim, self._look, self._other, self._losses, self._blame, self._origins,
      self._blame_on_kink,
    )  # fmt: skip
    self._compiled = {stage.__name__[1:]: jax.jit(self._in_its_mode(stage)) for stage in stages}

  def survey(self, args: tuple[PyTree, ...]) -> tuple[SiteStatus, ...]:
    """Says how each winner stands at the point."""
    return self._run("survey", args)

  def claim(self, args: tuple[PyTree, ...], given: PyTree, key: jax.Array) -> Claim:
    """Evaluates the gradient under test; `given` is one that was handed in as arrays."""
    return self._run("claim", args, given, key)

  def look(
    self,
    args: tuple[PyTree, ...],
    key: jax.Array,
    claim: Claim,
    rows: Sequence[Row],
    tell: Callable[[int], bool],
  ) -> Seen:
    """Looks along rows; `tell` hears after each call how many rows were done in it.

    Where it says False, the rows that are left are not looked at.
    """
    found = []
    for start in range(0, len(rows), _ROWS):
      some = rows[start : start + _ROWS]
      table = [*some, *[some[-1]] * (_ROWS - len(some))]
      leaf, draw, low, high, step, is_upward = map(np.array, zip(*table))
      probes = (*(x.astype(np.int32) for x in (leaf, draw, low, high)), is_upward)
      seen = self._run("look", args, key, claim.leaves, probes, step, np.int32(len(some)))
      found.append([np.asarray(column)[: len(some)] for column in seen])
      if not tell(len(some)):
        found.append([*Seen.nothing(len(rows) - start - len(some))])
        break
    return Seen(*map(np.concatenate, zip(*found)))

  def other_gradient(self, args: tuple[PyTree, ...], key: jax.Array) -> list[jax.Array] | None:
    """Gives a gradient to compare with, leaf by leaf; None where there is none.

    In the place of one that was handed in, JAX's; in the place of JAX's by the program's rules, the
    one without them.
    """
    return self._run_backwards("other", args, key)

  def losses(self, args: tuple[PyTree, ...], key: jax.Array) -> jax.Array | None:
    """Gives what its own precision costs JAX's gradient, [leaves, 2]; None where there is none.

    The relative error of each leaf, and the largest of its coordinates' errors.
    """
    return self._run_backwards("losses", args, key)

  def blame(self, args: tuple[PyTree, ...], key: jax.Array) -> Blame:
    """Holds each custom rule alone against its function."""
    return self._run("blame", args, key)

  def blame_on_kink(self, args: tuple[PyTree, ...], key: jax.Array) -> Blame:
    """Holds each custom rule against its function at a point where winners tie."""
    return self._run("blame_on_kink", args, key)

  def origins(self, args: tuple[PyTree, ...], key: jax.Array) -> Origins:
    """Says where numbers that are not finite were made of finite ones."""
    return self._run("origins", args, key)

  def _in_its_mode(self, stage: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stage)
    def traced(*operands: Any) -> Any:
      with jax.enable_x64(self.question.is_x64):
        return stage(*operands)

    return traced

  def _run_backwards(self, stage: str, *operands: Any) -> Any:
    try:
      return self._run(stage, *operands)
    except (ValueError, NotImplementedError):  # a loop that JAX does not differentiate backwards
      return None

  def _run(self, stage: str, *operands: Any) -> Any:
    try:
      with jax.enable_x64(self._is_wide or self.question.is_x64), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Explicitly requested dtype")
        return jax.block_until_ready(self._compiled[stage](*operands))
    except TypeError:
      # JAX lowers a few functions (Bessel, incomplete gamma) by tracing their float64 insides,
      # which needs 64 bits, and warns of it. Not always: samplers would draw other numbers.
      if self._is_wide or self.question.is_x64:
        raise
      self._is_wide = True
      return self._run(stage, *operands)
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" in str(error):
        error.add_note(_TOO_LARGE)
      raise

  def _point(self, args: tuple[PyTree, ...], key: jax.Array) -> Point:
    question, evaluated, claimed = self.question, self.question.value, None
    if question.order == 2:
      how = (args, question.argnums, key, question.intended)
      claimed = gradient_of(evaluated, *how, custom_rules=True)
      evaluated = gradient_of(evaluated, *how, custom_rules=False)
    return Point(
      evaluated,
      args,
      question.argnums,
      key,
      question.through_stop_gradient,
      question.is_handed,
      claimed,
      question.intended,
      question.trusts_libraries,
    )

  def _survey(self, args: tuple[PyTree, ...]) -> tuple[SiteStatus, ...]:
    return sites(self.question.value, *args, argnums=self.question.argnums)

  def _claim(self, args: tuple[PyTree, ...], given: PyTree, key: jax.Array) -> Claim:
    question = self.question
    point = self._point(args, key)
    check_something("check_gradient", point)
    leaves, own = None, None
    if question.is_handed:

      def gradient(*args: PyTree) -> PyTree:
        found = show(given) if question.gradient is None else question.gradient(*args)
        return found[0] if question.has_aux else found

      leaves = handed("check_gradient", point, gradient, question.is_single)
      if question.gradient is not None:
        own = point.leaves_of(gradient(*show(args)), question.is_single)
    elif not question.is_forward:
      leaves = point.gradient()
      own = point.own_gradient() if question.order == 1 else None
    number = point.number()
    with jax.enable_x64(True):
      unknown = jnp.full((len(point.names),), jnp.nan)
      return Claim(
        leaves,
        number(point.leaves),
        point.weight,
        unknown if leaves is None else jnp.stack(list(map(norm, leaves))),
        jnp.stack(point.units),
        unknown if own is None else _losses(own, leaves or ()),
        tuple(point.names),
        tuple(leaf.shape for leaf in point.leaves),
        point.frozen.opaque,
        point.frozen.cuts,
        point.frozen.iterated,
        point.frozen.rules,
      )

  def _look(
    self,
    args: tuple[PyTree, ...],
    key: jax.Array,
    leaves: list[jax.Array] | None,
    probes: tuple[jax.Array, ...],
    steps: jax.Array,
    count: jax.Array,
  ) -> list[jax.Array]:
    point = self._point(args, key)
    claim = point.number() if leaves is None else leaves  # traced in the caller's mode
    size = 1 if point.frozen.opaque else min(self.question.batch_size, _ROWS)
    turns = -(-_ROWS // size)
    padded = turns * size - _ROWS

    def batches(column: jax.Array) -> jax.Array:
      return jnp.pad(column, (0, padded), mode="edge").reshape(turns, size)

    def look(probe: Probe, step: jax.Array) -> list[jax.Array]:
      rise = point.look(claim, probe, step[None])
      return [rise.right[0], rise.left[0], rise.steps[0], rise.claim, rise.length, rise.size[0]]

    with jax.enable_x64(True):
      rows = jax.tree.map(batches, (Probe(*probes), steps.astype(jnp.float64)))

      def turn(i: jax.Array, found: list[jax.Array]) -> list[jax.Array]:
        some = jax.tree.map(lambda column: column[i], rows)
        seen = jax.vmap(look)(*some) if size > 1 else [x[None] for x in look(*_only(some))]
        return [column.at[i].set(x) for column, x in zip(found, seen)]

      empty = [jnp.zeros((turns, size), jnp.float64)] * 6
      found = jax.lax.fori_loop(0, (count + size - 1) // size, turn, empty)
      return [column.reshape(-1) for column in found]

  def _other(self, args: tuple[PyTree, ...], key: jax.Array) -> list[jax.Array]:
    return self._point(args, key).gradient(custom_rules=self.question.is_handed)

  def _losses(self, args: tuple[PyTree, ...], key: jax.Array) -> jax.Array:
    point = self._point(args, key)
    own, right = point.own_gradient(), point.gradient()  # traced in the caller's mode
    with jax.enable_x64(True):
      peaks = [jnp.max(jnp.abs(wide(a) - b), initial=0.0) for a, b in zip(own, right)]
      return jnp.stack([_losses(own, right), jnp.stack(peaks)], axis=1)

  def _blame(self, args: tuple[PyTree, ...], key: jax.Array) -> Blame:
    question = self.question
    how = question.argnums, key
    found = find_blame(question.value, args, *how, question.order, question.intended)
    if question.order == 1:
      return found
    # Rules that stand in the gradient itself, called by those of the program.
    gradient = gradient_of(question.value, args, *how, question.intended, custom_rules=True)
    inner = find_blame(gradient, args, *how, 1, question.intended)
    return Blame([*inner.errors, *found.errors], inner.rules + found.rules)

  def _blame_on_kink(self, args: tuple[PyTree, ...], key: jax.Array) -> Blame:
    question = self.question
    names = question.intended
    return find_blame(question.value, args, question.argnums, key, 1, names, is_on_kink=True)

  def _origins(self, args: tuple[PyTree, ...], key: jax.Array) -> Origins:
    question, fun = self.question, self.question.value
    gradient = gradient_of(fun, args, question.argnums, key, question.intended, custom_rules=True)
    if question.gradient is not None:
      gradient = of_shown(question.gradient)
    return find_origins(fun, gradient, args, question.argnums)


def _losses(own: Sequence[jax.Array], right: Sequence[jax.Array]) -> jax.Array:
  return jnp.stack([safe_divide(norm(wide(a) - b), norm(b)) for a, b in zip(own, right)])


def _only(tree: PyTree) -> PyTree:
  return jax.tree.map(lambda column: column[0], tree)


@functools.lru_cache(maxsize=32)
def _kept(question: Question) -> Stages:
  return Stages(question)


def stages_of(question: Question) -> Stages:
  """Gives the programs of a question, those of an earlier check where they cannot have changed."""
  return _kept(question) if question.is_fixed else Stages(question)
