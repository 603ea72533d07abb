"""The measure of agreement of two gradients, coordinate by coordinate."""

import jax
import jax.numpy as jnp

from kinkopt._checks import check_numeric, check_same_tree
from kinkopt._numerics import compute_dtype, safe_divide
from kinkopt._typing import PyTree


def relative_error(analytic: PyTree, numerical: PyTree) -> PyTree:
  """Measures how far two gradients differ, in units of the larger of the two.

  The class notes write::

      |fa - fn| / max(|fa|, |fn|)

  Args:
    analytic: the gradient under test: a pytree of real or complex numbers, any shapes.
    numerical: what it should be; the same structure and shapes. The dtypes may differ.

  Returns:
    A tree of the same structure and shapes. Each coordinate is a real number without a unit, from 0
    (equal) to 2 (opposite); 1 is what a missing or a superfluous coordinate gets. The dtype is the
    real part's of the wider of the two, and float32 at the least.

  Raises:
    TypeError: if a leaf is no number, such as the float0 of an integer's gradient.
    ValueError: if the structures or the shapes differ.

  Numerics:
    0/0 is 0: both gradients say that the coordinate does not matter. Complex numbers are measured
    by their modulus. Both numbers are first scaled by a power of two, which rounds nothing, so that
    neither the difference nor the modulus overflows or underflows; numbers below the smallest
    normal one count as 0 where XLA takes them so, as it does on CPUs. A coordinate where either is
    NaN or infinite gets NaN.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> analytic = {"w": jnp.array([1.0, 2.0, 0.0])}
    >>> numerical = {"w": jnp.array([1.0, -2.0, 0.0])}
    >>> print(kinkopt.gradcheck.relative_error(analytic, numerical)["w"])
    [0. 2. 0.]

  References:
    CS231n notes, "Gradient checks".
  """
  check_same_tree("relative_error", "analytic gradient", analytic, "numerical gradient", numerical)
  for name, tree in (("analytic gradient", analytic), ("numerical gradient", numerical)):
    check_numeric("relative_error", name, tree, "Compare the leaves that have a gradient.")
  return jax.tree.map(_leaf_relative_error, analytic, numerical)


def _leaf_relative_error(analytic: jax.Array, numerical: jax.Array) -> jax.Array:
  dtype = compute_dtype(jnp.result_type(analytic), jnp.result_type(numerical))
  analytic, numerical = jnp.asarray(analytic, dtype), jnp.asarray(numerical, dtype)
  size = jnp.maximum(_largest_part(analytic), _largest_part(numerical))
  # 1/4 leaves room for the modulus of a difference: sqrt(2) * 2 times the largest part.
  scale = jnp.where(size < 1, 2.0**64, 0.25).astype(dtype)
  analytic, numerical = analytic * scale, numerical * scale
  largest = jnp.maximum(jnp.abs(analytic), jnp.abs(numerical))
  return safe_divide(jnp.abs(analytic - numerical), largest)


def _largest_part(x: jax.Array) -> jax.Array:
  return jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag)) if jnp.iscomplexobj(x) else jnp.abs(x)
