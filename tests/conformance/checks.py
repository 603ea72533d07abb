"""What is demanded of every transform, one function a demand; each raises `AssertionError`.

The checks are apart from the tests so that they can be tried on transforms that are known to fail.
"""

import contextlib
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kinkopt._numerics import machine_eps, real_dtype
from tests.conformance.catalogue import extra_args, gradient_at, params_of, step

WIDER = {"float16": "float32", "bfloat16": "float32", "float32": "float64"}
WIDER |= {"float64": "float64", "complex64": "complex128", "complex128": "complex128"}


def signature(leaf: Any) -> tuple:
  """Gives shape, dtype and weak type: what must not change from step to step."""
  is_weak = getattr(leaf, "weak_type", False)  # arrays have it, and what `eval_shape` gives
  return jnp.shape(leaf), jnp.result_type(leaf), is_weak


def assert_same_signature(actual: Any, expected: Any) -> None:
  chex.assert_trees_all_equal_comparator(
    lambda a, b: signature(a) == signature(b),
    lambda a, b: f"{signature(a)} != {signature(b)}",
    actual,
    expected,
  )


def assert_close(actual: Any, expected: Any, roundings: int) -> None:
  """Compares trees leaf by leaf, allowing that many roundings of each leaf's dtype."""
  assert_same_signature(actual, expected)

  def compare(a: jax.Array, b: jax.Array) -> None:
    if not jnp.issubdtype(a.dtype, jnp.inexact):
      np.testing.assert_array_equal(a, b)
      return
    tolerance = roundings * machine_eps(real_dtype(a.dtype))
    wide = np.complex128 if jnp.iscomplexobj(a) else np.float64
    a, b = np.asarray(a).astype(wide), np.asarray(b).astype(wide)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)

  jax.tree.map(compare, actual, expected)


def check_fixpoint(tx: optax.GradientTransformation, dtype: str, gradient_dtype: str) -> None:
  """Demands that states keep tree and dtypes, and updates those of the gradient."""
  params = params_of(dtype)
  gradient = gradient_at(params, gradient_dtype)
  state = tx.init(params)
  assert not any(jax.typeof(leaf).weak_type for leaf in jax.tree.leaves(state))
  update = functools.partial(tx.update, **extra_args(params))
  # Abstract evaluation is enough: what is at stake is decided by the trace.
  updates, new_state = jax.eval_shape(update, gradient, state, params)
  assert_same_signature(new_state, state)
  assert_same_signature(updates, gradient)


def check_finite_start(tx: optax.GradientTransformation, dtype: str) -> None:
  """Demands numbers in the first state: `optax.lookahead` multiplies them by 0."""
  chex.assert_tree_all_finite(tx.init(params_of(dtype)))


def check_scan(tx: optax.GradientTransformation, dtype: str) -> None:
  """Demands that `lax.scan` carries the state under wider gradients, and moves alike."""
  take = functools.partial(step, tx, dtype=WIDER[dtype])
  params = params_of(dtype)
  start = (params, tx.init(params))
  scanned, _ = jax.jit(lambda c: jax.lax.scan(lambda c, _: (take(*c), None), c, length=3))(start)
  expected, compiled = start, jax.jit(take)
  for _ in range(3):
    expected = compiled(*expected)
  # Fused differently: a few roundings a step, which a division by a small root enlarges.
  assert_close(scanned, expected, roundings=64)


def check_jit(tx: optax.GradientTransformation, dtype: str) -> None:
  """Demands the same from compiled and from eager code."""
  params = params_of(dtype)
  start = (params, tx.init(params))
  assert_close(start[1], jax.jit(tx.init)(params), roundings=0)
  assert_close(jax.jit(functools.partial(step, tx))(*start), step(tx, *start), roundings=64)


def check_compiles_once(tx: optax.GradientTransformation, dtype: str) -> None:
  """Demands that the second and third step, fed with the first's output, are not traced anew."""
  chex.clear_trace_counter()

  @jax.jit
  @chex.assert_max_traces(n=1)
  def counted(params, state):
    return step(tx, params, state)

  params = params_of(dtype)
  carry = (params, tx.init(params))
  for _ in range(3):
    carry = counted(*carry)


def check_donation(tx: optax.GradientTransformation, dtype: str) -> None:
  """Demands that parameters and state are given up to the step that replaces them."""
  params = jax.tree.map(jnp.copy, params_of(dtype))
  state = tx.init(params)
  # What a step overwrites without a look, such as a record of the last one, is dropped by `jit`
  # and so would be kept alive by the caller: `keep_unused` donates it with the rest.
  donated = jax.jit(functools.partial(step, tx), donate_argnums=(0, 1), keep_unused=True)
  expected = step(tx, params, state)
  moved = donated(params, state)
  kept = [
    path for path, leaf in jax.tree.leaves_with_path((params, state)) if not leaf.is_deleted()
  ]
  assert not kept, f"not donated: {kept}"
  assert_close(moved, expected, roundings=64)
  donated(*moved)


def check_promotion_and_leaks(tx: optax.GradientTransformation, dtype: str) -> None:
  """Demands that nothing widens, broadcasts or leaks by accident."""
  params = params_of(dtype)
  gradient, state = gradient_at(params), tx.init(params)
  update = functools.partial(tx.update, **extra_args(params))
  with contextlib.ExitStack() as stack:
    stack.enter_context(jax.numpy_dtype_promotion("strict"))
    stack.enter_context(jax.numpy_rank_promotion("raise"))
    stack.enter_context(jax.checking_leaks())
    jax.eval_shape(tx.init, params)
    updates, _ = jax.eval_shape(update, gradient, state, params)
  assert_same_signature(updates, gradient)
