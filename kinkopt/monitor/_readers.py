"""Finds the measurement inside whatever wraps it, and names what was measured.

`find_update_ratio` only walks the tree, so it works under `jit` and inside `lax.scan`, where its
result can be stacked into a history. `read_update_ratios` ends on the host, as a dict from the path
of each leaf to a number.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import keystr

from kinkopt._coordinates import leaf_names
from kinkopt.monitor._sums import norm_of_norms, states_of, unfolded
from kinkopt.monitor._update_ratio import UpdateRatioState


def _find(caller: str, opt_state: optax.OptState) -> UpdateRatioState:
  found = [(keystr(path), node) for path, node in states_of(UpdateRatioState, opt_state)]
  if not found:
    raise ValueError(
      f"`{caller}` found no `UpdateRatioState` in the {type(opt_state).__name__} it was given. "
      "Pass the state of a chain that measures, such as "
      "`optax.chain(tx, kinkopt.monitor.update_ratio()).init(params)`."
    )
  if len(found) > 1:
    places = ", ".join(f"`opt_state{path}`" for path, _ in found)
    raise ValueError(
      f"`{caller}` found {len(found)} states of `update_ratio` and cannot tell which one is meant: "
      f"they are at {places}. Pass one of them, as in `{caller}(opt_state{found[0][0]}"
      f"{', params' if caller == 'read_update_ratios' else ''})`."
    )
  return found[0][1]


def find_update_ratio(opt_state: optax.OptState) -> UpdateRatioState:
  """Finds the state of `update_ratio` inside any optimizer state.

  Nothing is computed and nothing is copied, so it serves under `jit`, `vmap` and `lax.scan`: a step
  that returns `find_update_ratio(opt_state).ratio` stacks a history of shape `[steps, n_leaves]`.

  Args:
    opt_state: the state of a chain, or of any wrapper around it (`optax.MultiSteps`,
      `apply_if_finite`, `masked`, `partition`, ...), or anything else that holds it as a pytree.

  Returns:
    The `UpdateRatioState` as it is; its `ratio` and `overall` are arrays.

  Raises:
    ValueError: if there is no such state, or more than one.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import kinkopt, optax
    >>> tx = optax.chain(kinkopt.rules.sgd(0.5), kinkopt.monitor.update_ratio())
    >>> def step(carry, _):
    ...   params, state = carry
    ...   updates, state = tx.update(params, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   return (params, state), kinkopt.monitor.find_update_ratio(state).overall
    >>> params = jnp.ones(3)
    >>> _, history = jax.lax.scan(step, (params, tx.init(params)), length=4)
    >>> print(history)
    [0.5 0.5 0.5 0.5]
  """
  return _find("find_update_ratio", opt_state)


def read_update_ratios(
  opt_state: optax.OptState, params: optax.Params, group: Callable[[str], str] | None = None
) -> dict[str, float] | dict[str, np.ndarray]:
  """Reads the ratio update : parameters of each leaf, by the leaf's path.

  Args:
    opt_state: any optimizer state that holds that of one `update_ratio`.
    params: the parameters, or anything with their tree: only the paths of its leaves are used.
    group: from a leaf's path to the name of its group: the ratio is then that of all leaves of a
      group together, by its name.

  Returns:
    For each leaf, from its path as one would index it, such as `['dense']['w']`, to its ratio: a
    Python float, or a NumPy array of the leading axes where the state has some (a population, a
    history). What 0, infinity and NaN mean: see `UpdateRatioState.ratio`. All leaves come from the
    device in one transfer.

  Raises:
    ValueError: if there is no state of `update_ratio`, or more than one, or if it does not hold as
      many ratios as `params` has leaves.
    TypeError: under `jit`, where there are no numbers yet.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt, optax
    >>> params = {"b": jnp.array([1.0]), "w": jnp.array([3.0, 4.0])}
    >>> tx = optax.chain(kinkopt.rules.sgd(0.5), kinkopt.monitor.update_ratio())
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> kinkopt.monitor.read_update_ratios(state, params)
    {"['b']": 0.5, "['w']": 0.5}
    >>> kinkopt.monitor.read_update_ratios(state, params, group=lambda path: "all")
    {'all': 0.5}
  """
  state, names = _find("read_update_ratios", opt_state), leaf_names(unfolded(params))
  if isinstance(state.param_scale, jax.core.Tracer):
    raise TypeError(
      f"`read_update_ratios` brings numbers to the host, but its state is being traced "
      f"({jax.typeof(state.param_scale)}) and has none yet. Return "
      "`find_update_ratio(opt_state).ratio` from the traced function, or read the state outside."
    )
  measured = np.shape(state.param_scale)[-1]
  if measured != len(names):
    raise ValueError(
      f"`read_update_ratios`: the state holds {measured} ratios, but `params` has {len(names)} "
      "leaves, so they cannot be named. Pass the tree that `update_ratio` saw: under "
      "`optax.masked(tx, mask)` that is "
      "`jax.tree.map(lambda keep, p: p if keep else None, mask, params)`, under `optax.lookahead` "
      "`params.fast`."
    )
  if group is not None:
    names, state = _grouped(state, [group(name) for name in names])
  ratios = np.moveaxis(np.asarray(state.ratio), -1, 0)
  return dict(zip(names, ratios.tolist() if ratios.ndim == 1 else ratios))


def _grouped(state: UpdateRatioState, labels: list[str]) -> tuple[list[str], UpdateRatioState]:
  names = list(dict.fromkeys(labels))
  members = [[k for k, label in enumerate(labels) if label == name] for name in names]

  def together(scales: jax.Array) -> jax.Array:
    return jnp.stack([norm_of_norms(scales[..., np.array(at)]) for at in members], axis=-1)

  return names, jax.tree.map(together, state) if names else state
