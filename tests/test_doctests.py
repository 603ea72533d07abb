"""Every example that a reader may copy, run as a test: the docstrings' and the README's.

Examples show what JAX prints by default, so they run with 64 bits off.
"""

import doctest
import importlib
import inspect
import pathlib
import pkgutil
import re

import jax
import pytest

import kinkopt

README = pathlib.Path(__file__).parent.parent / "README.md"


def _module_names() -> list[str]:
  found = pkgutil.walk_packages(kinkopt.__path__, "kinkopt.")
  # Importing `__main__` would run it.
  return ["kinkopt", *(info.name for info in found if not info.name.endswith("__main__"))]


def _run(test: doctest.DocTest) -> str:
  """Runs one doctest; returns what it complains about."""
  complaints: list[str] = []
  runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
  with jax.enable_x64(False):
    runner.run(test, out=complaints.append)
  return "".join(complaints)


@pytest.mark.parametrize("name", _module_names())
def test_examples_of_docstrings_run(name):
  module = importlib.import_module(name)
  tests = doctest.DocTestFinder().find(module, name)
  assert "".join(_run(test) for test in tests if test.examples) == ""


@pytest.mark.parametrize(
  "function",
  [
    pytest.param(getattr(wing, name), id=f"{wing.__name__}.{name}")
    for wing in (getattr(kinkopt, name) for name in kinkopt.__all__)
    if inspect.ismodule(wing)
    for name in getattr(wing, "__all__", [])
    if inspect.isfunction(getattr(wing, name, None))
  ],
)
def test_a_public_function_has_an_example_that_shows_a_result(function):
  examples = doctest.DocTestParser().get_examples(inspect.getdoc(function) or "")
  assert [example for example in examples if example.want]


def test_examples_of_the_readme_run():
  blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
  namespace = {}
  with jax.enable_x64(False):
    for number, block in enumerate(blocks, start=1):
      if ">>>" in block:
        test = doctest.DocTestParser().get_doctest(block, namespace, f"block {number}", None, 0)
        assert _run(test) == ""
        namespace = test.globs
      else:
        exec(compile(block, f"README.md, block {number}", "exec"), namespace)
  assert blocks, "the README shows no code"
