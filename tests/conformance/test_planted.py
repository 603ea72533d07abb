"""The checks of this suite find what they are there to find: faults planted, and those of Optax."""

import jax
import jax.numpy as jnp
import optax
import pytest

from kinkopt import rules
from tests.conformance import checks


def planted(update, init=lambda params: jnp.zeros([])) -> optax.GradientTransformationExtraArgs:
  return optax.GradientTransformationExtraArgs(init, update)


LEAKED = []

WIDENING_STATE = planted(
  lambda g, s, p=None, **_: (g, s + jnp.float64(1)), lambda p: jnp.float32(0)
)
WEAK_STATE = planted(lambda g, s, p=None, **_: (g, s), lambda p: jnp.asarray(0.0))
WIDENING_UPDATE = planted(
  lambda g, s, p=None, **_: (jax.tree.map(lambda g: g * jnp.ones(()), g), s)
)
INFINITE_START = planted(lambda g, s, p=None, **_: (g, s), lambda p: jnp.float32(jnp.inf))
GROWS = planted(lambda g, s, p=None, **_: (g, jnp.concatenate([s, s])), lambda p: jnp.ones(3))
DEAF = planted(lambda g, s, p=None: (g, s))
BROADCASTS = planted(lambda g, s, p=None, **_: (g, s + jnp.sum(jnp.ones((2, 3)) + jnp.ones(3))))
LEAKS = planted(lambda g, s, p=None, **_: (g, LEAKED.append(s) or s))


def test_optax_widens_its_states_and_we_notice():
  for tx in (optax.sgd(0.1, momentum=0.9), optax.rmsprop(0.1), optax.adagrad(0.1)):
    with pytest.raises(AssertionError):
      checks.check_fixpoint(optax.with_extra_args_support(tx), "bfloat16", "float32")


def test_optax_recompiles_and_we_notice():
  tx = optax.chain(WIDENING_STATE)
  with pytest.raises(AssertionError, match="traced > 1 times"):
    checks.check_compiles_once(tx, "float32")


@pytest.mark.parametrize("fault", [WIDENING_STATE, WEAK_STATE, WIDENING_UPDATE])
def test_planted_dtype_is_noticed(fault):
  with pytest.raises(AssertionError):
    checks.check_fixpoint(fault, "float32", "float32")


def test_planted_infinity_is_noticed():
  with pytest.raises(AssertionError):
    checks.check_finite_start(INFINITE_START, "float32")


def test_planted_scan_failure_is_noticed():
  with pytest.raises(TypeError, match="carry"):
    checks.check_scan(WIDENING_STATE, "float32")


def test_planted_deafness_to_extra_args_is_noticed():
  with pytest.raises(TypeError, match="unexpected keyword"):
    checks.check_fixpoint(DEAF, "float32", "float32")


def test_planted_hoarding_of_buffers_is_noticed():
  with pytest.raises(UserWarning, match="donated buffers were not usable: float64\\[3\\]"):
    checks.check_donation(GROWS, "float32")


def test_planted_difference_between_compiled_and_eager_is_noticed():
  def update(g, s, p=None, **_):
    is_traced = isinstance(s, jax.core.Tracer)
    return jax.tree.map(lambda g: g * 1.001 if is_traced else g, g), s

  with pytest.raises(AssertionError, match="Not equal to tolerance"):
    checks.check_jit(planted(update), "float32")


def test_planted_promotions_and_leaks_are_noticed():
  with pytest.raises(jax.dtypes.TypePromotionError, match="strict"):
    checks.check_promotion_and_leaks(WIDENING_STATE, "float32")
  with pytest.raises(ValueError, match="rank_promotion"):
    checks.check_promotion_and_leaks(BROADCASTS, "float32")
  with pytest.raises(Exception, match="Leaked"):
    checks.check_promotion_and_leaks(LEAKS, "float32")


def test_rule_of_ours_passes_them_all():
  tx = rules.adam(0.1)
  checks.check_fixpoint(tx, "bfloat16", "float32")
  checks.check_donation(tx, "float32")
