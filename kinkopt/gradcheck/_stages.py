"""What a check computes, stage by stage: each a program that is compiled once.

Stages are made from the user's traced program, and kept by its text: a second check of the same
loss, or of one written anew with the same equations, compiles nothing. A passing check compiles
two: what the gradient claims, and what is seen along directions. While the first is compiled the
second is traced.
"""

import concurrent.futures
import dataclasses
import functools
import time
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt import _jax, _places
from kinkopt._typing import PyTree
from kinkopt.gradcheck._blame import Blame, Origins, find_blame, find_origins
from kinkopt.gradcheck._directions import Seed, fold
from kinkopt.gradcheck._point import Layout, Point, gradient_of, weights_of
from kinkopt.gradcheck._residuals import handed
from kinkopt.kinks import SiteStatus
from kinkopt.kinks._sites import survey
from kinkopt.trace._fingerprint import fingerprints, places_of
from kinkopt.trace._policy import Policy
from kinkopt.trace._program import Program

_KEPT = 64
# Values that are looked at in one call, and directions: of small programs and of large ones.
_SMALL = 4096  # coordinates
_CALLS = {True: (32, 16), False: (16, 1)}
# Seconds of looking that are worth a second compilation, which takes a few.
_PATIENCE = 6.0
_TOO_LARGE = (
  "`check_gradient` needs the memory of one gradient, and of `batch_size` pairs of evaluations, in "
  "float64. Lower `batch_size` if it is above 1, or check on fewer examples: what is wrong with a "
  "rule seldom needs all of them to show."
)


@dataclasses.dataclass(frozen=True)
class Question:
  """What is asked, all but the programs and the arrays."""

  policy: Policy  # for what is evaluated
  is_single: bool = True  # whether `argnums` was an integer
  is_scalar: bool = False  # whether a gradient was handed in
  order: int = 1
  batch_size: int = 1


class Claim(NamedTuple):
  """What the gradient under test says."""

  value: jax.Array  # of the function, its outputs weighed
  leaves: list[jax.Array] | None  # float64; None where arrays were handed in, or in forward mode
  own: list[jax.Array] | None  # in the program's own precision; None: not asked, or not apart


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sight:
  """What is seen along directions; beside it, static, what the program met."""

  values: jax.Array  # [rows]
  sizes: jax.Array  # [rows], of what the values are summed from
  ties: jax.Array  # [rows], winners that tie at the point and part on the way
  opaque: tuple[str, ...] = dataclasses.field(metadata={"static": True})
  cuts: tuple[str, ...] = dataclasses.field(metadata={"static": True})
  iterated: tuple[str, ...] = dataclasses.field(metadata={"static": True})
  rules: tuple[str, ...] = dataclasses.field(metadata={"static": True})

  @property
  def names_lines(self) -> bool:
    """Whether it tells of lines, which differ between programs of one text."""
    return bool(self.opaque or self.cuts or self.iterated)


class _Kept(NamedTuple):
  """A compiled stage."""

  compiled: Any  # or the promise of it
  lines: tuple[Any, ...] | None = None  # of the program that it was made of, if it tells of them
  is_fast: bool = False  # whether XLA optimized it


class Stages:
  """The compiled programs of one question, at any point."""

  def __init__(
    self,
    question: Question,
    program: Program,
    gradient: Program | None,
    layout: Layout,
    seed: Seed,
  ):
    self.question, self.program, self.gradient = question, program, gradient
    self.layout, self.seed = layout, seed
    self._seconds = 0.0  # that the last stage took to run
    self.calls = _CALLS[sum(layout.sizes) <= _SMALL]
    key = fingerprints([program, gradient])
    self._kept = {} if key is None else _kept((key, question, layout.places, self.calls))
    outputs = program.result
    if question.order == 2:
      shapes = zip(layout.names, layout.shapes, layout.dtypes)
      outputs = {name: jax.ShapeDtypeStruct(*rest) for name, *rest in shapes}
    with jax.enable_x64(True):
      weights = weights_of(seed, outputs, question.is_scalar)
      self.weights = [None if w is None else jnp.asarray(w) for w in weights]
      inner = weights_of(fold(seed, 3), program.result) if question.order == 2 else []
      constants = [_jax.closed(p.code)[1] for p in (program, gradient) if p is not None]
      self._held = [list(map(list, constants)), self.weights, inner, jnp.asarray(seed)]

  def asking(self, question: Question) -> "Stages":
    """Gives the stages of another question about the same programs."""
    return Stages(question, self.program, self.gradient, self.layout, self.seed)

  @property
  def weight(self) -> float:
    """Of the only output, if that is a real scalar; else 1."""
    known = [weight for weight in self.weights if weight is not None]
    is_alone = len(known) == 1 and not known[0].shape and jnp.isrealobj(known[0])
    return float(known[0]) if is_alone else 1.0

  @functools.cached_property
  def lines(self) -> tuple[Any, ...]:
    """The user's line of each equation."""
    return tuple(_places.places(self.program.code))

  def start(self, args: tuple[PyTree, ...], ways: list[jax.Array]) -> None:
    """Begins to compile what every check needs, two programs at once."""
    if self._find("claim", self._operands(args)) is None:
      self._compile("claim", self._operands(args), is_later=True)
      rows = np.zeros(self.calls[0], np.int32), np.zeros(self.calls[0])
      operands = self._operands(args, ways, *rows, np.int32(0))
      if self._find("look", operands) is None:
        self._compile("look", operands)

  def survey(self, args: tuple[PyTree, ...]) -> tuple[SiteStatus, ...]:
    """Says how each winner stands at the point."""
    return self._run("survey", args)

  def claim(self, args: tuple[PyTree, ...]) -> Claim:
    """Evaluates the gradient under test."""
    return self._trusted("claim", args)

  def value(self, args: tuple[PyTree, ...]) -> Claim:
    """Evaluates the function alone, where no gradient is asked for."""
    return self._run("value", args)

  def look(
    self,
    args: tuple[PyTree, ...],
    ways: list[jax.Array],
    which: np.ndarray,
    steps: np.ndarray,
    to_come: int = 0,
  ) -> Sight:
    """Evaluates, winners frozen, at `steps` along some of the directions.

    Args:
      args: the point.
      ways: for each leaf its part of the directions, `[directions, *shape]`.
      which: for each row the number of its direction; at most `calls[0]` rows.
      steps: and how far.
      to_come: how many rows may follow: if these would take long, the program is compiled anew,
        to run fast.
    """
    count = len(steps)
    rest = (0, self.calls[0] - count)
    table = np.pad(which.astype(np.int32), rest), np.pad(steps, rest)
    seen = self._trusted("look", args, ways, *table, np.int32(count))
    if to_come * self._seconds > _PATIENCE * count:
      self._hurry("look", self._operands(args, ways, *table, np.int32(count)))
    columns = (np.asarray(x)[:count] for x in (seen.values, seen.sizes, seen.ties))
    return dataclasses.replace(seen, **dict(zip(("values", "sizes", "ties"), columns)))

  def push(self, args: tuple[PyTree, ...], ways: list[jax.Array], which: np.int32) -> float:
    """Gives the derivative along one of some directions, forwards."""
    return float(self._run("push", args, ways, which))

  def other_gradient(self, args: tuple[PyTree, ...]) -> list[jax.Array] | None:
    """Gives a gradient to compare with, leaf by leaf; None where there is none.

    In the place of one that was handed in, JAX's; in the place of JAX's by the program's rules, the
    one without them.
    """
    return self._run_backwards("other", args)

  def both_precisions(self, args: tuple[PyTree, ...]) -> Claim | None:
    """Gives JAX's gradient in float64 and in the program's own precision; None: there is none."""
    return self._run_backwards("both", args)

  def blame(self, args: tuple[PyTree, ...]) -> Blame:
    """Holds each custom rule alone against its function."""
    return self._run("blame", args)

  def blame_on_kink(self, args: tuple[PyTree, ...]) -> Blame:
    """Holds each custom rule against its function at a point where winners tie."""
    return self._run("blame_on_kink", args)

  def origins(self, args: tuple[PyTree, ...]) -> Origins:
    """Says where numbers that are not finite were made of finite ones."""
    return self._run("origins", args)

  def _operands(self, args: tuple[PyTree, ...], *rest: Any) -> tuple[Any, ...]:
    return (jax.tree.leaves(args), *self._held, *rest)

  def _run_backwards(self, stage: str, args: tuple[PyTree, ...]) -> Any:
    try:
      return self._run(stage, args)
    except (ValueError, NotImplementedError):  # a loop that JAX does not differentiate backwards
      return None

  def _run(self, stage: str, args: tuple[PyTree, ...], *rest: Any) -> Any:
    operands = self._operands(args, *rest)
    try:
      compiled = self._find(stage, operands) or self._compile(stage, operands)
      with jax.enable_x64(True):
        start = time.perf_counter()
        found = jax.block_until_ready(compiled(*operands))
        self._seconds = time.perf_counter() - start
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" in str(error):
        error.add_note(_TOO_LARGE)
      raise
    if stage in _NAME_LINES or getattr(found, "names_lines", False):
      key = self._key(stage, operands)
      kept = self._kept[key]
      if kept.lines not in (None, self.lines):
        del self._kept[key]
        return self._run(stage, args, *rest)
      self._kept[key] = kept._replace(lines=self.lines)
    return found

  def _trusted(self, stage: str, args: tuple[PyTree, ...], *rest: Any) -> Any:
    """Runs a stage; if that is not finite, once more as XLA compiles for users.

    XLA's light compilation has made NaN of a complex recurrent net whose gradient is finite.
    """
    found = self._run(stage, args, *rest)
    if all(np.isfinite(x).all() for x in jax.tree.leaves(found)):
      return found
    self._hurry(stage, self._operands(args, *rest))
    return self._run(stage, args, *rest)

  def _key(self, stage: str, operands: tuple[Any, ...]) -> Any:
    return stage, places_of(jax.tree.leaves(operands))

  def _find(self, stage: str, operands: tuple[Any, ...]) -> Any:
    key = self._key(stage, operands)
    kept = self._kept.get(key)
    if kept is None or not isinstance(kept.compiled, concurrent.futures.Future):
      return kept and kept.compiled
    del self._kept[key]  # should it raise
    compiled = kept.compiled.result()
    self._kept[key] = kept._replace(compiled=compiled)
    return compiled

  def _compile(self, stage: str, operands: tuple[Any, ...], is_later: bool = False) -> Any:
    """Compiles a stage and keeps it; `is_later`: in a thread, while others are traced."""
    lowered, options = self._lower(stage, operands), _jax.light_compilation()
    compiled = (
      _compiler().submit(lowered.compile, options) if is_later else lowered.compile(options)
    )
    self._kept[self._key(stage, operands)] = _Kept(compiled)
    return compiled

  def _lower(self, stage: str, operands: tuple[Any, ...]) -> Any:
    body = getattr(self, f"_{stage}")
    is_x64 = self.program.is_x64

    def traced(leaves: list[Any], constants: Any, weights: Any, inner: Any, seed: Any, *rest: Any):
      with jax.enable_x64(is_x64):
        return body(_Inputs(self, leaves, constants, weights, inner, seed), *rest)

    traced.__name__ = f"kinkopt_{stage}"
    with jax.enable_x64(is_x64), warnings.catch_warnings():
      warnings.filterwarnings("ignore", message="Explicitly requested dtype")
      with jax.enable_x64(True):
        operands = jax.tree.map(jnp.asarray, operands)
      program = jax.jit(traced).trace(*operands)
      try:
        return program.lower()
      except TypeError:
        # JAX lowers a few functions (Bessel, incomplete gamma) by tracing their float64 insides,
        # which needs 64 bits. Not always: samplers would draw other numbers.
        with jax.enable_x64(True):
          return program.lower()

  def _hurry(self, stage: str, operands: tuple[Any, ...]) -> None:
    """Compiles a stage anew, to run fast, unless it is compiled so."""
    key = self._key(stage, operands)
    kept = self._kept[key]
    if not kept.is_fast and _jax.light_compilation():
      compiled = self._lower(stage, operands).compile()
      self._kept[key] = kept._replace(compiled=compiled, is_fast=True)

  def _survey(self, at: "_Inputs") -> tuple[SiteStatus, ...]:
    return survey(at.program)

  def _claim(self, at: "_Inputs") -> Claim:
    if at.gradient is None:
      value, leaves = at.point.gradient()
      own = at.point.own_gradient() if self._has_own_precision else None
      return Claim(value, leaves, own)
    leaves = handed("check_gradient", at.gradient, self.layout, self.question.is_single)
    code, constants = _jax.closed(at.gradient.code)
    own = _jax.evaluate(code, constants, jax.tree.leaves(at.gradient.args))
    own = jax.tree.unflatten(jax.tree.structure(at.gradient.result), own)
    own = at.point.leaves_of(own, self.question.is_single)
    return Claim(self._value(at).value, leaves, own)

  @property
  def _has_own_precision(self) -> bool:
    return self.question.order == 1 and _jax.has_narrow_floats(self.program.code)

  def _value(self, at: "_Inputs") -> Claim:
    number = at.point.number()
    with jax.enable_x64(True):
      return Claim(number(at.point.leaves), None, None)

  def _look(self, at: "_Inputs", ways: Any, which: Any, steps: Any, count: Any) -> Sight:
    point = at.point
    with jax.enable_x64(True):
      leaves, runs = point.leaves, []

      def evaluate(row: jax.Array) -> tuple[jax.Array, ...]:
        moved = [x + steps[row] * way[which[row]] for x, way in zip(leaves, ways)]
        *seen, run = point.frozen(moved)
        runs.append(run)
        return tuple(seen)

      def turns(size: int) -> Any:
        def turn(i: jax.Array, found: Any) -> Any:
          rows = size * i + jnp.arange(size, dtype=jnp.int32)
          seen = jax.vmap(evaluate)(rows) if size > 1 else [x[None] for x in evaluate(rows[0])]
          return [x.at[rows].set(new, mode="drop") for x, new in zip(found, seen)]

        empty = [jnp.zeros(self.calls[0], d) for d in (jnp.float64, jnp.float64, jnp.int32)]
        return jax.lax.fori_loop(0, (count + size - 1) // size, turn, empty)

      size = 2 * self.question.batch_size if self.question.batch_size > 1 else 1
      found = turns(min(size, self.calls[0]))
      if size > 1 and runs[-1].opaque:  # which need not have a rule for batches
        found = turns(1)
    run = runs[-1]
    rules = tuple(name for name, is_library in run.met.items() if not is_library)
    values, sizes, ties = found
    met = tuple(run.opaque), tuple(run.cuts), tuple(run.iterated)
    return Sight(values, sizes, ties, *met, rules)

  def _push(self, at: "_Inputs", ways: list[jax.Array], which: jax.Array) -> jax.Array:
    number = at.point.number()
    with jax.enable_x64(True):
      way = [directions[which] for directions in ways]
      return jax.jvp(number, (at.point.leaves,), (way,))[1]

  def _other(self, at: "_Inputs") -> list[jax.Array]:
    return at.point.gradient(custom_rules=self.question.is_scalar)[1]

  def _both(self, at: "_Inputs") -> Claim:
    return Claim(*at.point.gradient(), at.point.own_gradient())

  def _blame(self, at: "_Inputs") -> Blame:
    how = at.seed, self.question.policy.intended
    found = find_blame(at.program, *how, order=self.question.order)
    if self.question.order == 1:
      return found
    # Rules that stand in the gradient itself, called by those of the program.
    inner = find_blame(at.point.claimed, *how)
    return Blame([*inner.errors, *found.errors], inner.rules + found.rules)

  def _blame_on_kink(self, at: "_Inputs") -> Blame:
    return find_blame(at.program, at.seed, self.question.policy.intended, is_on_kink=True)

  def _origins(self, at: "_Inputs") -> Origins:
    gradient = at.gradient
    if gradient is None:
      weights = weights_of(fold(at.seed, 3), at.program.result)
      how = at.program, self.layout, weights, self.question.policy
      gradient = gradient_of(*how, custom_rules=True)
    return find_origins(at.program, gradient)


# Stages whose results always tell of lines.
_NAME_LINES = ("survey", "blame", "blame_on_kink", "origins")


class _Inputs:
  """What a stage is traced with."""

  def __init__(
    self, stages: Stages, leaves: Any, constants: Any, weights: Any, inner: Any, seed: Any
  ):
    args = jax.tree.unflatten(jax.tree.structure(stages.program.args), leaves)
    self.stages, self.inner, self.seed = stages, inner, seed
    self.program = stages.program.at(args, constants[0])
    gradient = stages.gradient
    self.gradient = None if gradient is None else gradient.at(args, constants[1])
    self._weights = weights

  @functools.cached_property
  def point(self) -> Point:
    stages, question = self.stages, self.stages.question
    evaluated = claimed = self.program
    if question.order == 2:
      how = self.program, stages.layout, self.inner, question.policy
      claimed = gradient_of(*how, custom_rules=True)
      evaluated = gradient_of(*how, custom_rules=False)
    return Point(evaluated, claimed, stages.layout, self._weights, question.policy)


@_jax.kept(_KEPT)
def _kept(key: Any) -> dict[Any, Any]:
  """Gives the compiled stages of a question, with the lines that they tell of; at first none."""
  return {}


@functools.cache
def _compiler() -> concurrent.futures.ThreadPoolExecutor:
  return concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="kinkopt")
