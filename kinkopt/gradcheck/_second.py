"""The gradient as a function of its own, whose derivative is then checked like any other.

Second order asks whether the derivative of the gradient is right: a rule may give the right
gradient and still be wrong when it is differentiated again, say because it saved a constant.
"""

import contextlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from kinkopt._coordinates import leaf_names
from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import is_inexact
from kinkopt.gradcheck._directions import direction, leaf_keys
from kinkopt.gradcheck._probes import wide
from kinkopt.kinks import in_float64


def gradient_of(
  fun: Callable[..., PyTree],
  args: tuple[PyTree, ...],
  argnums: Sequence[int],
  key: jax.Array,
  intended: Sequence[str],
  *,
  custom_rules: bool,
) -> Callable[..., dict[str, jax.Array]]:
  """Gives the gradient of a function's weighed outputs, by the names of the leaves.

  Args:
    fun: the function, of any number of outputs.
    args: arguments like those that it will be given.
    argnums: with respect to which of them.
    key: decides the weights.
    intended: names of functions whose rules stand in any case.
    custom_rules: whether the program's own rules decide. If not, JAX's derivative of what is
      evaluated, where it has one: a loop that is only differentiated by its rule keeps it.
  """
  outputs = jax.eval_shape(fun, *args)
  keys = leaf_keys(jax.random.fold_in(key, 3), outputs)
  weights = [
    direction(k, out) if is_inexact(out) else None for k, out in zip(keys, jax.tree.leaves(outputs))
  ]

  def derived(
    function: Callable[..., PyTree], is_wide: bool
  ) -> Callable[..., dict[str, jax.Array]]:
    def gradient(*args: PyTree) -> dict[str, jax.Array]:
      moving = [args[argnum] for argnum in argnums]
      everything, tree = jax.tree.flatten(moving)
      places = [i for i, leaf in enumerate(everything) if is_inexact(leaf)]
      leaves = [jnp.asarray(everything[place]) for place in places]

      def number(leaves: Sequence[jax.Array]) -> jax.Array:
        whole, given = list(everything), list(args)
        for place, leaf in zip(places, leaves):
          whole[place] = leaf
        for argnum, value in zip(argnums, tree.unflatten(whole)):
          given[argnum] = value
        pairs = zip(weights, jax.tree.leaves(function(*given)))
        parts = [jnp.sum(jnp.real(c * y.astype(c.dtype))) for c, y in pairs if c is not None]
        return sum((part.astype(jnp.result_type(float)) for part in parts), jnp.zeros(()))

      names = leaf_names(moving)
      with jax.enable_x64(True) if is_wide else contextlib.nullcontext():
        found = jax.grad(number)([wide(leaf) for leaf in leaves] if is_wide else leaves)
        rounded = [g.astype(leaf.dtype) for g, leaf in zip(found, leaves)]
      return {names[place]: leaf for place, leaf in zip(places, rounded)}

    return gradient

  if not custom_rules:
    how = {"custom_rules": False, "library_rules": True, "intended": intended}
    replay = in_float64(fun, like=args, argnums=argnums, **how)
    bare = derived(replay, is_wide=True)
    try:
      jax.eval_shape(bare, *args)
    except (ValueError, NotImplementedError):  # a loop that JAX does not differentiate backwards
      return derived(fun, is_wide=False)
    return bare
  return derived(fun, is_wide=False)
