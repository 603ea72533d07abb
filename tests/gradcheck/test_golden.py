"""What a person reads stays as it is, in every format, until somebody means to change it."""

import jax
import pytest

from tests.gradcheck.golden import CHECKS, FOLDER, printed


@pytest.mark.parametrize("name", CHECKS)
def test_a_report_reads_as_it_did(name):
  with jax.enable_x64(False):
    found = printed(CHECKS[name]())
  for kind, text in found.items():
    assert text == (FOLDER / f"{name}.{kind}").read_text(), f"{name}.{kind}"
