"""Which custom rule is wrong, and where a number that is not finite comes from.

The program is run once more, watched equation by equation. Each custom rule is held, alone, against
the function that it belongs to, at the operands that it really has there, inside loops and branches
too; and the first equation that made a NaN or an infinity of finite numbers is named.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kinkopt import _jax, _places
from kinkopt._places import Place, told
from kinkopt.gradcheck._directions import Seed, direction, fold
from kinkopt.gradcheck._point import norm, product
from kinkopt.kinks import freeze, sites
from kinkopt.trace._interpreter import Lanes, is_active, is_inexact, lane, replaying
from kinkopt.trace._policy import Policy
from kinkopt.trace._program import Program
from kinkopt.trace._replay import Replay

# A direction along which a rule nearly cancels would make much of little.
_CANCELLED = 0.1
_WAYS_ON_A_KINK = 12


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Gap:
  """For each operand that moves, how far the rule is off: relative, and at its worst turn."""

  errors: jax.Array  # [orders, operands]

  def empty(self) -> "_Gap":
    return _Gap(jnp.zeros_like(self.errors))

  def merge(self, other: "_Gap") -> "_Gap":
    return _Gap(jnp.maximum(self.errors, other.errors))

  def only_if(self, holds: jax.Array) -> "_Gap":
    return _Gap(jnp.where(holds, self.errors, 0))


class _Rule(NamedTuple):
  """A rule that was judged, and what its operands that move are called."""

  owner: _places.Function
  rule: _places.Function
  operands: tuple[str, ...]


class Finding(NamedTuple):
  """What a rule is blamed for, in a sentence without its stop, and where it is written."""

  sentence: str
  owner: str  # the function whose rule it is
  rule: _places.Function


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blame:
  """How far each custom rule is off, in the order of the program."""

  errors: list[jax.Array]  # for each rule [orders, operands], relative
  rules: tuple[_Rule, ...] = dataclasses.field(metadata={"static": True})

  def findings(self, slack: float) -> tuple[Finding, ...]:
    """Names the rules that are off by more than `slack`."""
    beginnings = (
      "the rule of {} is not its derivative",
      "the derivative of the rule of {} is wrong",
    )
    told: dict[str, tuple[float, str, _places.Function]] = {}
    for (owner, rule, operands), errors in zip(self.rules, self.errors):
      who = f"`{owner.name}` ({_places.told(owner.file, owner.line)})"
      for words, row in zip(beginnings, errors):
        for operand, error in zip(operands, row):
          if float(error) > slack:
            sentence = f"{words.format(who)} in {operand}"
            told[sentence] = max(told.get(sentence, (0.0,))[0], float(error)), owner.name, rule
    # A rule whose derivative is wrong may only call one that is wrong itself.
    first = [sentence for sentence in told if sentence.startswith("the rule of")]
    return tuple(Finding(f"{s}: off by {told[s][0]:.1e}", *told[s][1:]) for s in first or told)


class _Judge(Replay):
  """Runs what is evaluated, and judges the user's rules on the way."""

  blank = None

  def __init__(
    self, seed: Seed, order: int, intended: Sequence[str], is_on_kink: bool, is_x64: bool
  ):
    super().__init__(float64=True, policy=Policy(intended=tuple(intended)), is_x64=is_x64)
    self.seed, self.order, self.is_on_kink = seed, order, is_on_kink
    self.rules: dict[Any, _Rule] = {}

  def run_equation(self, eqn: Any, values: list[Any]) -> list[Any]:
    if eqn.primitive.name in _jax.RULES and any(map(is_active, values)):
      program = eqn.params["call_jaxpr"]
      if (
        not _jax.is_library(program) and _places.function(program).name not in self.policy.intended
      ):
        # Of what JAX cannot differentiate but by its rule nothing is known.
        with contextlib.suppress(ValueError, NotImplementedError):
          self._judge(_places.function(program), eqn, values)
    return super().run_equation(eqn, values)

  def _judge(self, owner: _places.Function, eqn: Any, values: list[Any]) -> None:
    moved = [i for i, v in enumerate(values) if is_active(v) and is_inexact(lane(v, 0))]
    point = [lane(values[i], 0) for i in moved]
    by_rule, bare = (self._run_with(eqn, values, moved, keeps) for keeps in (True, False))
    seeds = [fold(self.seed, i) for i in range(len(moved) + 1)]
    outputs, pullback = jax.vjp(by_rule, point)
    weights = [_like(fold(seeds[0], i), out) for i, out in enumerate(outputs)]
    (claims,) = pullback(weights)
    ways = [_like(seed, x) for seed, x in zip(seeds[1:], point)]
    rights = []
    for i in range(len(moved)):
      way = [v if i == j else jnp.zeros_like(v) for j, v in enumerate(ways)]
      # Forward, since what a rule replaces may be a loop that has no other derivative.
      rates = jax.jvp(bare, (point,), (way,))[1]
      rights.append(sum(map(product, weights, rates), jnp.float64(0)))
    errors = [[_off(claim, product(claim, v), r) for claim, v, r in zip(claims, ways, rights)]]
    if self.is_on_kink:
      rows = zip(range(len(moved)), claims, seeds[1:])
      errors = [[_beyond_sides(bare, point, i, weights, *row) for i, *row in rows]]
    if self.order == 2:
      seconds = [
        jax.jvp(lambda x, run=run: jax.vjp(run, x)[1](weights)[0], (point,), (ways,))[1]
        for run in (by_rule, bare)
      ]
      errors.append([_off(c, product(c, v), product(r, v)) for c, r, v in zip(*seconds, ways)])
    units = jax.ShapeDtypeStruct((len(moved),), jnp.float64)
    site = dataclasses.replace(
      self.site(owner.name, units), file=owner.file, line=owner.line, path=self._path
    )
    operands = tuple(_places.argument(eqn, i) for i in moved)
    self.rules[site] = _Rule(owner, _places.rule(eqn), operands)
    self.merge(site, _Gap(jnp.stack(list(map(jnp.stack, errors)))))

  def _run_with(
    self, eqn: Any, values: list[Any], moved: Sequence[int], keeps_rules: bool
  ) -> Callable[[list[Any]], list[Any]]:
    def evaluate(operands: list[Any]) -> list[Any]:
      # On a kink the rules of libraries are right, and not what they evaluate.
      policy = dataclasses.replace(self.policy, of_user=keeps_rules, of_libraries=True)
      inner = Replay(True, policy, self.is_x64)
      entered = list(values)
      for i, operand in zip(moved, operands):
        entered[i] = Lanes((operand,))
      with replaying(float64=True):
        results = inner.run_equation(eqn, entered)
      return [r for r in (lane(v, 0) for v in results) if is_inexact(r)]

    return evaluate


def _off(claims: jax.Array, claim: jax.Array, right: jax.Array) -> jax.Array:
  """Gives the relative error of a claim along a direction."""
  gap = jnp.abs(claim - right)
  # A direction along which nearly nothing happens would make much of rounding.
  size = jnp.maximum(jnp.maximum(jnp.abs(claim), jnp.abs(right)), _CANCELLED * norm(claims))
  return jnp.where(gap > 0, gap / size, 0.0)


def _beyond_sides(
  fun: Callable[[list[Any]], list[Any]],
  point: list[Any],
  number: int,
  weights: list[jax.Array],
  claims: jax.Array,
  seed: Seed,
) -> jax.Array:
  """Says how far a gradient is, on a kink, from what lies between the two sides.

  With one winner that ties, all between the one-sided derivatives is a convention. With more of
  them, it depends on each what the conventions add up to, and any claim is let pass.
  """

  def off(turn: jax.Array) -> jax.Array:
    way = [jnp.zeros_like(x) for x in point]
    way[number] = _like(fold(seed, turn[None]), point[number])
    ties = sum((s.moving_ties for s in sites(fun, point, toward=way)), jnp.int32(0))
    sides = []
    for sign in (1, -1):
      toward = [sign * v for v in way]
      frozen = freeze(fun, point, toward=toward)
      rates = jax.jvp(frozen, (point,), (toward,))[1]
      sides.append(sign * sum(map(product, weights, rates), jnp.float64(0)))
    claim = product(claims, way[number])
    nearest = jnp.clip(claim, jnp.minimum(*sides), jnp.maximum(*sides))
    return jnp.where(ties > 1, 0.0, _off(claims, claim, nearest))

  # What is too much along one direction may lie between the sides along another.
  return jnp.max(jax.lax.map(off, jnp.arange(_WAYS_ON_A_KINK, dtype=jnp.uint32)))


def _like(seed: Seed, x: jax.Array) -> jax.Array:
  return direction(seed, x.shape, x.dtype)


def find_blame(
  program: Program,
  seed: Seed,
  intended: Sequence[str] = (),
  order: int = 1,
  is_on_kink: bool = False,
) -> Blame:
  """Holds each of the user's custom rules against the function that it belongs to.

  Args:
    program: the function that they stand in, at the point.
    seed: decides directions and weights.
    intended: names of functions that are left alone.
    order: 2: whether the rule can be differentiated once more is asked as well.
    is_on_kink: whether winners tie at the point: then a rule may be any convention between the two
      sides.
  """
  judge = _Judge(seed, order, intended, is_on_kink, program.is_x64)
  with replaying(float64=True):
    program.run(judge, [program.args])
  gaps = [gap.errors for gap in judge.records.values()]
  return Blame(gaps, tuple(judge.rules[site] for site in judge.records))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Made:
  """How many numbers that are not finite an equation made of finite ones."""

  count: jax.Array

  def empty(self) -> "_Made":
    return _Made(jnp.zeros_like(self.count))

  def merge(self, other: "_Made") -> "_Made":
    return _Made(self.count + other.count)

  def only_if(self, holds: jax.Array) -> "_Made":
    return _Made(jnp.where(holds, self.count, 0))


class _Watch(Replay):
  """Runs a program by its own rules' functions, and notes where finite numbers end."""

  blank = None

  def __init__(self, is_x64: bool):
    super().__init__(float64=True, policy=Policy(), is_x64=is_x64)

  def run_equation(self, eqn: Any, values: list[Any]) -> list[Any]:
    results = super().run_equation(eqn, values)
    if any(map(is_active, values)) and not _jax.programs_in(eqn):
      operands, found = ([lane(v, 0) for v in row] for row in (values, results))
      were_finite = jnp.all(jnp.stack([_is_finite(x) for x in operands if is_inexact(x)]))
      lost = [jnp.sum(~jnp.isfinite(x), dtype=jnp.int32) for x in found if is_inexact(x)]
      if lost:
        made = jnp.where(were_finite, sum(lost), 0)
        units = jax.ShapeDtypeStruct((), jnp.int32)
        self.merge(self.site(_jax.name(eqn), units), _Made(made))
    return results


def _is_finite(value: Any) -> jax.Array:
  return jnp.all(jnp.isfinite(value))


class Maker(NamedTuple):
  """An equation, and where it is."""

  name: str
  place: Place


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Origins:
  """What is not finite, forwards and backwards."""

  is_value_finite: jax.Array
  forwards: list[jax.Array]  # of each equation of the function, the count of what it made
  backwards: list[jax.Array]  # of each equation of the gradient
  places: tuple[tuple[Maker, ...], tuple[Maker, ...]] = dataclasses.field(metadata={"static": True})

  def first(self) -> tuple[Maker | None, Maker | None]:
    """Gives the first equation that made such numbers in the function, and in its gradient."""
    forward, backward = (
      next((place for place, count in zip(places, counts) if int(count)), None)
      for places, counts in zip(self.places, (self.forwards, self.backwards))
    )
    return forward, backward

  def sentence(self) -> str:
    """Says why the gradient is not finite; the end of a sentence, empty where nobody knows."""
    forward, backward = self.first()
    if forward and not bool(self.is_value_finite):
      return f"the value itself is not finite: {_told(forward)} made it of finite numbers"
    if forward:
      return (
        f"{_told(forward)} is not finite in a branch that `where` did not take, and 0 times "
        "that is NaN on the way back: put a second `where` around its operand, so that the branch "
        "is finite everywhere"
      )
    if backward:
      return (
        f"its slope is infinite on the way back, at {_told(backward)}; where a `where` or a "
        "factor of 0 is to hide that, 0 times infinity is NaN: put a second `where` around the "
        "operand there, so that the slope is finite everywhere"
      )
    return ""


def _told(maker: Maker) -> str:
  return f"`{maker.name}`" + (f" ({told(*maker.place)})" if maker.place.file else "")


def find_origins(program: Program, gradient: Program) -> Origins:
  """Counts where a function and its gradient lose finite numbers, at the arguments of both."""
  counts, places, values = [], [], []
  for code in (program, gradient):
    watch = _Watch(code.is_x64)
    with replaying(float64=True):
      values.append(code.run(watch, [code.args]))
    counts.append([made.count for made in watch.records.values()])
    places.append(tuple(Maker(s.primitive, Place(s.file, s.line)) for s in watch.records))
  outputs = [leaf for leaf in jax.tree.leaves(values[0]) if is_inexact(leaf)]
  is_value_finite = jnp.all(jnp.stack([_is_finite(leaf) for leaf in outputs]))
  return Origins(is_value_finite, counts[0], counts[1], (places[0], places[1]))
