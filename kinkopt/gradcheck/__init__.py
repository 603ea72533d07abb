"""Is my gradient right? The textbook check: a numerical gradient, its distance, its meaning.

And one that no kink can fool: `residuals`.
"""

from kinkopt.gradcheck._numerical import numerical_gradient
from kinkopt.gradcheck._relative_error import relative_error
from kinkopt.gradcheck._residuals import Residuals, residuals
from kinkopt.gradcheck._verdict import Verdict, verdict

__all__ = [
  "Residuals", "Verdict", "numerical_gradient", "relative_error", "residuals", "verdict",
]  # fmt: skip
