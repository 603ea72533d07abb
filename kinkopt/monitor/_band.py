"""From a ratio to a sentence.

The class notes want a ratio of about 1e-3 and say no more; the width of the band around it is this
library's choice. A band is a rule of thumb: it says where to look, not that something is wrong.
"""

import math
import numbers
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from kinkopt._checks import POSITIVE, Interval, check_number
from kinkopt._words import Spoken

_ABOVE_ONE = Interval(1, math.inf, has_low=False)


class RatioBand(Spoken):
  """What a ratio update : parameters says about the size of the step."""

  TOO_SMALL = (
    "The updates are small beside the parameters, or zero: these learn slowly, or have converged. "
    "If the loss is still high, consider a larger learning rate."
  )
  HEALTHY = "The updates have a usual size beside the parameters."
  TOO_LARGE = (
    "The updates are large beside the parameters: training may be unstable. "
    "Consider a smaller learning rate or clipping."
  )
  ZERO_PARAMETERS = (
    "The parameters are zero and the updates are not, as in the first step of a bias that starts "
    "at zero: there is nothing to compare with. Look again after some steps."
  )
  NOT_FINITE = (
    "The parameters or the updates are not finite, or so large that their squares are not: there "
    "is no ratio. Look for the step at which this began."
  )


def band(ratio: ArrayLike, target: float = 1e-3, width: float = 10.0) -> RatioBand:
  """Says whether a ratio update : parameters is too small, healthy or too large.

  Args:
    ratio: one ratio, as `read_update_ratios` gives it; >= 0, infinity or NaN.
    target: the ratio wished for; > 0. The class notes want about 1e-3.
    width: the factor by which a ratio may miss the target on either side; > 1. The notes give none;
      10 is this library's choice, from the notes' "~".

  Returns:
    `HEALTHY` from `target / width` to `target * width`, both included; `TOO_SMALL` below, 0 too;
    `TOO_LARGE` above; `ZERO_PARAMETERS` for infinity and `NOT_FINITE` for NaN.

  Raises:
    ValueError: if `ratio` is negative or not a scalar, or `target` or `width` out of range.
    TypeError: if an argument is not a real number, or under `jit`.

  Example:
    >>> import kinkopt
    >>> ratios = {"['b']": 0.0, "['w']": 2e-3}
    >>> {name: kinkopt.monitor.band(ratio).name for name, ratio in ratios.items()}
    {"['b']": 'TOO_SMALL', "['w']": 'HEALTHY'}
    >>> print(kinkopt.monitor.band(2e-3).value)
    The updates have a usual size beside the parameters.

  References:
    CS231n notes, "Ratio of weights:updates".
  """
  check_number("band", "target", target, POSITIVE, "It is the ratio wished for; try 1e-3.")
  check_number("band", "width", width, _ABOVE_ONE, "It is a factor on either side of `target`.")
  value = _check_ratio(ratio)
  if math.isnan(value):
    return RatioBand.NOT_FINITE
  if math.isinf(value):
    return RatioBand.ZERO_PARAMETERS
  if value < target / width:
    return RatioBand.TOO_SMALL
  return RatioBand.HEALTHY if value <= target * width else RatioBand.TOO_LARGE


def _check_ratio(ratio: ArrayLike) -> float:
  if isinstance(ratio, jax.core.Tracer):
    raise TypeError(
      f"`band` chooses a sentence on the host, but its ratio is a traced {jax.typeof(ratio)}. "
      "Return the ratio from the traced function and call `band` outside."
    )
  if isinstance(ratio, (Mapping, list, tuple)) or np.ndim(ratio) > 0:
    raise ValueError(
      f"`band` judges one ratio, but was given a {type(ratio).__name__} of {len(ratio)}. "
      "For the dict of `read_update_ratios` write "
      "`{name: band(ratio) for name, ratio in ratios.items()}`."
    )
  is_array = hasattr(ratio, "dtype") and jnp.issubdtype(ratio.dtype, jnp.number)
  if not isinstance(ratio, numbers.Real) and not (is_array and jnp.isrealobj(ratio)):
    raise TypeError(f"`band(ratio={ratio!r})` is not a real number. It is a quotient of two norms.")
  if float(ratio) < 0:
    raise ValueError(
      f"`band(ratio={float(ratio):g})` is negative, but a ratio of two norms is 0 at the least. "
      "Pass what `read_update_ratios` gives."
    )
  return float(ratio)
