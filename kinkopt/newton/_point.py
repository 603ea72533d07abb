"""A loss and the point where it is looked at, with the parameters as real arrays.

Curvatures, solvers and globalisations see no user's tree: they see `parts`, one real array for each
leaf, all of one dtype, so that parameters of mixed dtypes and complex ones have one symmetric real
matrix, and so that sharded leaves stay as they are. What is small enough to be a matrix is laid end
to end, as `kinkopt._coordinates` numbers it.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from kinkopt._checks import check_same_tree
from kinkopt._coordinates import split_real
from kinkopt._numerics import compute_dtype
from kinkopt._typing import PyTree

Parts = list[jax.Array]  # one real array for each leaf, all of one dtype


@dataclasses.dataclass(frozen=True)
class Point:
  """Where a loss is differentiated: its parameters as real arrays, and the way back."""

  params: PyTree
  parts: Parts
  join: Callable[[Parts], PyTree]
  value_fn: Callable[..., ArrayLike]
  arguments: dict[str, Any]  # of the call: `value_fn` and others take those that they name

  @classmethod
  def of(
    cls, params: PyTree, value_fn: Callable[..., ArrayLike], arguments: dict[str, Any]
  ) -> "Point":
    return cls(params, *split_real(params), value_fn, arguments)

  def astype(self, dtype: Any) -> "Point":
    """Gives the same point in a wider dtype."""
    return dataclasses.replace(self, parts=[part.astype(dtype) for part in self.parts])

  @property
  def size(self) -> int:
    return sum(part.size for part in self.parts)

  @property
  def dtype(self) -> jnp.dtype:
    """What is computed in: the widest dtype of the parameters, float32 at the least."""
    return compute_dtype(*(part.dtype for part in self.parts))

  def named_arguments(self, fun: Callable[..., Any]) -> dict[str, Any]:
    """Picks the arguments that a function names, as Optax's line searches do."""
    names = inspect.signature(fun).parameters
    return {name: argument for name, argument in self.arguments.items() if name in names}

  def on_parts(self, fun: Callable[..., Any]) -> Callable[[Parts], Any]:
    """Makes a function of the parameters one of the real arrays."""
    named = self.named_arguments(fun)
    return lambda parts: fun(self.join(parts), **named)

  def value_at(self, parts: Parts) -> jax.Array:
    """Gives the loss at other parts."""
    return scalar("value_fn", self.on_parts(self.value_fn)(parts))

  def value_of(self, params: PyTree) -> jax.Array:
    """Gives the loss at other parameters."""
    return scalar("value_fn", self.value_fn(params, **self.named_arguments(self.value_fn)))

  def ravel(self, parts: Parts) -> jax.Array:
    """Lays parts end to end."""
    return ravel_pytree(parts)[0]

  def parts_of(self, what: str, tree: PyTree) -> Parts:
    """Gives the parts of a tree like the parameters, in the dtype of theirs."""
    check_same_tree("newton", what, tree, "parameters", self.params)
    return [part.astype(self.dtype) for part in split_real(tree)[0]]

  def unravel(self, vector: jax.Array) -> Parts:
    """Cuts a vector into parts."""
    cut, start = [], 0
    for part in self.parts:
      cut.append(vector[start : start + part.size].reshape(part.shape))
      start += part.size
    return cut


def with_names(value_fn: Callable[..., Any], names: Iterable[str]) -> None:
  """Makes a function say which named arguments it takes: only these does Optax hand to a loss."""
  kinds = inspect.Parameter
  named = [kinds(name, kinds.KEYWORD_ONLY) for name in names]
  signature = inspect.Signature([kinds("params", kinds.POSITIONAL_ONLY), *named])
  setattr(value_fn, "__signature__", signature)  # noqa: B010


def scalar(caller: str, value: Any) -> jax.Array:
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
    f"`{caller}` must return one real number to minimise, but returned {what}. {advice}"
  )
