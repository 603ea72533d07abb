"""What a relative error means: the ladder of the class notes, in sentences.

The numbers below are the notes'. A verdict is given on the host, from numbers that exist: what was
not compared, or is not finite, never passes.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._checks import check_numeric, check_same_tree
from kinkopt._coordinates import leaf_names
from kinkopt._numerics import compute_dtype, safe_divide
from kinkopt._typing import PyTree
from kinkopt._words import Spoken


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


class Verdict(Spoken):
  """What to make of a gradient, from best to worst; the value says it in a sentence."""

  HAPPY = "The relative error is 1e-7 or less: be happy."
  OKAY = "The relative error is 1e-4 or less: usually okay for an objective with kinks."
  TOO_HIGH = (
    "The relative error is above 1e-7: too high for an objective without kinks (tanh, "
    "softmax), which should reach 1e-7. With kinks (relu, max, abs), up to 1e-4 is usually okay."
  )
  UNCOMFORTABLE = "The relative error is between 1e-4 and 1e-2: this should make you uncomfortable."
  WRONG = "The relative error is above 1e-2: the gradient is probably wrong."
  NOT_FINITE = (
    "The relative error is NaN or infinite somewhere: there one of the two gradients is not "
    "finite, or the step was lost in rounding. This decides nothing."
  )
  UNDECIDED = (
    "Nothing was compared, or too coarsely to tell right from wrong. This decides nothing."
  )

  @property
  def is_pass(self) -> bool:
    """Whether the gradient may be trusted: True for `HAPPY` and `OKAY`."""
    return self in (Verdict.HAPPY, Verdict.OKAY)


_SEVERITY = {verdict: severity for severity, verdict in enumerate(Verdict)}


def verdict(relative_error: PyTree, *, kinks: bool) -> Verdict:
  """Says what the notes say of a relative error; of many, what they say of the worst.

  ========================  ==================  ==================
  relative error            with kinks          without kinks
  ========================  ==================  ==================
  1e-7 or less              HAPPY               HAPPY
  above 1e-7, up to 1e-4    OKAY                TOO_HIGH
  above 1e-4, up to 1e-2    UNCOMFORTABLE       UNCOMFORTABLE
  above 1e-2                WRONG               WRONG
  NaN or infinity           NOT_FINITE          NOT_FINITE
  no coordinates at all     UNDECIDED           UNDECIDED
  ========================  ==================  ==================

  Args:
    relative_error: a number, an array, or a pytree of them, >= 0, such as `relative_error` returns.
    kinks: whether the objective has kinks: relu, max, abs and the like.

  Returns:
    A `Verdict`; its `value` is the sentence, and `is_pass` says whether it is good news.

  Raises:
    ValueError: if an error is negative.
    TypeError: if an error is not a real number, or is traced: call it outside `jax.jit`.

  Numerics:
    An error is compared with the rungs in its own dtype (float32 at the least), so that 1e-7 in
    float32 is not above 1e-7.

  Example:
    >>> import kinkopt
    >>> kinkopt.gradcheck.verdict(3e-5, kinks=True).name
    'OKAY'
    >>> print(kinkopt.gradcheck.verdict({"w": [1e-9, 0.4]}, kinks=True).value)
    The relative error is above 1e-2: the gradient is probably wrong.

  References:
    CS231n notes, "Gradient checks".
  """
  names = leaf_names(relative_error)
  errors = [_error(leaf, name) for leaf, name in zip(jax.tree.leaves(relative_error), names)]
  verdicts = [_rung(error.max(), kinks) for error in errors if error.size]
  return max(verdicts, key=_SEVERITY.__getitem__, default=Verdict.UNDECIDED)


def _error(leaf: object, name: str) -> np.ndarray:
  """Brings a leaf to the host and checks it."""
  if isinstance(leaf, jax.core.Tracer):
    raise TypeError(
      f"`verdict` needs numbers, but the leaf `{name}` is traced: inside `jax.jit`, `jax.vmap` or "
      "`jax.grad` it has no value yet. Return the relative error from there, and call `verdict` on "
      "what comes out."
    )
  error = np.asarray(leaf)
  is_real = jax.numpy.issubdtype(error.dtype, np.floating)
  if not is_real and not np.issubdtype(error.dtype, np.integer):
    raise TypeError(
      f"`verdict` needs real numbers, but the leaf `{name}` is {error.dtype}. Pass what "
      "`relative_error(analytic, numerical)` returns."
    )
  if not is_real or error.dtype.itemsize < 4:
    error = error.astype(np.float32)
  if (error < 0).any():
    raise ValueError(
      f"`verdict` found the relative error {error.min():g} in the leaf `{name}`, but a relative "
      "error is |fa - fn| / max(|fa|, |fn|) and never negative. Pass what "
      "`relative_error(analytic, numerical)` returns."
    )
  return error


def _rung(error: np.floating, kinks: bool) -> Verdict:
  # NumPy compares a scalar with a Python number in the scalar's own dtype.
  if not np.isfinite(error):
    return Verdict.NOT_FINITE
  if error > 1e-2:
    return Verdict.WRONG
  if error > 1e-4:
    return Verdict.UNCOMFORTABLE
  if error > 1e-7:
    return Verdict.OKAY if kinks else Verdict.TOO_HIGH
  return Verdict.HAPPY
