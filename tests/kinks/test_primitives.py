"""Every primitive that JAX has is in the table, in exactly one class."""

import importlib
import itertools
import pkgutil
import warnings

import jax
from jax.extend.core import Primitive

from kinkopt.trace import _registry

# Inside kernels only, which are opaque as a whole; or what JAX tests itself with.
KERNELS = ("pallas", "mosaic", "triton", "thunky", "tests", "test_util", "jax2tf", "fuser")


def _primitives() -> dict[str, Primitive]:
  found = {}
  for module in pkgutil.walk_packages(jax.__path__, "jax."):
    if any(word in module.name for word in KERNELS):
      continue
    try:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = importlib.import_module(module.name)
    except (ImportError, AttributeError, RuntimeError, OSError):  # what this machine cannot have
      continue
    for value in vars(loaded).values():
      if isinstance(value, Primitive):
        found[value.name] = value
  return found


def test_each_primitive_of_jax_has_its_class():
  primitives = _primitives()
  assert len(primitives) > 250  # else the search has gone blind
  assert [name for name in sorted(primitives) if not _registry.is_listed(name)] == []


def test_no_primitive_has_two_classes():
  classes = [set(_registry._RULES), _registry._SMOOTH, _registry._OPAQUE]
  for first, second in itertools.combinations(classes, 2):
    assert not first & second
