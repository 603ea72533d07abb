"""What pytest finds of kinkopt by itself: a fixture.

It loads no JAX before a test asks for it, so that a test-suite without one starts as fast as ever.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
  from kinkopt.gradcheck import GradientReport


@pytest.fixture
def assert_gradient(request: pytest.FixtureRequest) -> "Callable[..., GradientReport]":
  """`kinkopt.testing.assert_gradient`; the report is shown with the test, should it fail later."""
  import kinkopt.testing

  def check(*args: Any, **options: Any) -> "GradientReport":
    __tracebackhide__ = True
    report = kinkopt.testing.assert_gradient(*args, **options)
    request.node.add_report_section("call", "gradient check", str(report))
    return report

  return check
