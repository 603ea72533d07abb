"""How noisy a computed function is, from its values at equally spaced points.

Differences of high order kill whatever is smooth and leave the noise, whose size they tell. It is
asked for where a program cannot be replayed in float64, and so has a precision of its own.
"""

import math

import numpy as np

# Levels of the table agree on the noise if they are within this factor.
_AGREEMENT = 4.0


def noise_of(values: np.ndarray) -> np.ndarray:
  """Estimates the standard deviation of the noise in a function's values.

  Args:
    values: at `m` >= 5 equally spaced points, close to each other, `[..., m]`.

  Returns:
    `[...]`; NaN where the levels of the table do not agree.

  References:
    Moré and Wild (2011), "Estimating computational noise", section 4.
  """
  levels, has_signs, row = [], [], values
  for order in range(1, values.shape[-1]):
    row = np.diff(row, axis=-1)
    share = math.factorial(order) ** 2 / math.factorial(2 * order)
    levels.append(np.sqrt(share * np.mean(row**2, axis=-1)))
    has_signs.append((row.min(-1) <= 0) & (row.max(-1) >= 0))
  noise = np.full(values.shape[:-1], np.nan)
  for order in range(len(levels) - 3, -1, -1):
    some = np.stack(levels[order : order + 3])
    agrees = (some.max(0) <= _AGREEMENT * some.min(0)) & has_signs[order]
    noise = np.where(agrees, levels[order], noise)
  return noise
