"""Runs tests of Optax, read from the installed wheel, on our rules in the place of Optax's.

Nothing of Optax's text is here. Its parameterised tests are methods that absl has wrapped once per
case; `__wrapped__` is the test itself, which can be called with other cases. A rule of ours comes
in by name: Optax's tests say `alias.sgd`, and the module that says so sees our namespace instead.
"""

import importlib
import os
import types
import unittest
import warnings
from collections.abc import Callable
from unittest import mock

import jax
import optax

from kinkopt import rules


def load(name: str) -> types.ModuleType:
  """Imports a test module of Optax, keeping what it does to the process to itself."""
  with mock.patch.dict(os.environ), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecated optimizers that it builds when imported
    return importlib.import_module(name)


def corrected_adam(
  learning_rate: optax.ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformationExtraArgs:
  return rules.adam(learning_rate, b1, b2, eps, bias_correction=True)


OURS = types.SimpleNamespace(**{name: getattr(rules, name) for name in rules.__all__})
OURS.corrected_adam = corrected_adam


def original(case: type[unittest.TestCase], name: str) -> Callable[..., None]:
  """Finds the test behind the methods that absl has made of it, one for each of its cases."""
  for method in unittest.TestLoader().getTestCaseNames(case):
    function = getattr(case, method)
    if getattr(function, "__wrapped__", function).__name__ == name:
      return getattr(function, "__wrapped__", function)
  raise LookupError(f"`{case.__module__}.{case.__name__}` of this Optax has no test `{name}`.")


def run(
  case: type[unittest.TestCase],
  method: Callable[..., None],
  alias: types.SimpleNamespace = OURS,
  *,
  x64: bool = False,
  **parameters: object,
) -> None:
  """Runs one case as `unittest` would, with `alias` in the place of Optax's.

  Raises:
    AssertionError: if it fails, in whole or in a subtest, or is skipped.
  """

  class Case(case):
    def runTest(self):
      method(self, **parameters)

  module = importlib.import_module(case.__module__)
  result = unittest.TestResult()
  x64_before = jax.config.jax_enable_x64
  try:
    # Optax's own runs have 64 bits off. Its tests set this flag, so the context manager
    # `jax.enable_x64`, which outranks the flag, will not do.
    jax.config.update("jax_enable_x64", x64)
    with mock.patch.object(module, "alias", alias, create=True):
      Case("runTest").run(result)
  finally:
    jax.config.update("jax_enable_x64", x64_before)
  assert result.testsRun == 1
  problems = [text for _, text in result.errors + result.failures]
  assert not problems, "\n".join(problems)
  assert not result.skipped, f"Optax skips this case: {result.skipped[0][1]}"
