"""The families are complete: what JAX offers is a member, or is known to have no derivative."""

import jax
import pytest

from tests.kinks import corpus
from tests.kinks.families import activations


@pytest.mark.parametrize("name", sorted(n for n in dir(jax.nn) if not n.startswith("_")))
def test_each_public_name_of_jax_nn_is_a_member_or_has_no_derivative(name):
  is_member = any(member.name.split()[0] == f"nn.{name}" for member in activations.MEMBERS)
  assert is_member != (name in activations.WITHOUT_DERIVATIVE)


def test_no_two_members_have_one_name():
  names = [member.name for member in corpus.members()]
  assert len(names) == len(set(names))
