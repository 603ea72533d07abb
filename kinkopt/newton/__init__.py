"""Newton's method as Optax transforms: the gradient, divided by the curvature."""

from kinkopt.newton._newton import newton, outcome, scale_by_newton
from kinkopt.newton._solver import Outcome

__all__ = ["Outcome", "newton", "outcome", "scale_by_newton"]
