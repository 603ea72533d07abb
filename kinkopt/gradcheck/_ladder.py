"""A derivative at 0 from differences at a ladder of steps, with a bound on its error.

Differences at h, h/2, h/4, ... are extrapolated to h = 0 in Richardson's tableau. An entry is
believed as far as it agrees with the two entries that it was made of, and no further than rounding
allows; the most believable entry is the answer. Where nothing is finite the bound is NaN: "I no
longer know".
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kinkopt._numerics import machine_eps

# What one evaluation of a program with many sums loses, in units of machine_eps: about the root of
# its depth; see Higham (2002), "Accuracy and Stability of Numerical Algorithms", section 2.8.
_ROUNDINGS = 8.0


class Estimate(NamedTuple):
  """A numerical derivative and a bound on its error, of any one shape; NaN: not known."""

  value: jax.Array
  error: jax.Array


def extrapolate(right: jax.Array, left: jax.Array, steps: jax.Array) -> Estimate:
  """Gives the derivative at 0 of a smooth function from its values at steps to both sides.

  Args:
    right: its values at `+steps`, `[k, ...]`, real.
    left: its values at `-steps`, likewise.
    steps: `k` >= 2 steps, each half of the one before, `[k, ...]`.

  References:
    Richardson (1911); Ridders (1982), "Accurate computation of F'(x) and F'(x)F''(x)".
  """
  row = (right - left) / (2 * steps)
  scale = jnp.maximum(jnp.abs(right), jnp.abs(left))
  rounding = _ROUNDINGS * machine_eps(right.dtype) * scale / steps
  values, errors = [], []
  for power in range(1, right.shape[0]):
    # The error of a centered difference has even powers of the step only.
    finer = (4**power * row[1:] - row[:-1]) / (4**power - 1)
    doubt = jnp.maximum(jnp.abs(finer - row[1:]), jnp.abs(finer - row[:-1]))
    values.append(finer)
    errors.append(doubt + rounding[power:])
    row = finer
  tableau, doubts = jnp.concatenate(values), jnp.concatenate(errors)
  is_known = jnp.isfinite(tableau) & jnp.isfinite(doubts)
  # Not argmin, which JAX does not lower for float64 in a program without 64 bits.
  error = jnp.min(jnp.where(is_known, doubts, jnp.inf), axis=0)
  value = jnp.max(jnp.where(is_known & (doubts == error), tableau, -jnp.inf), axis=0)
  is_lost = ~is_known.any(axis=0)
  return Estimate(jnp.where(is_lost, jnp.nan, value), jnp.where(is_lost, jnp.nan, error))
