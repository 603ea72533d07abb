"""What the readers find, and what they say when they cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt.monitor import find_update_ratio, read_update_ratios, update_ratio

PARAMS = {"dense": {"b": jnp.array([0.0]), "w": jnp.array([3.0, 4.0])}, "scale": jnp.array(2.0)}
TX = optax.chain(optax.sgd(0.5), update_ratio())


def _state(tx, params=PARAMS):
  return tx.update(params, tx.init(params), params)[1]


def test_ratios_are_python_floats_by_path():
  ratios = read_update_ratios(_state(TX), PARAMS)
  assert ratios == {"['dense']['b']": 0.0, "['dense']['w']": 0.5, "['scale']": 0.5}
  assert all(type(ratio) is float for ratio in ratios.values())
  assert read_update_ratios(_state(TX, jnp.ones(2)), jnp.ones(2)) == {"(root)": 0.5}
  assert read_update_ratios(TX.init({}), {}) == {}


def test_shapes_will_do_for_parameters():
  shapes = jax.eval_shape(lambda: PARAMS)
  assert read_update_ratios(_state(TX), shapes) == read_update_ratios(_state(TX), PARAMS)


def test_a_fresh_state_reads_as_zeros():
  assert set(read_update_ratios(TX.init(PARAMS), PARAMS).values()) == {0.0}


def test_leading_axes_become_numpy_arrays():
  population = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), PARAMS)
  states = jax.vmap(lambda p: _state(TX, p))(population)
  ratios = read_update_ratios(states, PARAMS)
  assert isinstance(ratios["['scale']"], np.ndarray)
  np.testing.assert_array_equal(ratios["['dense']['w']"], [0.5, 0.5])


def test_the_ratios_of_all_leaves_are_fetched_together():
  state = _state(TX)
  transfers = []
  original = np.asarray

  def counting(x, *args, **kwargs):
    transfers.append(x)
    return original(x, *args, **kwargs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(np, "asarray", counting)
    read_update_ratios(state, PARAMS)
  assert sum(isinstance(x, jax.Array) for x in transfers) == 1


def test_masked_leaves_are_named_by_the_tree_the_message_gives():
  mask = {"dense": {"b": False, "w": True}, "scale": True}
  state = _state(optax.masked(TX, mask))
  seen = jax.tree.map(lambda keep, p: p if keep else None, mask, PARAMS)
  assert read_update_ratios(state, seen) == {"['dense']['w']": 0.5, "['scale']": 0.5}
  with pytest.raises(
    ValueError,
    match=r"holds 2 ratios, but `params` has 3 leaves.*under `optax\.masked\(tx, mask\)` that is "
    r"`jax\.tree\.map\(lambda keep, p: p if keep else None, mask, params\)`.*`params\.fast`",
  ):
    read_update_ratios(state, PARAMS)


def test_a_state_that_is_not_there_is_missed():
  with pytest.raises(
    ValueError,
    match=r"`read_update_ratios` found no `UpdateRatioState` in the tuple it was given\. Pass the "
    r"state of a chain that measures, such as `optax\.chain\(tx, kinkopt\.monitor\.update_ratio",
  ):
    read_update_ratios(optax.adam(0.1).init(PARAMS), PARAMS)
  with pytest.raises(ValueError, match=r"`find_update_ratio` found no .* in the dict"):
    find_update_ratio(PARAMS)


def test_of_several_states_the_message_says_how_to_choose_one():
  labels = {"dense": {"b": "slow", "w": "fast"}, "scale": "slow"}
  opt_state = _state(optax.partition({"slow": TX, "fast": TX}, labels))
  with pytest.raises(
    ValueError, match=r"`find_update_ratio` found 2 states.*they are at.*Pass one of them"
  ) as caught:
    find_update_ratio(opt_state)
  places = [f"opt_state.inner_states['{label}'].inner_state[1]" for label in ("fast", "slow")]
  for place in places:
    assert f"`{place}`" in str(caught.value)
  assert f"as in `find_update_ratio({places[0]})`" in str(caught.value)
  # What the message gives is Python, and works.
  for place, leaves in zip(places, (1, 2)):
    chosen = eval(place, {"opt_state": opt_state})
    assert find_update_ratio(chosen).ratio.shape == (leaves,)
  with pytest.raises(ValueError, match=r"as in `read_update_ratios\(opt_state.*\[1\], params\)`"):
    read_update_ratios(opt_state, PARAMS)


def test_under_jit_the_reader_points_to_the_finder():
  state = _state(TX)
  with pytest.raises(
    TypeError, match=r"is being traced \(float64\[3\]\).*`find_update_ratio\(opt_state\)\.ratio`"
  ):
    jax.jit(lambda s: read_update_ratios(s, PARAMS))(state)
  ratio = jax.jit(lambda s: find_update_ratio(s).ratio)(state)
  np.testing.assert_array_equal(ratio, list(read_update_ratios(state, PARAMS).values()))
