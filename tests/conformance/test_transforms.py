"""Every exported transform keeps the manners of Optax, in every dtype."""

import enum
import types

import optax
import pytest

from kinkopt import rules
from tests.conformance import checks
from tests.conformance.catalogue import NOT_TRANSFORMS, TRANSFORMS, WINGS, discover, refused

DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
each_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
# One of each kind, where every case costs a compilation.
each_kind = pytest.mark.parametrize("dtype", ["bfloat16", "float32", "complex64"])


@each_transform
def test_takes_extra_args(transform):
  assert isinstance(transform.make(), optax.GradientTransformationExtraArgs)


@each_dtype
@each_transform
def test_state_and_updates_keep_their_dtypes(transform, dtype):
  with refused(transform, dtype):
    checks.check_fixpoint(transform.make(), dtype, dtype)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if checks.WIDER[d] != d])
@each_transform
def test_state_keeps_its_dtypes_under_wider_gradients(transform, dtype):
  with refused(transform, dtype):
    checks.check_fixpoint(transform.make(), dtype, checks.WIDER[dtype])


@each_dtype
@each_transform
def test_state_starts_finite(transform, dtype):
  with refused(transform, dtype):
    checks.check_finite_start(transform.make(), dtype)


@each_kind
@each_transform
def test_runs_in_a_scan(transform, dtype):
  with refused(transform, dtype):
    checks.check_scan(transform.make(), dtype)


@each_kind
@each_transform
def test_compiled_equals_eager(transform, dtype):
  with refused(transform, dtype):
    checks.check_jit(transform.make(), dtype)


@each_kind
@each_transform
def test_compiles_once(transform, dtype):
  with refused(transform, dtype):
    checks.check_compiles_once(transform.make(), dtype)


@each_kind
@each_transform
def test_gives_up_donated_buffers(transform, dtype):
  with refused(transform, dtype):
    checks.check_donation(transform.make(), dtype)


@each_dtype
@each_transform
def test_promotes_nothing_and_leaks_nothing(transform, dtype):
  with refused(transform, dtype):
    checks.check_promotion_and_leaks(transform.make(), dtype)


def test_every_rule_is_found():
  found = {name.removeprefix("rules.") for name in TRANSFORMS if name.startswith("rules.")}
  assert found == set(rules.__all__) - {"lookahead_params"}


def test_every_reader_named_is_one_of_a_wing_that_exports():
  exporting = {wing.__name__.rpartition(".")[2] for wing in WINGS if hasattr(wing, "__all__")}
  exported = {
    f"{wing.__name__.rpartition('.')[2]}.{name}"
    for wing in WINGS
    for name in getattr(wing, "__all__", ())
  }
  assert {name for name in NOT_TRANSFORMS if name.split(".")[0] in exporting} <= exported


def wing_of(export: object) -> types.ModuleType:
  wing = types.ModuleType("kinkopt.planted")
  wing.thing, wing.__all__ = export, ["thing"]
  return wing


def test_export_that_makes_no_transform_is_noticed():
  with pytest.raises(LookupError, match=r"`planted.thing` is exported and makes a int\."):
    discover([wing_of(lambda learning_rate: 3)])


def test_export_with_unknown_arguments_is_noticed():
  with pytest.raises(LookupError, match=r"`planted.thing` is exported and demands \['radius'\]\."):
    discover([wing_of(lambda radius, shape=3: optax.identity())])


def test_new_rule_and_data_types_need_no_listing():
  found = discover([wing_of(lambda learning_rate, momentum: optax.sgd(learning_rate, momentum))])
  assert found["planted.thing"].kwargs == {"learning_rate": 0.1, "momentum": 0.9}
  assert not discover([wing_of(enum.Enum("Verdict", ["GOOD"]))])
