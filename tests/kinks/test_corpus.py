"""On the corpus, the frozen difference is the derivative, and at the point it is the function."""

import jax
import numpy as np
import pytest

from kinkopt.kinks import freeze
from tests.kinks import corpus
from tests.kinks.proven import PROVEN

MEMBERS = {member.name: member for member in corpus.members()}
KEYS = [jax.random.key(seed) for seed in range(3)]
TOLERANCE = 1e-8
each_member = pytest.mark.parametrize("name", PROVEN)


@each_member
def test_the_frozen_difference_is_the_derivative(name):
  for measured in corpus.measure(MEMBERS[name], KEYS):
    assert measured.error <= TOLERANCE, measured


def bits(member):
  with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
    args = member.draw(KEYS[0])
    frozen = freeze(member.fun, *args, argnums=member.argnums, float64=False)
    argnums = frozen.program.argnums
    with jax.disable_jit():  # else XLA fuses the two programs differently, and rounds so
      plain = member.fun(*args)
      value = frozen(*(args[argnum] for argnum in argnums))
  for mine, other in zip(jax.tree.leaves(value), jax.tree.leaves(plain), strict=True):
    np.testing.assert_array_equal(mine, other)


@each_member
def test_at_the_point_it_is_the_function_bit_for_bit(name):
  bits(MEMBERS[name])
