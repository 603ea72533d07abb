"""Derivatives at 0 from values at steps, with a bound on the error; and the noise of values.

Differences at h, h/4, h/16, ... are extrapolated to h = 0 in Richardson's tableau. An entry is
believed as far as it agrees with the two entries that it was made of, and no further than rounding
allows; the most believable entry is the answer. Where nothing is finite the bound is NaN: "I no
longer know". Where a program cannot be replayed in float64 its own noise is measured instead.
The arrays of a ladder are NumPy's or JAX's, all of one kind.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from kinkopt._numerics import machine_eps

# What one evaluation of a program with many sums loses, in units of machine_eps: about the root of
# its depth, see Higham (2002), "Accuracy and Stability of Numerical Algorithms", section 2.8; and
# more where large values cancel on the way. With this the bound holds on the tests' corpus.
_ROUNDINGS = 64.0
RATIO = 4


class Estimate(NamedTuple):
  """A numerical derivative and a bound on its error, of any one shape; NaN: not known."""

  value: Any
  error: Any


def rounding_of(size: Any) -> Any:
  """Gives what a value may be off by, whose summands are of a size; of an array of either kind."""
  return _ROUNDINGS * machine_eps(size.dtype) * size


def extrapolate(right: Any, left: Any, steps: Any, noise: Any = None) -> Estimate:
  """Gives the derivative at 0 of a smooth function from its values at steps to both sides.

  Args:
    right: its values at `+steps`, `[k, ...]`, real.
    left: its values at `-steps`, likewise.
    steps: `k` >= 2 steps, each the one before over `RATIO`, `[k, ...]`.
    noise: what a value may be off by; by default a few roundings of its dtype.

  References:
    Richardson (1911); Ridders (1982), "Accurate computation of F'(x) and F'(x)F''(x)".
  """
  xp = right.__array_namespace__()
  scale = xp.maximum(xp.abs(right), xp.abs(left))
  noise = rounding_of(scale) if noise is None else noise
  row, rounding = (right - left) / (2 * steps), noise / steps
  entries, doubts = [], []
  for power in range(1, right.shape[0]):
    # The error of a centered difference has even powers of the step only.
    weight = RATIO ** (2 * power)
    finer = (weight * row[1:] - row[:-1]) / (weight - 1)
    doubt = xp.maximum(xp.abs(finer - row[1:]), xp.abs(finer - row[:-1]))
    entries.append(finer)
    doubts.append(doubt + rounding[power:])
    row = finer
  return _most_believable(xp.concatenate(entries), xp.concatenate(doubts))


def extrapolate_from_one_side(values: Any, center: Any, steps: Any, noise: Any = None) -> Estimate:
  """Gives the one-sided derivative at 0, at the edge of where a function is finite.

  There it may go like a fractional power of the step, so no power is assumed: Aitken's process
  finds the limit of any geometric approach.

  Args:
    values: its values at `steps`, `[k, ...]`, real.
    center: its value at 0, `[...]`.
    steps: `k` >= 5 steps, each the same part of the one before; negative for the other side.
    noise: as for `extrapolate`.

  References:
    Aitken (1926); Brezinski and Redivo-Zaglia (1991), "Extrapolation Methods", section 2.3.
  """
  xp = values.__array_namespace__()
  scale = xp.maximum(xp.abs(values), xp.abs(center))
  noise = rounding_of(scale) if noise is None else noise
  row, rounding = (values - center) / steps, noise / xp.abs(steps)
  entries, doubts = [], []
  for _ in range((row.shape[0] - 1) // 2):
    before, after = row[1:-1] - row[:-2], row[2:] - row[1:-1]
    bend = after - before
    is_done = bend == 0
    share = xp.where(is_done, 0, after / xp.where(is_done, 1, bend))
    finer = row[2:] - share * after
    # An entry shares its rounding with the three that it was made of.
    rounding = (1 + 2 * xp.abs(share)) ** 2 * rounding[2:]
    entries.append(finer[1:])
    doubts.append(2 * xp.abs(xp.diff(finer, axis=0)) + rounding[1:])
    row = finer
  return _most_believable(xp.concatenate(entries), xp.concatenate(doubts))


def _most_believable(entries: Any, doubts: Any) -> Estimate:
  xp = entries.__array_namespace__()
  is_known = xp.isfinite(entries) & xp.isfinite(doubts)
  # Not argmin, which JAX does not lower for float64 in a program without 64 bits.
  error = xp.min(xp.where(is_known, doubts, xp.inf), axis=0)
  value = xp.max(xp.where(is_known & (doubts == error), entries, -xp.inf), axis=0)
  is_lost = ~is_known.any(axis=0)
  return Estimate(xp.where(is_lost, xp.nan, value), xp.where(is_lost, xp.nan, error))


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
