"""Is my gradient right? The textbook check, in the notes' words, and one that no kink can fool."""

from kinkopt.gradcheck._check import check_gradient
from kinkopt.gradcheck._looks import StopCheck
from kinkopt.gradcheck._numerical import numerical_gradient
from kinkopt.gradcheck._pictures import Source
from kinkopt.gradcheck._report import GradientReport, LeafReport
from kinkopt.gradcheck._residuals import Residuals, residuals
from kinkopt.gradcheck._verdict import Verdict, relative_error, verdict

__all__ = [
  "GradientReport", "LeafReport", "Residuals", "Source", "StopCheck", "Verdict", "check_gradient",
  "numerical_gradient", "relative_error", "residuals", "verdict",
]  # fmt: skip
