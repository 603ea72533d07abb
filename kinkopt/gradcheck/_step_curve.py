"""How far differences are from a gradient, by their step: it tells wrong from rough."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kinkopt.render import Chart, Series


class Ladder(NamedTuple):
  """Differences along one direction, and what was made of them."""

  steps: np.ndarray  # [k]
  differences: np.ndarray  # [k]
  claim: float  # the derivative by the gradient
  estimate: float  # by the differences, extrapolated
  error: float  # a bound on the error of `estimate`


@dataclasses.dataclass(frozen=True)
class StepCurve:
  """Relative distances of centered differences, the largest step first, each `[steps]`.

  From the derivative that they lead to, they go down with the square of the step, until rounding
  takes over. From a right gradient they do the same; from a wrong one they stay where they are.
  """

  steps: tuple[float, ...]
  from_gradient: tuple[float, ...]
  from_derivative: tuple[float, ...]

  def to_block(self, name: str) -> Chart:
    """Gives the picture as a block of a Document."""
    return Chart(
      f"How far differences along `{name}` are from its gradient. Of a right one both lines fall.",
      "step",
      "relative distance",
      (
        Series("from the gradient", self.steps, self.from_gradient),
        Series("from the derivative", self.steps, self.from_derivative),
      ),
      log_x=True,
      log_y=True,
      is_only_drawn=True,
    )


def step_curve(ladders: Sequence[Ladder]) -> StepCurve | None:
  """Joins the ladders along one direction; None where nothing is known."""
  known = [ladder for ladder in ladders if np.isfinite(ladder.error)]
  if not known:
    return None
  best = min(known, key=lambda ladder: ladder.error)
  steps = np.concatenate([ladder.steps for ladder in ladders])
  differences = np.concatenate([ladder.differences for ladder in ladders])
  scale = max(abs(best.claim), abs(best.estimate)) or 1.0
  order = [i for i in np.argsort(-steps) if np.isfinite(differences[i])]
  columns = (
    steps[order],
    np.abs(differences[order] - best.claim) / scale,
    np.abs(differences[order] - best.estimate) / scale,
  )
  return StepCurve(*(tuple(float(f"{x:.3g}") for x in column) for column in columns))
