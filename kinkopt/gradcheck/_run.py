"""A check on its host: the point, beside its kinks, a verdict for each leaf, whom to blame."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._checks import dtype_of
from kinkopt._numerics import machine_eps, real_dtype
from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import hide, is_inexact
from kinkopt.gradcheck._blame import Finding
from kinkopt.gradcheck._describe import describe
from kinkopt.gradcheck._details import Details
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
from kinkopt.gradcheck._nudge import beside_kinks, tied
from kinkopt.gradcheck._question import Question, Watch
from kinkopt.gradcheck._report import LeafReport
from kinkopt.gradcheck._stages import stages_of
from kinkopt.gradcheck._verdict import Verdict, verdict

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
    question: Question,
    point: tuple[PyTree, ...],
    gradient: Callable[..., PyTree] | PyTree | None,
    key: jax.Array,
    progress: Callable[[int, int], None] | None,
  ):
    self.question, self.key, self.watch = question, key, Watch(progress)
    self.given = None if callable(gradient) else jax.tree.map(jnp.asarray, hide(gradient))
    self.slack = _slack(gradient)
    self.point = point
    self.tied = tied(stages_of(question).survey(point))
    on_all_sides = beside_kinks(point, question.argnums, key)
    self.points = on_all_sides if self.tied else iter([point])
    self.inspections: list[Inspection] = []
    self.blame_on_kink: tuple[Finding, ...] = ()

  def judge(
    self, modes: Sequence[bool], probes: int, sweep: int, locate: bool
  ) -> tuple[LeafReport, ...]:
    """Judges each leaf in each mode, reverse or forward."""
    leaves: list[LeafReport] = []
    for is_forward in modes:
      inspection = self._inspect(is_forward)
      self.inspections.append(inspection)
      self.points = iter([inspection.args])
      leaves += _judged(inspection, probes, sweep, self.slack, locate)
    return tuple(self._on_the_kink(leaves))

  def _inspect(self, is_forward: bool) -> Inspection:
    """Takes the first of the points that the function is finite at, or else the last."""
    stages = stages_of(dataclasses.replace(self.question, is_forward=is_forward))
    tried = (Inspection(stages, p, self.given, self.key, self.watch) for p in self.points)
    for inspection in tried:
      if np.isfinite(inspection.claim.value):
        break
    return inspection

  def _on_the_kink(self, leaves: list[LeafReport]) -> list[LeafReport]:
    """Judges, on a kink, the rules that are no convention there."""
    claim = self.inspections[0].claim
    if not self.tied or not claim.rules or claim.leaves is None or self.question.is_handed:
      return leaves
    stages = stages_of(self.question)
    self.blame_on_kink = stages.blame_on_kink(self.point, self.key).findings(_UNBLAMED)
    right = stages.other_gradient(self.point, self.key) if self.blame_on_kink else None
    if right is None:
      return leaves
    claims = stages.claim(self.point, None, self.key).leaves or ()
    weight = float(claim.weight)
    claims, right = ([np.asarray(x) / weight for x in tree] for tree in (claims, right))
    pairs = zip(leaves, claims, right)
    return [*(_on_a_kink(*row, self.slack) for row in pairs), *leaves[len(right) :]]

  def approximations(self) -> tuple[str, ...]:
    """Names what is evaluated less exactly than it is differentiated."""
    loops = self.inspections[0].claim.iterated
    told = tuple(f"{loop} ends where a condition on what moves does not hold" for loop in loops)
    if any(inspection.trusted for inspection in self.inspections):
      told += ("functions of a library, whose derivative rules were trusted",)
    return told

  def blame(self) -> tuple[Finding, ...]:
    """Names the custom rules that are wrong by themselves."""
    point = self.inspections[0].args
    slack = _UNBLAMED_ITERATED if self.inspections[0].claim.iterated else _UNBLAMED
    beside = stages_of(self.question).blame(point, self.key).findings(slack)
    on_kink = (f._replace(sentence=f"on the kink, {f.sentence}") for f in self.blame_on_kink)
    return beside or tuple(on_kink)


def _judged(
  inspection: Inspection, probes: int, sweep: int, slack: float, locate: bool
) -> list[LeafReport]:
  """Judges each leaf."""
  claim, question = inspection.claim, inspection.stages.question
  leaves = range(len(claim.sizes))
  whole = [[inspection.whole(n, draw) for draw in range(probes)] for n in leaves]
  seen = inspection.see(whole, np.asarray(claim.norms), slack)
  swept: list[Evidence | None] = [None] * len(claim.sizes)
  if sum(claim.sizes) <= sweep and not claim.opaque and not inspection.watch.is_stopped:
    swept = [inspection.sweep(n, slack) for n in leaves]
  how = float(claim.value), bool(claim.opaque), bool(claim.iterated)
  along = [judge(evidence, slack, *how) for evidence in seen]
  found = [judge_swept(*pair, slack, bool(claim.iterated)) for pair in zip(along, swept)]
  losses = np.asarray(claim.losses)
  if question.gradient is not None:
    found = [_within_own_precision(*pair) for pair in zip(found, losses)]
  elif question.is_handed and any(judgement.verdict in WRONG for judgement in found):
    measured = inspection.stages.losses(inspection.args, inspection.key)
    if measured is not None:
      losses, peaks = np.asarray(measured).T
      found = [_as_rough(*row) for row in zip(found, along, swept, losses, peaks)]
  doubts = [n for n in leaves if found[n].verdict is Verdict.TOO_HIGH]
  if doubts:
    trusting = inspection.trusting_libraries()
    again = trusting.see([whole[n] for n in doubts], np.asarray(claim.norms)[doubts], slack)
    inspection.evaluations += trusting.evaluations
    for n, evidence in zip(doubts, again):
      if judge(evidence, slack, *how).verdict.is_pass:
        found[n] = dataclasses.replace(found[n], verdict=Verdict.OKAY)
        inspection.trusted = True
  is_located = locate and not inspection.watch.is_stopped
  details = Details(inspection, seen, swept, slack) if is_located else None
  moving = jax.tree.leaves([inspection.args[argnum] for argnum in question.argnums])
  moving = [leaf for leaf in moving if is_inexact(leaf)]
  return [
    LeafReport(
      claim.names[i],
      np.shape(moving[i]),
      str(dtype_of(moving[i])),
      judgement.verdict,
      judgement.relative_error,
      judgement.power,
      seen[i].norm / abs(float(claim.weight)),
      details.of(i, judgement) if details else "",
      "fwd" if question.is_forward else "rev",
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


def _slack(gradient: Callable[..., PyTree] | PyTree | None) -> float:
  """Gives the relative error that passes: an array of a gradient has a rounding of its own."""
  if gradient is None or callable(gradient):
    return SLACK if gradient is None else SLACK_HANDED
  dtypes = [dtype_of(leaf) for leaf in jax.tree.leaves(gradient) if is_inexact(leaf)]
  eps = max((machine_eps(real_dtype(dtype)) for dtype in dtypes), default=0.0)
  return max(SLACK_HANDED, _ROUNDINGS * eps)
