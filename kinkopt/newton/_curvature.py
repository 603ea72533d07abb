"""The curvature: the matrix of second derivatives of a loss over a tree of parameters.

A tree is seen as one real vector, as `kinkopt._coordinates` numbers it, so that parameters of mixed
dtypes and complex parameters have one symmetric real matrix. What is done with the matrix is the
solver's business.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kinkopt._checks import check_floating
from kinkopt._coordinates import ravel_real


def dense_hessian(
  value_fn: Callable[..., ArrayLike], params: optax.Params, /, **kwargs: Any
) -> jax.Array:
  """Computes every second derivative of a loss, as one matrix over all coordinates.

  Args:
    value_fn: `(params, **kwargs) -> scalar`, real and twice differentiable by JAX.
    params: where to differentiate: a pytree of real or complex floating arrays, `n` real
      coordinates in all (a complex number is two: its real and its imaginary part).
    **kwargs: further arguments of `value_fn`, such as the data.

  Returns:
    A real matrix of shape `(n, n)` in the widest dtype of the parameters, float32 at the least.
    Rows and columns are numbered leaf after leaf in JAX's order, row-major within a leaf.

  Raises:
    TypeError: if a parameter is not floating point, or `value_fn` does not return one real
      floating-point number.

  Numerics:
    `jax.hessian`, forward over reverse: memory and time are those of `n` gradients at once. Where
    `value_fn` computes in bfloat16 or float16, so do its second derivatives; only the matrix is
    wider. The two triangles may differ by rounding.

  Example:
    >>> import jax.numpy as jnp
    >>> from kinkopt.newton._curvature import dense_hessian
    >>> params = {"a": jnp.array(1.0), "b": jnp.array([2.0, 3.0])}
    >>> print(dense_hessian(lambda p: p["a"] * jnp.sum(p["b"] ** 2), params))
    [[0. 4. 6.]
     [4. 2. 0.]
     [6. 0. 2.]]
  """
  check_floating("dense_hessian", params, "parameters")
  vector, unravel = ravel_real(params)

  def value_at(vector: jax.Array) -> jax.Array:
    return _scalar(value_fn(unravel(vector), **kwargs))

  # With no coordinates there is nothing to differentiate, but the loss is still traced and checked.
  if vector.size == 0:
    jax.eval_shape(value_at, vector)
    return jnp.zeros((0, 0), vector.dtype)
  return jax.hessian(value_at)(vector).astype(vector.dtype)


def _scalar(value: Any) -> jax.Array:
  """Passes one real floating-point number on, and says what anything else is."""
  leaves = jax.tree.leaves(value)
  if len(leaves) != 1 or not jax.tree_util.all_leaves([value]):
    what, advice = f"a {type(value).__name__}", "Return the loss alone, without auxiliary output."
  elif jnp.shape(value) != ():
    what, advice = f"an array of shape {jnp.shape(value)}", "Sum or average it to one number."
  elif not jnp.issubdtype(jnp.result_type(value), jnp.floating):
    what, advice = f"{jnp.result_type(value)}", "Return a real floating-point number."
  else:
    return jnp.asarray(value)
  raise TypeError(
    f"`value_fn` must return one real number to minimise, but returned {what}. {advice}"
  )
