"""Every exported transform works inside every wrapper of Optax, and moves as it does alone."""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from tests.conformance.catalogue import (
  TRANSFORMS,
  extra_args,
  gradient_at,
  params_of,
  refused,
  step,
)
from tests.conformance.checks import assert_close, assert_same_signature

STEPS = 4
each_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
each_dtype = pytest.mark.parametrize("dtype", ["bfloat16", "float32"])


def train(tx: optax.GradientTransformation, params: optax.Params, steps: int = STEPS) -> tuple:
  """Takes compiled steps, with the state's signature held."""
  take = jax.jit(functools.partial(step, tx))
  state = tx.init(params)
  for _ in range(steps):
    params, new_state = take(params, state)
    assert_same_signature(new_state, state)
    state = new_state
  return params, state


@functools.cache
def alone(name: str, dtype: str, steps: int = STEPS) -> tuple:
  return train(TRANSFORMS[name].make(), params_of(dtype), steps)


def hyperparams_in_state(transform):
  return optax.inject_hyperparams(transform.factory)(**transform.kwargs)


WRAPPERS = {
  "chain": lambda t: optax.chain(optax.identity(), t.make(), optax.identity()),
  "named_chain": lambda t: optax.named_chain(("it", t.make()), ("rest", optax.identity())),
  "masked": lambda t: optax.masked(t.make(), lambda p: jax.tree.map(lambda _: True, p)),
  "partition": lambda t: optax.partition(
    {"it": t.make()}, lambda p: jax.tree.map(lambda _: "it", p)
  ),
  "inject_hyperparams": hyperparams_in_state,
  "apply_if_finite": lambda t: optax.apply_if_finite(t.make(), max_consecutive_errors=2),
  "flatten": lambda t: optax.flatten(t.make()),
}


@pytest.mark.parametrize(
  ("wrapper", "dtype"),
  # Only these look at dtypes: one holds numbers in that of the parameters, one joins arrays.
  [
    *((w, "float32") for w in WRAPPERS),
    ("inject_hyperparams", "bfloat16"),
    ("flatten", "bfloat16"),
  ],
)
@each_transform
def test_wrapped_moves_as_alone(transform, wrapper, dtype):
  with refused(transform, dtype):
    params, _ = train(WRAPPERS[wrapper](transform), params_of(dtype))
    expected, _ = alone(transform.name, dtype)
    # Only the fusion differs, as between scan and loop. But `inject_hyperparams` rounds what it
    # holds to the parameters' dtype, and so 1 - 0.999 by 1.3e-5 (200 roundings) in float32 and by
    # more than itself in bfloat16.
    if wrapper == "inject_hyperparams" and dtype == "bfloat16":
      chex.assert_tree_all_finite(params)
    else:
      assert_close(params, expected, roundings=512 if wrapper == "inject_hyperparams" else 64)


@each_dtype
@pytest.mark.parametrize("wrapper", ["masked", "partition"])
@each_transform
def test_part_of_the_parameters_moves_as_alone(transform, wrapper, dtype):
  params = params_of(dtype)
  is_ours = {"dense": {"w": True, "b": False}, "scale": True}
  if wrapper == "masked":
    tx = optax.chain(
      optax.masked(transform.make(), is_ours),
      optax.masked(optax.set_to_zero(), jax.tree.map(lambda ours: not ours, is_ours)),
    )
  else:
    labels = jax.tree.map(lambda ours: "it" if ours else "frozen", is_ours)
    tx = optax.partition({"it": transform.make(), "frozen": optax.set_to_zero()}, labels)
  with refused(transform, wrapper):
    moved, _ = train(tx, params)
    expected, _ = alone(transform.name, dtype)
    expected = expected | {"dense": expected["dense"] | {"b": params["dense"]["b"]}}
    assert_close(moved, expected, roundings=64)


@each_transform
def test_multi_steps_moves_once_in_k_steps_by_the_mean(transform):
  dtype = "bfloat16"  # of accumulators that would widen, if any did
  wrapper = optax.MultiSteps(transform.make(), every_k_schedule=2)
  # Its own `gradient_transformation()` does not say that it takes extra arguments, though it does.
  tx = optax.GradientTransformationExtraArgs(wrapper.init, wrapper.update)
  params = params_of(dtype)
  halfway, _ = train(tx, params, steps=1)
  assert_close(halfway, params, roundings=0)
  # Both gradients of a pair are taken at one point, so their mean is that of a lone step.
  moved, state = train(tx, params, steps=4)
  assert_close(moved, alone(transform.name, dtype, steps=2)[0], roundings=64)
  assert state.gradient_step == 2


@each_transform
def test_apply_if_finite_lets_no_nan_in(transform):
  tx = optax.apply_if_finite(transform.make(), max_consecutive_errors=2)
  params = params_of("float32")
  _, state = train(tx, params, steps=2)
  bad = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), params)
  updates, after = tx.update(bad, state, params, **extra_args(params))
  assert all(jnp.all(u == 0) for u in jax.tree.leaves(updates))
  assert_close(after.inner_state, state.inner_state, roundings=0)
  assert after.total_notfinite == 1


@each_dtype
@each_transform
def test_lookahead_synchronizes(transform, dtype):
  inner = transform.make()  # `optax.lookahead` hands no extra arguments down: bind them

  def update(gradient, state, params):
    return inner.update(gradient, state, params, **extra_args(params))

  bound = optax.GradientTransformation(inner.init, update)
  tx = optax.lookahead(bound, sync_period=2, slow_step_size=0.5)
  start = params_of(dtype)

  @jax.jit
  def take(params, state):
    updates, state = tx.update(gradient_at(params.fast), state, params)
    return optax.apply_updates(params, updates), state

  params = optax.LookaheadParams.init_synced(start)
  state = tx.init(params)
  for _ in range(2):
    params, new_state = take(params, state)
    assert_same_signature(new_state, state)
    state = new_state
  fast, _ = alone(transform.name, dtype, steps=2)
  middle = jax.tree.map(lambda slow, fast: slow + 0.5 * (fast - slow), start, fast)
  assert_close(params.slow, middle, roundings=64)
  assert_close(params.fast, params.slow, roundings=2)


@each_transform
def test_map_params_finds_what_is_shaped_like_the_parameters(transform):
  tx, params = transform.make(), params_of("float32")
  state = tx.init(params)
  marked = optax.tree.map_params(
    tx, lambda _, p: ("of", p.shape), state, params, transform_non_params=lambda _: "other"
  )

  def check(leaf: jax.Array, mark: tuple | str) -> None:
    assert mark == "other" or mark == ("of", leaf.shape)

  jax.tree.map(check, state, marked, is_leaf=lambda x: isinstance(x, jax.Array))
  unchanged = optax.tree.map_params(tx, lambda v: v, state)
  assert_close(unchanged, state, roundings=0)


@each_transform
def test_moments_are_found_by_map_params(transform):
  """A field of parameters' shapes that `map_params` misses would be sharded and frozen wrongly."""
  tx, params = transform.make(), params_of("float32")
  shapes = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.shape]
  state = tx.init(params)
  seen = []
  optax.tree.map_params(tx, lambda leaf: seen.append(leaf.shape), state)
  shaped = [leaf.shape for leaf in jax.tree.leaves(state) if leaf.shape]
  assert [s for s in seen if s in shapes] == [s for s in shaped if s in shapes]


@each_transform
def test_two_in_a_chain_keep_their_own_states(transform):
  make: Callable = transform.make
  tx, params = optax.chain(make(), make()), params_of("float32")
  states = tx.init(params)
  assert len(states) == 2
  updates, _ = tx.update(params, states, params, **extra_args(params))
  expected = params
  for state in states:
    expected, _ = make().update(expected, state, params, **extra_args(params))
  chex.assert_trees_all_equal(updates, expected)
