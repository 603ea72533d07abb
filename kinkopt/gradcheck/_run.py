"""A check on its host: the point, beside its kinks, a verdict for each leaf, whom to blame.

A point on a kink is left for one beside it, where every rule must agree: at a tie JAX picks a
convention, and a custom rule may pick another; neither is wrong.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._checks import dtype_of
from kinkopt._numerics import machine_eps, real_dtype
from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import is_inexact
from kinkopt.gradcheck._blame import Finding
from kinkopt.gradcheck._directions import Seed, direction, fold
from kinkopt.gradcheck._explain import Details, describe
from kinkopt.gradcheck._inspection import Inspection
from kinkopt.gradcheck._judge import (
  COARSE,
  SLACK,
  SLACK_HANDED,
  WRONG,
  Evidence,
  Judgement,
  judge,
  judge_swept,
)
from kinkopt.gradcheck._looks import Watch, losses_of, wide
from kinkopt.gradcheck._report import LeafReport
from kinkopt.gradcheck._stages import Stages
from kinkopt.gradcheck._verdict import Verdict, verdict
from kinkopt.kinks import SiteStatus

# In units of a leaf's root mean square.
_NUDGE = 2.0**-10


def tied(found: Sequence[SiteStatus]) -> tuple[SiteStatus, ...]:
  """Picks the kinks that the point is on."""
  return tuple(status for status in found if int(status.moving_ties))


def beside_kinks(
  args: tuple[PyTree, ...], argnums: Sequence[int], seed: Seed
) -> Iterator[tuple[PyTree, ...]]:
  """Gives points beside a point: to all sides at random, all upwards, all downwards.

  A function may be finite on one side of its kink only.
  """
  for turn in (lambda way: way, np.abs, lambda way: -np.abs(way)):
    moved = list(args)
    for place, n in enumerate(argnums):
      leaves, tree = jax.tree.flatten(args[n])
      own = fold(seed, 2 + place)
      moved[n] = tree.unflatten([_nudged(fold(own, i), x, turn) for i, x in enumerate(leaves)])
    yield tuple(moved)


def _nudged(seed: Seed, leaf: Any, turn: Callable[[np.ndarray], np.ndarray]) -> Any:
  if not is_inexact(leaf):
    return leaf
  wide = np.asarray(leaf).astype(jnp.promote_types(leaf.dtype, jnp.float32))
  size = np.sqrt(np.mean(np.square(np.abs(wide)))) if leaf.size else 1.0
  step = (size if size > 0 else 1.0) * max(_NUDGE, 4 * machine_eps(leaf.dtype))
  moved = wide + step * turn(direction(seed, wide.shape, wide.dtype))
  with jax.enable_x64(True):  # else NumPy's float64 would become float32
    return jax.device_put(moved.astype(leaf.dtype), leaf.sharding if leaf.committed else None)


# An array's own rounding, after a program's sums, in units of its machine_eps.
_ROUNDINGS = 64
# A rule that is off by less, relative to its derivative, is not blamed: both sides are rounded.
_UNBLAMED = 1e-7
_UNBLAMED_ITERATED = 1e-4
# The constants of a program are off by about as much as its arithmetic makes of the gradient.
_OWN_ROUNDINGS = 4.0
# On a kink leaves are compared where one is known to be wrong, and rounding is no error there.
_SEEN_ON_KINK = 1e-7


class Run:
  """A check: the point, beside its kinks, and what was seen there in each mode."""

  def __init__(
    self,
    stages: Stages,
    given: Sequence[Any] | None,
    slack: float,
    probes: int,
    progress: Callable[[int, int], None] | None,
  ):
    self.stages, self.given, self.slack, self.probes = stages, given, slack, probes
    self.watch = Watch(progress)
    self.point = stages.program.args
    self.tied: tuple[SiteStatus, ...] = ()
    self.inspections: list[Inspection] = []
    self.blame_on_kink: tuple[Finding, ...] = ()

  def judge(self, modes: Sequence[bool], sweep: int, locate: bool) -> tuple[LeafReport, ...]:
    """Judges each leaf in each mode, reverse or forward."""
    leaves: list[LeafReport] = []
    for is_forward in modes:
      inspection = self._inspect(is_forward)
      self.inspections.append(inspection)
      leaves += self._judged(inspection, sweep, locate)
    return tuple(self._on_the_kink(leaves))

  def _at(self, args: tuple[PyTree, ...], is_forward: bool) -> Inspection:
    return Inspection(self.stages, args, self.given, self.watch, is_forward)

  def _inspect(self, is_forward: bool) -> Inspection:
    """Inspects the point, or, if that is on a kink, the first beside it that is finite."""
    if self.inspections:
      return self._at(self.inspections[0].args, is_forward)
    inspection = self._at(self.point, is_forward)
    inspection.look_first(self.probes, self.slack)
    if inspection.ties or self.stages.question.policy.intended:
      self.tied = tied(self.stages.survey(self.point))
    if not self.tied:
      return inspection
    seen = inspection.evaluations
    for args in beside_kinks(self.point, self.stages.layout.argnums, self.stages.seed):
      inspection = self._at(args, is_forward)
      if np.isfinite(inspection.claim.value):
        break
    inspection.evaluations = inspection.planned = seen
    inspection.look_first(self.probes, self.slack)
    return inspection

  def _on_the_kink(self, leaves: list[LeafReport]) -> list[LeafReport]:
    """Judges, on a kink, the rules that are no convention there."""
    first, stages = self.inspections[0], self.stages
    if not self.tied or not first.rules or first.is_forward or stages.question.is_scalar:
      return leaves
    self.blame_on_kink = stages.blame_on_kink(self.point).findings(_UNBLAMED)
    right = stages.other_gradient(self.point) if self.blame_on_kink else None
    if right is None:
      return leaves
    claims = stages.claim(self.point).leaves or ()
    claims, right = ([np.asarray(x) / stages.weight for x in tree] for tree in (claims, right))
    pairs = zip(leaves, claims, right)
    return [*(_on_a_kink(*row, self.slack) for row in pairs), *leaves[len(right) :]]

  def approximations(self) -> tuple[str, ...]:
    """Names what is evaluated less exactly than it is differentiated."""
    loops = self.inspections[0].iterated
    told = tuple(f"{loop} ends where a condition on what moves does not hold" for loop in loops)
    if any(inspection.trusted for inspection in self.inspections):
      told += ("functions of a library, whose derivative rules were trusted",)
    return told

  def blame(self) -> tuple[Finding, ...]:
    """Names the custom rules that are wrong by themselves."""
    first = self.inspections[0]
    slack = _UNBLAMED_ITERATED if first.iterated else _UNBLAMED
    beside = self.stages.blame(first.args).findings(slack)
    on_kink = (f._replace(sentence=f"on the kink, {f.sentence}") for f in self.blame_on_kink)
    return beside or tuple(on_kink)

  def _judged(self, inspection: Inspection, sweep: int, locate: bool) -> list[LeafReport]:
    """Judges each leaf."""
    claim, layout, question = inspection.claim, inspection.layout, self.stages.question
    leaves, slack = range(len(layout.sizes)), self.slack
    whole = [[inspection.whole(n, draw) for draw in range(self.probes)] for n in leaves]
    seen = inspection.see(whole, claim.norms, slack)
    swept: list[Evidence | None] = [None] * len(leaves)
    if sum(layout.sizes) <= sweep and not inspection.opaque and not self.watch.is_stopped:
      swept = [inspection.sweep(n, slack) for n in leaves]
    is_iterated = bool(inspection.iterated)
    how = claim.value, bool(inspection.opaque), is_iterated
    along = [judge(evidence, slack, *how) for evidence in seen]
    found = [judge_swept(*pair, slack, is_iterated) for pair in zip(along, swept)]
    losses = claim.losses
    if self.stages.gradient is not None:
      found = [_within_own_precision(*pair) for pair in zip(found, losses)]
    elif question.is_scalar and any(judgement.verdict in WRONG for judgement in found):
      both = self.stages.both_precisions(inspection.args)
      if both is not None:
        own, right = ([wide(leaf) for leaf in tree or ()] for tree in (both.own, both.leaves))
        losses = losses_of(own, right)
        peaks = [np.max(np.abs(a - b), initial=0.0) for a, b in zip(own, right)]
        found = [_as_rough(*row) for row in zip(found, along, swept, losses, peaks)]
    doubts = [n for n in leaves if found[n].verdict is Verdict.TOO_HIGH]
    if doubts:
      trusting = inspection.trusting_libraries()
      again = trusting.see([whole[n] for n in doubts], claim.norms[doubts], slack)
      inspection.evaluations += trusting.evaluations
      for n, evidence in zip(doubts, again):
        if judge(evidence, slack, *how).verdict.is_pass:
          found[n] = dataclasses.replace(found[n], verdict=Verdict.OKAY)
          inspection.trusted = True
    is_located = locate and not self.watch.is_stopped
    details = Details(inspection, seen, swept, slack) if is_located else None
    return [
      LeafReport(
        layout.names[i],
        layout.shapes[i],
        str(layout.dtypes[i]),
        judgement.verdict,
        judgement.relative_error,
        judgement.power,
        seen[i].norm / abs(self.stages.weight),
        details.of(i, judgement) if details else "",
        "fwd" if inspection.is_forward else "rev",
        question.order,
        float(losses[i]),
        details.maps.get(i) if details else None,
        details.curves.get(i) if details else None,
      )
      for i, judgement in enumerate(found)
    ]


def _on_a_kink(leaf: LeafReport, claim: np.ndarray, right: np.ndarray, slack: float) -> LeafReport:
  """Corrects a verdict by the gradient at the point itself, where a rule is known to be wrong."""
  gap, size = np.linalg.norm(claim - right), np.linalg.norm(right)
  is_nothing = np.isnan(leaf.power)  # a gradient of 0, and what is seen of it rounding
  if (
    not leaf.verdict.is_pass
    or is_nothing
    or gap <= max(slack, _SEEN_ON_KINK) * max(size, leaf.norm)
  ):
    return leaf
  relative = float(gap / max(size, np.linalg.norm(claim)))
  what = describe(claim, right, leaf.name, set())
  return dataclasses.replace(
    leaf,
    verdict=verdict(relative, kinks=False),
    relative_error=relative,
    detail=f"{what}, on the kink itself",
  )


def _within_own_precision(found: Judgement, loss: float) -> Judgement:
  """Lets pass what a handed gradient's constants cost, rounded to its dtype and then cancelling."""
  if found.verdict is Verdict.TOO_HIGH and found.relative_error <= _OWN_ROUNDINGS * loss:
    return dataclasses.replace(found, verdict=Verdict.OKAY)
  return found


def _as_rough(
  found: Judgement, along: Judgement, swept: Evidence | None, loss: float, peak: float
) -> Judgement:
  """Lets arrays be as far off as JAX's own gradient is in the program's precision.

  Much further than their dtype says on a GPU, whose products take ten bits of float32.

  Args:
    found: the verdict.
    along: the one that random directions gave.
    swept: what was seen of each coordinate.
    loss: the relative error of JAX's gradient.
    peak: the largest of its coordinates' errors.
  """
  unseen = _OWN_ROUNDINGS * loss
  if found.verdict not in WRONG or (along.verdict in WRONG and along.relative_error > unseen):
    return found
  if swept is not None and np.nan_to_num(swept.gap).max() > _OWN_ROUNDINGS * peak:
    return found
  is_rough = unseen > COARSE
  passed = Verdict.UNDECIDED if is_rough else Verdict.OKAY
  return Judgement(passed, along.relative_error, max(along.power, unseen), is_rough)


def slack_of(gradient: Callable[..., PyTree] | PyTree | None) -> float:
  """Gives the relative error that passes: an array of a gradient has a rounding of its own."""
  if gradient is None or callable(gradient):
    return SLACK if gradient is None else SLACK_HANDED
  dtypes = [dtype_of(leaf) for leaf in jax.tree.leaves(gradient) if is_inexact(leaf)]
  eps = max((machine_eps(real_dtype(dtype)) for dtype in dtypes), default=0.0)
  return max(SLACK_HANDED, _ROUNDINGS * eps)
