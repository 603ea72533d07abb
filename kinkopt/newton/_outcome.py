"""What became of an update, as sentences; a state holds their codes."""

import enum


class Outcome(enum.Enum):
  """What the last Newton update was, as a sentence; the state holds its `code`.

  Example:
    >>> import kinkopt
    >>> print(kinkopt.newton.Outcome.SHIFTED.name, kinkopt.newton.Outcome.SHIFTED.code)
    SHIFTED 2
  """

  NOT_STARTED = "No update has been made yet."
  NEWTON = (
    "The Hessian, with any damping asked for, is positive definite: the update is its Newton step."
  )
  SHIFTED = (
    "The Hessian is indefinite or singular, or its step too long: a multiple of the identity was "
    "added that makes it neither."
  )
  DAMPED = (
    "The step was shortened by a damping of the Hessian, as the last trials of the loss had asked."
  )
  ZERO_HESSIAN = (
    "The Hessian is zero, as it is where the loss is piecewise linear (`kinkopt.kinks.sites` lists "
    "its kinks): there is no curvature to divide by, and the update follows the gradient."
  )
  HESSIAN_NOT_FINITE = "The Hessian holds NaN or infinity: the update follows the gradient."
  GRADIENT_NOT_FINITE = "The gradient holds NaN or infinity: the update is zero."
  NO_SHIFT_HELPED = (
    "No shift of the Hessian gave a finite descent direction: the update is the gradient."
  )
  FLIPPED = (
    "The Hessian has eigenvalues that are negative or close to zero: the update divides by their "
    "magnitudes, none taken for less than the floor."
  )
  CLIMBS = (
    "The solution of the Newton equation climbs or is not finite: the update is the gradient."
  )
  NEGATIVE_CURVATURE = (
    "Conjugate gradients met a direction of negative curvature and stopped there: the Hessian is "
    "not positive definite."
  )
  UNFINISHED = (
    "Conjugate gradients reached `max_steps` before `rtol`: the update descends, but solves the "
    "Newton equation only roughly."
  )
  PRODUCT_NOT_FINITE = (
    "A product with the Hessian is not finite, or the step too long for the dtype: the update is "
    "what conjugate gradients had before, or the gradient."
  )
  BOUNDARY = "The update ends at the edge of the region where the quadratic model is trusted."
  REJECTED = (
    "No trial step lowered the loss enough: the update is zero, and the next trial is shorter."
  )
  PRECISION_FLOOR = (
    "The decrease that is left is below what rounding lets the loss and its gradient show: the "
    "update is zero."
  )
  VALUE_NOT_FINITE = "The loss is NaN or infinite at these parameters: the update is zero."

  @property
  def code(self) -> int:
    """The number that stands for this outcome in the state: its place in the list."""
    return list(Outcome).index(self)
