"""Optax's tests of its optimizers, run on ours: they converge, do not recompile, keep dtypes."""

import types

import jax
import jax.numpy as jnp
import optax
import pytest

from kinkopt import rules
from tests.optax_suite.harness import OURS, load, original, run

alias_test = load("optax._src.alias_test")
schedule_test = load("optax.schedules._schedule_test")
float64_test = load("optax._src.float64_test")
sharding_test = load("optax._src.sharding_test")

OPTIMIZERS = {
  "sgd": {"learning_rate": 1e-3},
  "momentum": {"learning_rate": 1e-3},
  "nesterov": {"learning_rate": 5e-4},
  "nesterov_lookahead": {"learning_rate": 1e-3},
  "adagrad": {"learning_rate": 1.0},
  "rmsprop": {"learning_rate": 5e-3},
  "adam": {"learning_rate": 1e-1},
  "corrected_adam": {"learning_rate": 1e-1},
}
TRANSFORMS = {
  "scale_by_momentum": {"momentum": 0.5},
  "scale_by_nesterov": {"momentum": 0.5},
  "scale_by_adagrad": {},
  "scale_by_rmsprop": {},
  "scale_by_adam": {},
}


def long_and_short(count: jax.Array) -> jax.Array:
  """Takes one long step between two short ones, on average longer than any safe constant one."""
  return jnp.where(count % 3 == 1, 2.4e-3, 0.8e-3)


# With these rates the parabola and Rosenbrock's function, real and complex, come within 3e-2 of
# the minimum in the 10,000 steps that Optax's test takes. A constant rate that suits the steep
# side of the complex valley, below 2 / 1800, takes sgd too long along its floor.
SOLVING = {**OPTIMIZERS, "sgd": {"learning_rate": long_and_short}}
each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def run_alias_test(test: str, name: str, kwargs: dict | None = None, **parameters: object) -> None:
  case = alias_test.AliasTest
  kwargs = OPTIMIZERS[name] if kwargs is None else kwargs
  run(case, original(case, test), opt_name=name, opt_kwargs=kwargs, **parameters)


def test_every_rule_is_under_test():
  covered = set(OPTIMIZERS) | set(TRANSFORMS) | {"lookahead_params"}
  assert covered - {"corrected_adam"} == set(rules.__all__)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
@pytest.mark.parametrize("target", ["parabola", "rosenbrock"])
@each_optimizer
def test_optimization(name, target, dtype):
  setup = getattr(alias_test, f"_setup_{target}")
  run_alias_test("test_optimization", name, SOLVING[name], target=setup, dtype=dtype)


@each_optimizer
def test_optimizers_accept_extra_args(name):
  run_alias_test("test_optimizers_accept_extra_args", name)


@each_optimizer
def test_optimizers_can_be_wrapped_in_inject_hyperparams(name):
  run_alias_test("test_optimizers_can_be_wrapped_in_inject_hyperparams", name)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@each_optimizer
def test_preserve_dtype(name, dtype):
  run_alias_test("test_preserve_dtype", name, dtype=dtype)


@pytest.mark.parametrize(
  "dtype",
  [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64, jnp.complex64, jnp.complex128],
)
@each_optimizer
def test_state_shape_dtype_shard_stability(name, dtype):
  run_alias_test("test_state_shape_dtype_shard_stability", name, dtype=dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@each_optimizer
def test_gradient_accumulation(name, dtype):
  run_alias_test("test_gradient_accumulation", name, dtype=dtype)


@pytest.mark.parametrize("state_dtype", ["bfloat16", "float32", "complex64", None])
@pytest.mark.parametrize("params_dtype", ["bfloat16", "float32", "complex64", None])
@pytest.mark.parametrize("name", ["adam", "sgd_mom"])
def test_explicit_dtype(name, params_dtype, state_dtype, monkeypatch):
  # Optax calls the velocity `trace`, and makes momentum by an argument of sgd.
  def get(state: optax.OptState, field: str) -> optax.Updates:
    return optax.tree.get(state, {"trace": "velocity"}.get(field, field))

  optax_of_the_test = types.SimpleNamespace(tree=types.SimpleNamespace(get=get))
  monkeypatch.setattr(alias_test, "optax", optax_of_the_test)
  case = alias_test.AliasTest
  dtypes = {"params_dtype": params_dtype, "state_dtype": state_dtype}
  alias = types.SimpleNamespace(sgd=rules.momentum, adam=rules.adam)
  run(case, original(case, "test_explicit_dtype"), alias, opt_name=name, **dtypes)


@each_optimizer
def test_schedule_as_learning_rate(name):
  case = schedule_test.ScheduleAsLearningRateTest
  method = original(case, "test_optimization")
  run(case, method, opt_name=name, opt_kwargs=OPTIMIZERS[name])


@pytest.mark.parametrize("name", [*OPTIMIZERS, *TRANSFORMS])
def test_mixed_dtype_input_outputs(name):
  case = float64_test.Float64Test
  method = original(case, "test_mixed_dtype_input_outputs")
  kwargs = (OPTIMIZERS | TRANSFORMS)[name]
  run(case, method, x64=True, transform_constr=getattr(OURS, name), transform_kwargs=kwargs)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *TRANSFORMS])
@pytest.mark.parametrize(
  "test",
  [
    "test_init_with_abstract_input",
    "test_state_sharding_type_init_match_update",
    "test_state_sharding_type_preserved_with_jit",
  ],
)
def test_sharding(test, name, monkeypatch):
  # Optax compares versions as strings, so "0.10" is older than "0.7.2" and the test is skipped.
  jax_of_the_test = types.ModuleType("jax")
  vars(jax_of_the_test).update(vars(jax), __version__="0.9")
  monkeypatch.setattr(sharding_test, "jax", jax_of_the_test)
  case = sharding_test.ShardingTest
  kwargs = (OPTIMIZERS | TRANSFORMS)[name]
  run(case, original(case, test), optimizer=getattr(OURS, name)(**kwargs))
