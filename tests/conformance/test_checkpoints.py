"""States survive every checkpointer bit for bit, and a resumed run equals an unbroken one."""

import functools
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import kinkopt
from tests.conformance.catalogue import TRANSFORMS, params_of, refused, step
from tests.conformance.checks import assert_same_signature

Carry = tuple[optax.Params, optax.OptState]


def through_orbax(carry: Carry, blank: Carry, folder: Path) -> Carry:
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / "carry", carry)
    checkpointer.wait_until_finished()
    return checkpointer.restore(folder / "carry", blank)


def through_flax(carry: Carry, blank: Carry, folder: Path) -> Carry:
  return flax.serialization.from_bytes(blank, flax.serialization.to_bytes(carry))


def through_equinox(carry: Carry, blank: Carry, folder: Path) -> Carry:
  file = io.BytesIO()
  eqx.tree_serialise_leaves(file, carry)
  file.seek(0)
  return eqx.tree_deserialise_leaves(file, blank)


def through_pickle(carry: Carry, blank: Carry, folder: Path) -> Carry:
  return pickle.loads(pickle.dumps(carry))


CHECKPOINTERS = (through_orbax, through_flax, through_equinox, through_pickle)


def bits(leaf: jax.Array) -> bytes:
  return np.asarray(leaf).tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_resumed_run_equals_an_unbroken_one(transform, dtype, tmp_path):
  with refused(transform, dtype):
    tx = transform.make()
    take: Callable = jax.jit(functools.partial(step, tx))
    params = params_of(dtype)
    blank = (params, tx.init(params))
    halfway = take(*take(*blank))
    unbroken = take(*take(*halfway))
    for checkpointer in CHECKPOINTERS:
      # Orbax and flax know the tree from a fresh state, as in a new process.
      restored = checkpointer(halfway, blank, tmp_path)
      assert_same_signature(restored, halfway)
      assert jax.tree.map(bits, restored) == jax.tree.map(bits, halfway), checkpointer.__name__
      resumed = take(*take(*restored))
      assert jax.tree.map(bits, resumed) == jax.tree.map(bits, unbroken), checkpointer.__name__


def through_flax_leaf_by_leaf(carry: Carry, blank: Carry, folder: Path) -> Carry:
  treedef = jax.tree.structure(blank)
  return treedef.unflatten(through_flax(jax.tree.leaves(carry), jax.tree.leaves(blank), folder))


@pytest.mark.parametrize(
  "checkpointer", [through_orbax, through_flax_leaf_by_leaf, through_equinox, through_pickle]
)
def test_flat_parameters_and_their_state_survive(checkpointer, tmp_path):
  tree = {"w": jnp.ones((2, 3)), "b": jnp.zeros(2, jnp.bfloat16)}
  params = kinkopt.flat.flatten(tree, multiple_of=4)
  tx = optax.chain(kinkopt.rules.adam(0.1), kinkopt.monitor.update_ratio())
  blank = params, tx.init(params)
  halfway = _stepped(tx, *blank)
  restored = checkpointer(halfway, blank, tmp_path)
  assert jax.tree.structure(restored) == jax.tree.structure(halfway)
  assert list(map(bits, jax.tree.leaves(restored))) == list(map(bits, jax.tree.leaves(halfway)))
  assert restored[0].tree["w"].shape == (2, 3)
  resumed, unbroken = _stepped(tx, *restored), _stepped(tx, *halfway)
  assert list(map(bits, jax.tree.leaves(resumed))) == list(map(bits, jax.tree.leaves(unbroken)))


def _stepped(
  tx: optax.GradientTransformation, params: optax.Params, state: optax.OptState
) -> Carry:
  updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
  return optax.apply_updates(params, updates), state


def test_flax_says_that_it_does_not_know_the_class():
  params = kinkopt.flat.flatten({"w": jnp.ones(3)})
  with pytest.raises(TypeError, match="can not serialize 'Flat'"):
    flax.serialization.to_bytes(params)
