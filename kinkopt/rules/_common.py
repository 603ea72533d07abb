"""What every update rule does alike: one policy for dtypes, one for hyperparameters, one check.

A rule is a few formulas over the leaves of trees. `elementwise` evaluates one of them in float32 or
wider and rounds once, to the dtype of the tree that it stands for; so a state keeps the dtypes it
was born with whatever the gradient's dtype is, and `eps` does not underflow in float16. A rule file
holds the formulas and nothing of this. Every check takes the `caller` that its message shall name:
the function that the user wrote, not the link of the chain that noticed.
"""

import math
import numbers
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from kinkopt._checks import FRACTION, NON_NEGATIVE, check_floating, check_number, check_same_tree
from kinkopt._coordinates import leaf_names
from kinkopt._numerics import compute_dtype, real_dtype

RATE_ADVICE = "It multiplies the gradient; the minus sign is the rule's own."


def elementwise(
  formula: Callable[..., jax.Array], like: optax.Params, *trees: optax.Params, **scalars: ArrayLike
) -> optax.Params:
  """Maps a formula over leaves, in float32 or wider, rounding once to the dtypes of `like`.

  Args:
    formula: `(*leaves, **scalars) -> leaf`; sees every leaf and scalar in the compute dtype (its
      real counterpart, where the leaf or the scalar is real); Python numbers as they are.
    like: the tree whose dtypes the result takes.
    *trees: trees of one structure; the first is the gradient (or the update so far).
    **scalars: hyperparameters: numbers or arrays of any floating dtype.

  Returns:
    A tree shaped like the first of `trees`, with the dtypes of `like`. Where `like` is real, the
    real part is taken: a real gradient may have a complex accumulator, never the other way round.
  """

  def per_leaf(like_leaf: ArrayLike, *leaves: ArrayLike) -> jax.Array:
    dtype = compute_dtype(*map(jnp.result_type, leaves))
    real = real_dtype(dtype)
    cast = [_cast(leaf, dtype if jnp.iscomplexobj(leaf) else real) for leaf in leaves]
    result = formula(*cast, **{name: _cast_scalar(s, real) for name, s in scalars.items()})
    target = jnp.result_type(like_leaf)
    if jnp.iscomplexobj(result) and not jnp.issubdtype(target, jnp.complexfloating):
      result = result.real
    return _cast(result, target)

  # Each dtype is chosen above; that a complex leaf meets a real one is meant, strict mode or not.
  with jax.numpy_dtype_promotion("standard"):
    return jax.tree.map(per_leaf, like, *trees)


def _cast(x: ArrayLike, dtype: jnp.dtype) -> jax.Array:
  """Casts, weak types included; the array itself where there is nothing to do.

  Outside `jit` every call costs a dispatch, and most leaves have the right dtype already.
  """
  if isinstance(x, jax.Array) and x.dtype == dtype and not x.weak_type:
    return x
  return jnp.asarray(x, dtype)


def _cast_scalar(x: ArrayLike, dtype: jnp.dtype) -> ArrayLike:
  """Casts a hyperparameter; a Python number takes on the dtype that it meets by itself."""
  return x if type(x) in (int, float) else _cast(x, dtype)


def first_moment_like(params: optax.Params, dtype: DTypeLike | None) -> optax.Params:
  """Makes zeros in the parameters' shapes, shardings and dtypes, or in `dtype`; never weak."""
  return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=dtype or jnp.result_type(p)), params)


def second_moment_like(
  params: optax.Params, dtype: DTypeLike | None, value: ArrayLike = 0.0
) -> optax.Params:
  """Fills the parameters' shapes with `value`; real, even for complex parameters."""
  return jax.tree.map(
    lambda p: jnp.full_like(p, value, dtype=real_dtype(dtype or jnp.result_type(p))), params
  )


def check_params(caller: str, params: optax.Params) -> None:
  """Checks, at `init`, that every parameter can have a gradient."""
  check_floating(caller, params, "parameters")


def check_gradient(caller: str, gradient: optax.Updates, params: optax.Params) -> None:
  """Checks, at `update`, a gradient against the parameters or a state tree shaped like them."""
  check_same_tree(caller, "gradient", gradient, "parameters", params)
  check_floating(caller, gradient, "gradients")


def check_first_moment(caller: str, gradient: optax.Updates, moment: optax.Updates) -> None:
  """Checks, at `update`, a gradient against the tree that gathers it, dtypes included.

  Raises:
    TypeError: if a complex gradient meets an accumulator whose dtype is real.
  """
  check_gradient(caller, gradient, moment)
  for index, (g, m) in enumerate(zip(jax.tree.leaves(gradient), jax.tree.leaves(moment))):
    if jnp.iscomplexobj(g) and not jnp.iscomplexobj(m):
      raise TypeError(
        f"`{caller}` cannot gather the {jnp.result_type(g)} gradient leaf "
        f"`{leaf_names(gradient)[index]}` in {jnp.result_type(m)}: its imaginary part would be "
        "lost. Pass a complex accumulator dtype, or None for the parameters' own."
      )


def check_rate(caller: str, learning_rate: optax.ScalarOrSchedule) -> None:
  """Checks a learning rate; schedules and traced numbers pass."""
  check_number(
    caller, "learning_rate", learning_rate, NON_NEGATIVE, RATE_ADVICE, accepts_schedule=True
  )


def check_decay(caller: str, name: str, value: ArrayLike) -> None:
  """Checks the decay of a running average, or the momentum: both lie in [0, 1).

  A 1 in fewer than 32 bits passes: it may be 0.999, rounded. See `keep_and_add`.
  """
  if not isinstance(value, numbers.Real | jax.core.Tracer) and hasattr(value, "dtype"):
    is_short = jnp.issubdtype(value.dtype, jnp.floating) and jnp.finfo(value.dtype).bits < 32
    if is_short and jnp.ndim(value) == 0 and value == 1:
      return
  check_number(caller, name, value, FRACTION, "It is the share of the past that each step keeps.")


def check_eps(caller: str, value: ArrayLike) -> None:
  """Checks the term added to a denominator."""
  check_number(caller, "eps", value, NON_NEGATIVE, "It keeps a denominator away from zero.")


def keep_and_add(decay: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
  """Splits a decay into its weights: what is kept of the past, and what is added of the new.

  Python numbers are subtracted in Python: `1 - 0.999` in float32 is off by 1.3e-5. An array that
  rounding has pushed up to 1 (`optax.inject_hyperparams` turns 0.999 into bfloat16's 1.0 where the
  parameters are bfloat16) is taken as the largest number below 1 of its dtype: with a decay of 1,
  an average stays 0 for ever and the bias correction divides 0 by 0.
  """
  if isinstance(decay, numbers.Real):
    return decay, 1 - float(decay)
  kept = jnp.asarray(decay)
  if not jnp.issubdtype(kept.dtype, jnp.floating):  # 0 is the one integer in [0, 1)
    kept = kept.astype(jnp.float32)
  kept = jnp.minimum(kept, 1 - jnp.finfo(kept.dtype).epsneg.astype(kept.dtype))
  kept = kept.astype(compute_dtype(kept.dtype))
  return kept, 1 - kept


def bias_correction(decay: ArrayLike, count: jax.Array) -> jax.Array:
  """Gives `1 - decay**count`, the weight that an average started at 0 has gathered.

  Written as `-expm1(count * log(decay))`: in float32, for a decay of 0.999 given as a Python
  number, its relative error stays below 4e-7 where that of `1 - decay**count` reaches 2e-5.
  """
  kept, _ = keep_and_add(decay)
  is_number = isinstance(kept, numbers.Real) and kept > 0
  log_decay = math.log(kept) if is_number else jnp.log(jnp.asarray(kept, float))
  return -jnp.expm1(count.astype(float) * log_decay)
