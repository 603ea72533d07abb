"""Every example that a reader may copy, run as a test: of docstrings, README and documentation.

Examples show what JAX prints by default, so they run with 64 bits off.
"""

import contextlib
import doctest
import importlib
import inspect
import io
import itertools
import pathlib
import pkgutil
import re

import jax
import pytest

import kinkopt

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how_to").glob("*.md"))]


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


def _words(text: str) -> list[str]:
  """Splits what was printed, without the digits of what rounding alone decides."""
  return re.sub(r"\b\d\.\de-(09|[1-9]\d)\b", "tiny", text).split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_a_page_print_what_it_shows(page):
  blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
  namespace: dict[str, object] = {}
  count = 0
  with jax.enable_x64(page.name == "README.md"):  # which turns it on
    for (language, code), (next_language, shown) in itertools.pairwise([*blocks, ("", "")]):
      if language != "python":
        continue
      printed = io.StringIO()
      with contextlib.redirect_stdout(printed):
        exec(compile(code, page.name, "exec"), namespace)
      # The block without a language that follows code is what the code prints.
      if printed.getvalue():
        assert next_language == ""
        assert _words(printed.getvalue()) == _words(shown)
      count += 1
  assert count >= (4 if page.name == "README.md" else 3)
