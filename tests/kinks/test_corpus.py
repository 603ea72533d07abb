"""On the corpus, the frozen difference is the derivative, and at the point it is the function."""

import jax
import numpy as np
import pytest

from kinkopt.kinks import freeze
from tests.kinks import corpus
from tests.kinks.exceptions import EXCEPTIONS, NOT_BIT_FOR_BIT

MEMBERS = {member.name: member for member in corpus.members()}
KEYS = [jax.random.key(seed) for seed in range(3)]
TOLERANCE = 1e-8
each_member = pytest.mark.parametrize("name", MEMBERS)


@each_member
def test_the_frozen_difference_is_the_derivative(name):
  found = corpus.measure(MEMBERS[name], KEYS)
  worst = np.max([measured.error for measured in found])  # NaN where any is
  assert (worst <= TOLERANCE) != (name in EXCEPTIONS), (worst, EXCEPTIONS.get(name))
  if name not in EXCEPTIONS:
    np.testing.assert_allclose(
      *zip(*(measured.values for measured in found)), rtol=1e-13, atol=1e-13
    )


@each_member
def test_at_the_point_it_is_the_function_bit_for_bit(name):
  member = MEMBERS[name]
  with member.mode():
    args = member.arguments(KEYS[0])
    frozen = freeze(member.fun, *args, argnums=member.argnums, float64=False)
    argnums = frozen.program.argnums
    with jax.disable_jit():  # else XLA fuses the two programs differently, and rounds so
      plain = member.fun(*args)
      value = frozen(*(args[argnum] for argnum in argnums))
  for mine, other in zip(jax.tree.leaves(value), jax.tree.leaves(plain), strict=True):
    if name in NOT_BIT_FOR_BIT:
      np.testing.assert_allclose(mine, other, rtol=1e-4)
    else:
      np.testing.assert_array_equal(mine, other)


def test_every_exception_is_of_a_member():
  assert {*EXCEPTIONS, *NOT_BIT_FOR_BIT} <= set(MEMBERS)
