"""What floating point can and cannot do.

The few operations whose rounding decides whether the rest of the library is right: the step that a
difference really takes, a quotient that may be 0/0, a root that may be differentiated at 0, and the
relative error of the class notes. Arrays come in, arrays go out; nothing here knows of optimisers.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike


def machine_eps(dtype: DTypeLike) -> float:
  """Gives the distance from 1 to the next larger number of a real or complex floating dtype.

  Args:
    dtype: a floating or complex dtype; a complex one answers for its parts.

  Returns:
    The unit round-off as a Python float; 2**-23 for float32.

  Example:
    >>> import kinkopt._numerics
    >>> kinkopt._numerics.machine_eps("bfloat16")
    0.0078125
  """
  return float(jnp.finfo(dtype).eps)


def compute_dtype(*dtypes: DTypeLike) -> jnp.dtype:
  """Gives the dtype to compute in: the widest of `dtypes`, and float32 at the least.

  Of what JAX has: with 64 bits off, a NumPy float64 counts as float32. It does not depend on
  `jax_numpy_dtype_promotion`, because to widen is its purpose.
  """
  with jax.numpy_dtype_promotion("standard"):
    return jnp.result_type(jnp.float32, *map(jax.dtypes.canonicalize_dtype, dtypes))


def real_dtype(dtype: DTypeLike) -> jnp.dtype:
  """Gives the dtype of `abs(x)` for an `x` of the given dtype."""
  return jnp.finfo(dtype).dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.dtype(dtype)


def abs_sq(x: jax.Array) -> jax.Array:
  """Squares the modulus: `x**2` for real `x`, `re**2 + im**2`, without a root, for complex."""
  return jnp.square(x) if jnp.isrealobj(x) else jnp.square(x.real) + jnp.square(x.imag)


def safe_divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
  """Divides, with 0/0 defined as 0; anything else over 0 stays infinite or NaN."""
  # The inner `where` keeps the 0/0 out of the derivative, where 0 * NaN would be NaN.
  zero_over_zero = (numerator == 0) & (denominator == 0)
  return jnp.where(zero_over_zero, 0, numerator) / jnp.where(zero_over_zero, 1, denominator)


def safe_sqrt(x: jax.Array) -> jax.Array:
  """Takes the root of a real `x`, with the derivative at 0 defined as 0 instead of infinity.

  An update rule that is differentiated through (meta-learning) meets `sqrt(0)` at every coordinate
  whose gradient is 0, and infinity times 0 is NaN.
  """
  is_zero = x == 0
  return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, x)))


def round_to_dtype(x: jax.Array) -> jax.Array:
  """Rounds a real `x` to what its dtype can hold, even where XLA would keep more bits.

  XLA may carry float16 and bfloat16 intermediates in float32 (`xla_allow_excess_precision`); a
  difference of neighbours must see the rounded ones. `lax.reduce_precision` is exact there and is
  the identity for float32 and float64.
  """
  info = jnp.finfo(x.dtype)
  return jax.lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=info.nmant)


def exact_step(x: ArrayLike, step: ArrayLike) -> tuple[jax.Array, jax.Array]:
  """Moves `x` by about `step` and says how far it really moved.

  `x + h` is rounded, so the distance travelled is `(x + h) - x`, which is exact by Sterbenz's lemma
  when `h` is small against `x`; dividing a difference by `h` itself costs a relative error of
  `machine_eps * |x| / h`.

  Args:
    x: real floating values, any shape.
    step: the distance wished for, in the unit of `x`, broadcast against it.

  Returns:
    `(moved, taken)`: `x + step` as stored in the dtype of `x`, and `moved - x`. `taken` is 0 where
    `step` is below the spacing of the numbers at `x`.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt._numerics
    >>> moved, taken = kinkopt._numerics.exact_step(jnp.float32(1.0), 1e-5)
    >>> print(taken)
    1.001358e-05

  References:
    Sterbenz, "Floating-Point Computation" (1974); Press et al., "Numerical Recipes", section 5.7.
  """
  x = jnp.asarray(x)
  moved = round_to_dtype(x + jnp.asarray(step, x.dtype))
  return moved, moved - x


def all_finite(arrays: Sequence[jax.Array]) -> jax.Array:
  """Says whether no entry of any array is NaN or infinite.

  Example:
    >>> import jax.numpy as jnp
    >>> print(all_finite([jnp.ones(3), jnp.array([1.0, jnp.nan])]))
    False
  """
  return jnp.all(jnp.array([jnp.all(jnp.isfinite(array)) for array in arrays], bool))


def normalized(x: jax.Array) -> jax.Array:
  """Divides by the largest magnitude, so that products of two such neither over- nor underflow.

  Example:
    >>> import jax.numpy as jnp
    >>> print(normalized(jnp.array([1e38, -2e38], jnp.float32)).round(3))
    [ 0.5 -1. ]
  """
  size = jnp.max(jnp.abs(x), initial=0)
  root = jnp.sqrt(jnp.where(size > 0, size, 1))
  # In two steps: XLA may multiply by a reciprocal instead, and that of `size` be subnormal.
  return x / root / root
