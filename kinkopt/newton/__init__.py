"""Newton's method as Optax transforms: the gradient, divided by the curvature."""

from kinkopt.newton._banded import BandedHessian
from kinkopt.newton._blocks import BlockDiagonal, DiagonalHessian
from kinkopt.newton._conjugate_gradients import ConjugateGradients, SteihaugTrustRegion
from kinkopt.newton._curvature import Hessian
from kinkopt.newton._dense_solvers import LU, Eigenvalues
from kinkopt.newton._gauss_newton import GaussNewton
from kinkopt.newton._minimize import minimize
from kinkopt.newton._newton import newton
from kinkopt.newton._outcome import Outcome
from kinkopt.newton._progress import ProgressBar
from kinkopt.newton._read import outcome
from kinkopt.newton._restricted import restricted
from kinkopt.newton._scale_by_newton import scale_by_newton
from kinkopt.newton._scaled import AdaptiveDamping, CubicRegularization, TrustRegion
from kinkopt.newton._solution import Solution, Stop
from kinkopt.newton._solver import Cholesky
from kinkopt.newton._sparse import SparseHessian

__all__ = [
  "LU", "AdaptiveDamping", "BandedHessian", "BlockDiagonal", "Cholesky", "ConjugateGradients",
  "CubicRegularization", "DiagonalHessian", "Eigenvalues", "GaussNewton", "Hessian", "Outcome",
  "ProgressBar", "Solution", "SparseHessian", "SteihaugTrustRegion", "Stop", "TrustRegion",
  "minimize", "newton", "outcome", "restricted", "scale_by_newton",
]  # fmt: skip
