"""`update_ratio` alone: the notes' numbers, untouched updates, one state for ever."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kinkopt
from kinkopt.monitor import UpdateRatioState, find_update_ratio, update_ratio
from tests.conformance.checks import assert_same_signature

DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]


def _params(dtype="float64"):
  keys = jax.random.split(jax.random.key(0), 3)

  def normal(key, shape):
    return jax.random.normal(key, shape, dtype)

  return {
    "b": normal(keys[0], (5,)),
    "scale": normal(keys[1], ()),
    "w": normal(keys[2], (7, 5)),
  }


def _measure(params, updates):
  tx = update_ratio()
  return tx.update(updates, tx.init(params), params)[1]


def test_agrees_with_the_notes_over_many_steps():
  learning_rate = 0.02
  params = _params()
  tx = optax.chain(optax.sgd(learning_rate), update_ratio())
  state = tx.init(params)
  notes = {name: np.array(W) for name, W in params.items()}
  for step in range(200):
    gradient = {name: np.sin(W) + 0.01 * step for name, W in notes.items()}
    updates, state = tx.update(jax.tree.map(jnp.asarray, gradient), state, params)
    params = optax.apply_updates(params, updates)
    expected, all_updates, all_params = [], [], []
    for name, W in notes.items():
      param_scale = np.linalg.norm(W.ravel())
      update = -learning_rate * gradient[name]
      update_scale = np.linalg.norm(update.ravel())
      all_params.append(W.ravel().copy())
      all_updates.append(update.ravel())
      W += update
      expected.append(update_scale / param_scale)
    measured = find_update_ratio(state)
    # Some 40 squares summed in another order, and two roots: a few times 2.2e-16.
    np.testing.assert_allclose(measured.ratio, expected, rtol=1e-14)
    overall = np.linalg.norm(np.concatenate(all_updates)) / np.linalg.norm(
      np.concatenate(all_params)
    )
    np.testing.assert_allclose(measured.overall, overall, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("devices", [1, 8])
def test_updates_pass_through_bit_for_bit(dtype, jit, devices, monkeypatch):
  monkeypatch.setattr(jax, "device_count", lambda: devices)
  params = _params(dtype)
  updates = jax.tree.map(lambda p: p * jnp.asarray(1e-3, dtype), params)
  updates["b"] = updates["b"].at[0].set(jnp.nan).at[1].set(-0.0).at[2].set(jnp.inf)
  tx = update_ratio()
  update = jax.jit(tx.update) if jit else tx.update
  passed, _ = update(updates, tx.init(params), params)
  for name in updates:
    assert passed[name].dtype == updates[name].dtype
    assert passed[name].weak_type == updates[name].weak_type
    assert np.asarray(passed[name]).tobytes() == np.asarray(updates[name]).tobytes()


def test_on_one_device_donated_parameters_are_not_copied_to_be_measured(monkeypatch):
  params = {"w": jnp.ones((512, 512), jnp.float32)}
  tx = optax.chain(optax.adam(0.1), update_ratio())

  def copies(devices):
    monkeypatch.setattr(jax, "device_count", lambda: devices)

    def step(params, state, grads):
      updates, state = tx.update(grads, state, params)
      return optax.apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, tx.init(params), params).compile()
    return compiled.as_text().count(" copy(")

  assert copies(8) > 0
  assert copies(1) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_are_summed_in_float32_or_wider_in_a_real_state(dtype):
  params = _params(dtype)
  updates = jax.tree.map(lambda p: p * jnp.asarray(0.01, dtype), params)
  state = _measure(params, updates)
  expected_dtype = "float64" if dtype in ("float64", "complex128") else "float32"
  widest = "complex128" if "complex" in dtype else "float64"
  for field, tree in (("param_scale", params), ("update_scale", updates)):
    scale = getattr(state, field)
    assert scale.dtype == expected_dtype
    # Whatever the leaves' dtype is, their values are exact in float32; 35 squares are summed.
    np.testing.assert_allclose(
      scale,
      [np.linalg.norm(np.asarray(leaf).astype(widest).ravel()) for leaf in tree.values()],
      rtol=35 * kinkopt._numerics.machine_eps(expected_dtype),
    )


def test_float16_squares_do_not_overflow():
  leaf = jnp.full(1000, 60000.0, jnp.float16)
  state = _measure(leaf, leaf)
  np.testing.assert_allclose(state.param_scale, [60000 * 1000**0.5], rtol=1e-4)  # 60000 is exact
  assert state.ratio == 1


def test_a_million_float32_squares_keep_their_digits():
  with jax.enable_x64(False):
    leaf = jnp.full(2**24 + 2**10, 1.0)
    # A running float32 sum of ones stops at 2**24, 3e-5 short here; a tree of sums does not.
    np.testing.assert_allclose(_measure(leaf, leaf).param_scale, [np.sqrt(leaf.size)], rtol=1e-6)


@pytest.mark.parametrize("low", ["float16", "bfloat16"])
def test_the_state_has_the_widest_real_dtype_of_the_leaves(low):
  with jax.enable_x64(True):
    params = {"a": jnp.ones(2, low), "b": jnp.ones(2, jnp.complex128), "c": jnp.ones(2, "float32")}
    state = update_ratio().init(params)
    assert state.param_scale.dtype == state.update_scale.dtype == jnp.float64
    assert _measure(params, params).param_scale.dtype == jnp.float64
  with jax.enable_x64(False):
    params = {"a": jnp.ones(2, low), "b": jnp.ones(2, jnp.complex64), "c": 1.0}
    assert update_ratio().init(params).param_scale.dtype == jnp.float32


@pytest.mark.parametrize(
  "params",
  [
    _params(),
    _params("bfloat16"),
    {"w": 2.0, "b": np.ones(3)},
    {"frozen": None, "w": jnp.ones(3)},
    {"masked": optax.MaskedNode(), "w": jnp.ones(3)},
    {"empty": jnp.ones((0, 3)), "w": jnp.ones(3)},
    {},
    jnp.ones(()),
  ],
  ids=["float64", "bfloat16", "python", "none", "masked", "zero-size", "empty", "root"],
)
def test_the_state_is_the_same_tree_of_the_same_types_before_and_after(params):
  tx = update_ratio()
  before = tx.init(params)
  # A float64 gradient on narrow parameters must not widen the state.
  updates = jax.tree.map(lambda p: 0.1 * jnp.asarray(p, jnp.float64), params)
  _, after = tx.update(updates, before, params)
  assert_same_signature(after, before)
  for old in before:
    assert old.shape == (len(jax.tree.leaves(params)),)
    assert not old.weak_type
    assert not np.any(old)
  assert np.all(np.isfinite(after.ratio))
  assert jax.eval_shape(tx.init, params) == jax.eval_shape(lambda: before)


def test_zero_parameters_are_no_error():
  params = {"both": jnp.zeros(3), "kept": jnp.ones(3), "params": jnp.zeros(3), "size": jnp.ones(0)}
  updates = {"both": jnp.zeros(3), "kept": jnp.zeros(3), "params": jnp.ones(3), "size": jnp.ones(0)}
  with jax.debug_nans(True):
    state = _measure(params, updates)
    np.testing.assert_array_equal(state.ratio, [0, 0, np.inf, 0])
    assert state.overall == 1
    nothing = jax.tree.map(jnp.zeros_like, params)
    assert _measure(nothing, nothing).overall == 0
    assert _measure(nothing, updates).overall == np.inf
    assert _measure({}, {}).overall == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_gives_nan_and_spares_the_other_leaves(value):
  good, bad = jnp.ones(2), jnp.array([1.0, value])
  assert np.isnan(_measure(bad, good).ratio)  # and not 1/inf = 0, which would look like a ratio
  assert np.isnan(_measure(good, bad).ratio)
  state = _measure([good, good], [good, bad])
  np.testing.assert_array_equal(state.ratio, [1, np.nan])
  assert np.isnan(state.overall)


@pytest.mark.parametrize(
  ("dtype", "smallest", "largest"),
  # Roots of the smallest normal number (below, CPUs flush to 0) and of the largest number.
  [("float32", 1.1e-19, 1.8e19), ("float64", 1.5e-154, 1.3e154)],
)
def test_norms_are_good_between_the_limits_that_the_docstring_states(dtype, smallest, largest):
  for size in (smallest, largest):
    leaf = jnp.array([size], dtype)
    np.testing.assert_allclose(_measure(leaf, leaf).param_scale, [size], rtol=1e-6)
    np.testing.assert_array_equal(_measure(leaf, leaf).ratio, [1])
  tiny, huge = jnp.array([smallest * 1e-5], dtype), jnp.array([largest * 1.1], dtype)
  assert _measure(tiny, jnp.ones(1, dtype)).ratio == np.inf
  assert np.isnan(_measure(huge, jnp.ones(1, dtype)).ratio)


def test_overall_neither_overflows_nor_underflows():
  for size in (3e-38, 1e38):
    state = UpdateRatioState(jnp.full(2, size, jnp.float32), jnp.full(2, size, jnp.float32))
    np.testing.assert_allclose(state.overall, 1, rtol=1e-6)
    assert state.overall.dtype == jnp.float32


def test_measures_what_passes_at_its_place_in_the_chain():
  params, gradient = jnp.array([3.0, 4.0]), jnp.array([0.6, 0.8])
  for links, expected in (
    ((update_ratio(), optax.sgd(0.1)), 1 / 5),
    ((optax.sgd(0.1), update_ratio()), 0.1 / 5),
  ):
    tx = optax.chain(*links)
    _, state = tx.update(gradient, tx.init(params), params)
    np.testing.assert_allclose(find_update_ratio(state).ratio, [expected], rtol=1e-15)


def test_map_params_does_not_take_the_norms_for_parameters():
  # Even where there is one leaf and it is a scalar, or where it has the shape of the vector.
  for params in (jnp.ones(()), jnp.ones(1), {"a": jnp.ones(2), "b": jnp.ones(2)}):
    tx = optax.chain(kinkopt.rules.adam(0.1), update_ratio())
    state = optax.tree.map_params(
      tx, lambda _: "params", tx.init(params), transform_non_params=lambda _: "other"
    )
    assert find_update_ratio(state) == UpdateRatioState("other", "other")
    assert jax.tree.leaves(state).count("params") == 2 * len(jax.tree.leaves(params))


def test_differentiating_a_step_is_undisturbed_even_at_zero_norms():
  params = {"b": jnp.zeros(2), "w": jnp.array([1.0, -2.0])}

  def step(tx, params, rate):
    # The gradient of "b" is 0, so both its norms are, and the root has an infinite slope there.
    gradient = {"b": 0 * params["b"], "w": jnp.cos(params["w"]) * rate}
    return tx.update(gradient, tx.init(params), params)

  plain, watched = optax.sgd(0.1), optax.chain(optax.sgd(0.1), update_ratio())
  _, expected = jax.vjp(lambda p, rate: step(plain, p, rate)[0], params, 0.3)
  (_, state), pullback = jax.vjp(lambda p, rate: step(watched, p, rate), params, 0.3)
  # Zeros in full for the state, as `jax.custom_vjp` and others make them: 0 * inf would be NaN.
  cotangents = pullback((params, jax.tree.map(jnp.zeros_like, state)))
  assert jax.tree.all(jax.tree.map(jnp.array_equal, cotangents, expected(params)))
  tangent = jax.jacfwd(lambda rate: find_update_ratio(step(watched, params, rate)[1]))(0.3)
  np.testing.assert_array_equal(tangent.update_scale, [0, 0])


def test_missing_params_are_asked_for():
  tx = update_ratio()
  state = tx.init(jnp.ones(2))
  with pytest.raises(
    ValueError,
    match=r"`update_ratio` needs the weights it compares with, but `update` was called with "
    r"`params=None`\. Call `tx\.update\(grads, state, params\)`\.",
  ):
    tx.update(jnp.ones(2), state)


def test_mismatched_trees_and_shapes_are_named():
  params = {"b": jnp.ones(2), "w": jnp.ones((2, 3))}
  tx = update_ratio()
  state = tx.init(params)
  with pytest.raises(
    ValueError,
    match=r"`update_ratio`: the update does not have the tree of the parameters\. The update has "
    r"no leaf `\['w'\]`; it has `\['W'\]` instead\. Pass an update with the same tree as the param",
  ):
    tx.update({"b": jnp.ones(2), "W": jnp.ones((2, 3))}, state, params)
  with pytest.raises(
    ValueError,
    match=r"the update leaf `\['w'\]` is float64\[3,2\], but float64\[2,3\] in the parameters.*"
    r"an update must have the shape of the parameters",
  ):
    tx.update({"b": jnp.ones(2), "w": jnp.ones((3, 2))}, state, params)


def test_integer_leaves_are_named():
  tx = update_ratio()
  floating, integer = {"w": jnp.ones(2)}, {"w": jnp.ones(2, jnp.int32)}
  with pytest.raises(TypeError, match=r"floating-point parameters, but.*`\['w'\]` is int32"):
    tx.init(integer)
  state = tx.init(floating)
  with pytest.raises(TypeError, match=r"floating-point updates, but.*`\['w'\]` is int32"):
    tx.update(integer, state, floating)
  with pytest.raises(TypeError, match=r"floating-point parameters, but.*`\['w'\]` is int32"):
    tx.update(floating, state, integer)


def test_a_state_of_other_parameters_is_refused():
  tx = update_ratio()
  params = {"b": jnp.ones(2), "w": jnp.ones(3)}
  with pytest.raises(
    ValueError, match=r"norms of shape \(1,\), but the parameters have 2 leaves.*tx\.init\(params\)"
  ):
    tx.update(params, tx.init(jnp.ones(2)), params)
  population = jax.tree.map(lambda p: jnp.stack([p, p]), params)
  with pytest.raises(ValueError, match=r"norms of shape \(2, 2\).*put `jax\.vmap` around"):
    tx.update(params, jax.vmap(tx.init)(population), params)
