"""What pytest finds of kinkopt by itself: a fixture, a marker, and a section in the summary.

It loads no JAX before a test asks for it, so that a test-suite without one starts as fast as ever.
What was checked travels in the properties of the test, which reach the summary from the workers of
pytest-xdist as well, and JUnit's XML.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
  from kinkopt.gradcheck import GradientReport

_PROPERTY = "kinkopt.gradcheck"
_MARKER = (
  "gradcheck(**options): a gradient check; the options are those of `kinkopt.check_gradient`, for "
  "all checks that the test makes by the fixture `assert_gradient`."
)


def pytest_configure(config: pytest.Config) -> None:
  """Makes the marker known."""
  config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def assert_gradient(request: pytest.FixtureRequest) -> "Callable[..., GradientReport]":
  """`kinkopt.testing.assert_gradient`; the report is shown with the test, should it fail later."""
  import kinkopt.testing

  marker = request.node.get_closest_marker("gradcheck")
  if marker is not None and marker.args:
    raise pytest.UsageError(
      f"`@pytest.mark.gradcheck` takes options of `check_gradient` by name, but was given "
      f"{marker.args[0]!r}. Write for example `@pytest.mark.gradcheck(probes=4)`."
    )
  defaults = marker.kwargs if marker is not None else {}

  def check(*args: Any, **options: Any) -> "GradientReport":
    __tracebackhide__ = True
    report = kinkopt.check_gradient(*args, **(defaults | options))
    request.node.user_properties.append((_PROPERTY, _told(report)))
    report.raise_if_wrong()
    request.node.add_report_section("call", "gradient check", str(report))
    return report

  return check


def pytest_terminal_summary(terminalreporter: Any) -> None:
  """Counts the gradients that were checked, and names those that did not pass."""
  checked = list(_properties(terminalreporter.stats))
  if not checked:
    return
  bad = [(where, told) for where, told in checked if not told["ok"]]
  terminalreporter.section("gradient checks")
  least = max((told["power"] for _, told in checked if told["ok"]), default=None)
  seen = f"; an error above {least:.0e} of a leaf would have been seen" if least else ""
  terminalreporter.line(f"{len(checked) - len(bad)} of {len(checked)} gradients are right{seen}.")
  for where, told in bad:
    terminalreporter.line(f"{where}: {told['verdict']} at {told['leaf']}", red=True)


def _told(report: "GradientReport") -> dict[str, Any]:
  worst = max(report.leaves, key=lambda leaf: leaf.verdict is report.verdict)
  powers = [leaf.power for leaf in report.leaves if leaf.power == leaf.power]  # not NaN
  return {
    "ok": report.ok,
    "verdict": report.verdict.words,
    "leaf": worst.label,
    "power": max(powers, default=0.0),
  }


def _properties(stats: dict[str, list[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
  # A teardown has its test's properties once more.
  for reports in stats.values():
    for report in reports:
      if getattr(report, "when", None) == "call":
        for name, told in report.user_properties:
          if name == _PROPERTY:
            yield report.nodeid, told
