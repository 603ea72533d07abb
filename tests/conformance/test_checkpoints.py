"""States survive every checkpointer bit for bit, and a resumed run equals an unbroken one."""

import functools
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import flax.serialization
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

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
