"""Learning rates that fall with the step count: the three decays of the class notes.

Each function makes an Optax schedule, `count -> rate`. A count is an integer up to 2**31 - 1, which
float32 (24 significant bits) cannot hold; so counts are divided and split as integers, products are
formed without rounding, and the rate keeps its accuracy until it underflows.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from kinkopt._checks import (
  FACTOR,
  NON_NEGATIVE,
  Interval,
  check_integer,
  check_number,
  dtype_of,
)
from kinkopt._typing import Schedule

__all__ = ["exponential_decay", "inverse_time_decay", "step_decay"]

_LAST_COUNT = 2**31 - 1


def step_decay(init_value: ArrayLike, drop: ArrayLike = 0.5, *, every: ArrayLike) -> Schedule:
  """Drops the rate by a factor, every so many steps.

  The rate at step t is::

      init_value * drop ** (t // every)

  Args:
    init_value: the rate of the first `every` steps; >= 0.
    drop: the factor at each stage, in (0, 1].
    every: the length of a stage, in steps; an integer >= 1. For a drop "every 5 epochs", it is 5
      times the number of steps in an epoch.

  Returns:
    A schedule `count -> rate`. The count is an integer, or an array of them; the rate has its shape
    and JAX's default float dtype. Counts below 0 are taken as 0. The three arguments may be traced.

  Raises:
    ValueError: if an argument is out of range.
    TypeError: if an argument is not a number, `every` not an integer; when called, if the count is
      not an integer.

  Numerics:
    The stage is an integer division, exact at every count. In float32 the relative error is below
    5e-7, and 0 for powers of 1/2, as long as `drop ** stage` is above 1e-36; that holds also for a
    `drop` that float32 must round, such as 0.1, if it is a Python number.

  Differs from Optax:
    `optax.exponential_decay(init_value, every, drop, staircase=True)` divides in float32: it enters
    some stages a step early once counts pass 2**24. `optax.piecewise_constant_schedule` needs all
    its boundaries listed.

  Example:
    >>> import kinkopt
    >>> schedule = kinkopt.schedules.step_decay(0.1, every=100)
    >>> print(schedule(99), schedule(100), schedule(200))
    0.1 0.05 0.025

  References:
    CS231n notes, "Learning rate decay".
  """
  _check("step_decay", init_value=init_value)
  check_number(
    "step_decay",
    "drop",
    drop,
    FACTOR,
    "It is the factor at each stage, and above 1 it would raise the rate. For a drop by half write "
    "`drop=0.5`.",
  )
  check_integer(
    "step_decay",
    "every",
    every,
    Interval(1, _LAST_COUNT, has_high=True),
    "It is the length of a stage in steps. For a drop every thousand steps write `every=1000`.",
  )

  def schedule(count: ArrayLike) -> jax.Array:
    count = _as_count("step_decay", count)
    stage = count // jnp.asarray(every, count.dtype)
    base, shortfall = _as_base(drop)
    # float32 holds each integer up to 2**24, and beyond it those with 7 zero bits at the end.
    exponent = jnp.where(stage < 2**24, stage, (stage >> 7) << 7)
    late = _as_float(stage - exponent) * jnp.log(base)
    power = base ** _as_float(exponent) * (1 + jnp.expm1(late))
    return _as_float(init_value) * (power * _exp_of_minus(stage, shortfall))

  return schedule


def exponential_decay(init_value: ArrayLike, decay_constant: ArrayLike) -> Schedule:
  """Shrinks the rate by the same fraction at every step.

  The class notes write `a = a0 * exp(-k * t)`, with t the iteration number.

  Args:
    init_value: `a0`, the rate at step 0; >= 0.
    decay_constant: `k`, per step; >= 0. The rate halves every `log(2) / k` steps.

  Returns:
    A schedule `count -> rate`. The count is an integer, or an array of them; the rate has its shape
    and JAX's default float dtype. Counts below 0 are taken as 0. Both arguments may be traced.

  Raises:
    ValueError: if an argument is out of range.
    TypeError: if an argument is not a number; when called, if the count is not an integer.

  Numerics:
    In float32 the relative error is below 5e-7 until `exp(-k * t)` underflows, at k * t = 87, where
    the rate becomes 0. The product k * t is formed as an unrounded sum of two floats: rounded to
    one, it would be off by up to 4e-6 there, and so would the rate. A Python number `k` that
    float32 must round keeps 32 bits.

  Differs from Optax:
    `optax.exponential_decay(init_value, 1, exp(-k))` takes powers of a number near 1, which float32
    holds badly: for k = 1e-5 it is off by 4e-3 after 2e5 steps.

  Example:
    >>> import kinkopt
    >>> schedule = kinkopt.schedules.exponential_decay(0.1, 1e-3)
    >>> print(schedule(0), schedule(1000))
    0.1 0.036787946

  References:
    CS231n notes, "Learning rate decay"; Dekker, "A floating-point technique for extending the
    available precision" (1971), for the sum of two floats.
  """
  _check("exponential_decay", init_value=init_value, decay_constant=decay_constant)

  def schedule(count: ArrayLike) -> jax.Array:
    count = _as_count("exponential_decay", count)
    return _as_float(init_value) * _exp_of_minus(count, decay_constant)

  return schedule


def inverse_time_decay(init_value: ArrayLike, decay_constant: ArrayLike) -> Schedule:
  """Shrinks the rate like one over the time.

  The class notes write `a = a0 / (1 + k * t)`, with t the iteration number.

  Args:
    init_value: `a0`, the rate at step 0; >= 0.
    decay_constant: `k`, per step; >= 0. The rate is halved after `1 / k` steps.

  Returns:
    A schedule `count -> rate`. The count is an integer, or an array of them; the rate has its shape
    and JAX's default float dtype. Counts below 0 are taken as 0. Both arguments may be traced.

  Raises:
    ValueError: if an argument is out of range.
    TypeError: if an argument is not a number; when called, if the count is not an integer.

  Numerics:
    In float32 the relative error is below 4e-7.

  Example:
    >>> import kinkopt
    >>> schedule = kinkopt.schedules.inverse_time_decay(0.1, 1e-3)
    >>> print(schedule(0), schedule(1000))
    0.1 0.05

  References:
    CS231n notes, "Learning rate decay".
  """
  _check("inverse_time_decay", init_value=init_value, decay_constant=decay_constant)

  def schedule(count: ArrayLike) -> jax.Array:
    time = _as_float(_as_count("inverse_time_decay", count))
    # An infinite constant would give 0 * inf at step 0.
    rate = _as_float(_at_most(decay_constant, float(jnp.finfo(time.dtype).max)))
    return _as_float(init_value) / (1 + rate * time)

  return schedule


def _check(caller: str, **values: ArrayLike) -> None:
  advice = {
    "init_value": "It is the learning rate at step 0.",
    "decay_constant": "It is `k`, per step; a negative one would raise the rate.",
  }
  for name, value in values.items():
    check_number(caller, name, value, NON_NEGATIVE, advice[name])


def _as_count(caller: str, count: ArrayLike) -> jax.Array:
  dtype = dtype_of(count)
  if dtype is None or not jnp.issubdtype(dtype, jnp.integer):
    raise TypeError(
      f"The schedule made by `{caller}` needs an integer count of steps, but was called with "
      f"{type(count).__name__ if dtype is None else dtype}: floats do not hold every count. Pass "
      "an integer, or an array of them, such as `jnp.arange(1000)`."
    )
  count = jnp.asarray(count)
  # The length of a stage may not fit into a narrower integer.
  return jnp.maximum(count.astype(jnp.int32) if jnp.iinfo(count.dtype).bits < 32 else count, 0)


def _as_float(x: ArrayLike) -> jax.Array:
  return jnp.asarray(x, float)


def _as_base(drop: ArrayLike) -> tuple[jax.Array, float]:
  """Splits `drop` into a float `base` and a Python number, `drop = base * exp(-shortfall)`."""
  tiny = float(jnp.finfo(jnp.result_type(float)).tiny)
  if isinstance(drop, jax.Array):
    return jnp.maximum(_as_float(drop), tiny), 0.0  # log(0) * 0 would be NaN at stage 0
  value = max(float(np.asarray(drop)), tiny)
  base = float(np.asarray(value, jnp.result_type(float)))
  return _as_float(base), math.log(base) - math.log(value)


def _exp_of_minus(count: jax.Array, rate: ArrayLike) -> jax.Array:
  """Gives `exp(-rate * count)` without the error of rounding the product to one float.

  `exp` turns an absolute error of its argument into a relative error, and rounding an argument of
  80 to float32 makes one of 4e-6. So the product is formed as `total + rest`, where `total` is a
  float and `rest` its rounding error, and `exp(-total) * (1 - rest)` is returned.
  """
  if jnp.finfo(jnp.result_type(float)).bits == 64:
    return jnp.exp(-_as_float(rate) * _as_float(count))
  high, low = _split_rate(rate)
  # 8 significant bits of the rate times 16 bits of the count fill the 24 of float32: both exact.
  late = high * _as_float(count >> 16) * 2**16
  early = high * _as_float(count & 0xFFFF)
  total, first_rest = _sum(late, early)
  total, second_rest = _sum(total, low * _as_float(count))
  return jnp.exp(-total) * (1 - (first_rest + second_rest))


def _split_rate(rate: ArrayLike) -> tuple[jax.Array, jax.Array]:
  """Splits a rate into its leading 8 significant bits and the rest."""
  # A larger rate is 0 from step 1 on whatever multiplies it; this one keeps the product finite.
  value = _at_most(rate, 2.0**10)
  if isinstance(value, jax.Array):
    high = jax.lax.reduce_precision(value, exponent_bits=8, mantissa_bits=7)
    return high, value - high
  mantissa, exponent = math.frexp(value)
  high = math.ldexp(round(math.ldexp(mantissa, 8)), exponent - 8)
  return _as_float(high), _as_float(value - high)


def _at_most(x: ArrayLike, most: float) -> jax.Array | float:
  """Caps `x`; a Python number, which may have more digits than a float of JAX's, stays one."""
  return (
    jnp.minimum(_as_float(x), most) if isinstance(x, jax.Array) else min(float(np.asarray(x)), most)
  )


def _sum(larger: jax.Array, smaller: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Adds, and gives what rounding took away; `larger` must be the larger in modulus, or 0."""
  total = larger + smaller
  return total, smaller - (total - larger)
