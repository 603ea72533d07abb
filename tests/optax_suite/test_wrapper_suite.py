"""Optax's tests of its wrappers and of its tools for states, run with our rules inside them."""

import contextlib
import types
import unittest
from collections.abc import Callable

import optax
import pytest
from jax.typing import ArrayLike

from kinkopt import rules
from tests.optax_suite.harness import load, run


def _sgd(
  learning_rate: optax.ScalarOrSchedule, momentum: float | None = None
) -> optax.GradientTransformationExtraArgs:
  return rules.sgd(learning_rate) if momentum is None else rules.momentum(learning_rate, momentum)


def _adam(
  learning_rate: optax.ScalarOrSchedule,
  b1: ArrayLike = 0.9,
  b2: ArrayLike = 0.999,
  eps: ArrayLike = 1e-8,
) -> optax.GradientTransformationExtraArgs:
  return optax.chain(rules.scale_by_adam(b1, b2, eps), optax.scale_by_learning_rate(learning_rate))


def _adagrad(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
  return optax.chain(rules.scale_by_adagrad(), optax.scale_by_learning_rate(learning_rate))


WHOLE = types.SimpleNamespace(
  sgd=_sgd, adam=rules.adam, adamw=rules.adam, adagrad=rules.adagrad, rmsprop=rules.rmsprop
)
# Some tests spell out the state of the last link, or count its counters; ours always has one, so
# there Optax's own link takes its place.
PARTS = types.SimpleNamespace(sgd=optax.sgd, adam=_adam, adamw=_adam, adagrad=_adagrad)
SPELLED_OUT = {
  ("StateUtilsTest", "test_adam"),
  ("StateUtilsTest", "test_map_params_to_none"),
  ("StateUtilsTest", "test_tree_set"),
}
# What cannot pass, with what it says instead: a case that begins to pass must leave this table.
REFUSALS = {
  # Optax's parameters are integers here; a rule of ours says that those have no gradient.
  ("ExtraArgsTest", "test_extra_args"): "needs floating-point parameters",
  # Expects the words of an older JAX; fails on Optax's own optimizers alike.
  ("SelectiveTransformTest", "test_selective_bad_structure"): "Dict key mismatch",
  # Reads the velocity by Optax's name for it.
  ("MaskedTest", "test_masked_state_structure"): "has no attribute 'trace'",
}
# Takes 20 s and 40 s on Optax's own sgd; the conformance suite runs MultiSteps in bfloat16 too.
TOO_SLOW = {("AccumulationTest", "test_multi_steps_mixed_precision")}
MODULES = (
  "optax.tree_utils._state_utils_test",
  "optax.transforms._accumulation_test",
  "optax.transforms._combining_test",
  "optax.transforms._conditionality_test",
  "optax.transforms._freezing_test",
  "optax.transforms._layouts_test",
  "optax.transforms._masking_test",
  "optax._src.lookahead_test",
)


def _asks_for(name: str, function: Callable[..., object], module: types.ModuleType) -> bool:
  """Says whether a function names `name`, itself or through functions of its module."""
  codes, names = [function.__code__], set()
  while codes:
    code = codes.pop()
    names |= set(code.co_names)
    codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
  if name in names:
    return True
  helpers = (getattr(module, helper, None) for helper in names - {function.__name__})
  return any(
    _asks_for(name, helper, module)
    for helper in helpers
    if isinstance(helper, types.FunctionType) and helper.__module__ == module.__name__
  )


def _name(case: type[unittest.TestCase], method: Callable[..., None]) -> tuple[str, str]:
  return case.__name__, getattr(method, "__wrapped__", method).__name__


def _cases() -> list[pytest.param]:
  cases = []
  for module in map(load, MODULES):
    for case in list(vars(module).values()):  # a warning may add its registry meanwhile
      if not (isinstance(case, type) and issubclass(case, unittest.TestCase)):
        continue
      for name in unittest.TestLoader().getTestCaseNames(case):
        method = getattr(case, name)
        test = getattr(method, "__wrapped__", method)
        closed_over = [cell.cell_contents for cell in method.__closure__ or ()]
        builders = [f for f in _flat(closed_over) if isinstance(f, types.FunctionType)]
        if _name(case, method) in TOO_SLOW:
          continue
        if any(_asks_for("alias", f, module) for f in (test, *builders)):
          cases.append(pytest.param(case, method, id=f"{case.__name__}-{name}"))
  return cases


def _flat(value: object) -> list:
  if isinstance(value, dict):
    value = tuple(value.values())
  return [x for v in value for x in _flat(v)] if isinstance(value, list | tuple) else [value]


CASES = _cases()


@pytest.mark.parametrize(("case", "method"), CASES)
def test_wrapper(case, method):
  name = _name(case, method)
  refusal = pytest.raises((AssertionError, TypeError), match=REFUSALS.get(name))
  with refusal if name in REFUSALS else contextlib.nullcontext():
    run(case, method, PARTS if name in SPELLED_OUT else WHOLE)


def test_the_cases_are_found():
  # Fewer would mean that the search no longer understands Optax's tests.
  assert len(CASES) >= 50
  names = {_name(*case.values) for case in CASES}
  assert names >= set(REFUSALS) | SPELLED_OUT
