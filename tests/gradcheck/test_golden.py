"""What a person reads stays as it is, in every format, until somebody means to change it."""

import jax
import pytest

from tests.gradcheck.golden import CHECKS, FOLDER, printed


@pytest.mark.parametrize("name", CHECKS)
def test_a_report_reads_as_it_did(name, request):
  with jax.enable_x64(False):
    found = printed(CHECKS[name]())
  for kind, text in found.items():
    golden = FOLDER / f"{name}.{kind}"
    if request.config.getoption("--update-goldens"):
      golden.write_text(text)
    assert text == golden.read_text(), golden.name
