import re

import numpy as np
import pytest

from kinkopt.cli import _regression
from kinkopt.cli._console import Console
from kinkopt.cli._data import load
from kinkopt.cli._training import Run
from kinkopt.render import Table, to_text


def test_newton_reaches_the_minimum_and_converges_quadratically(few_digits):
  run, console = Run("newton"), Console("", quiet=True)
  norms = _regression.solve(run, load(few_digits, seed=0), console)
  assert norms[-1] <= _regression.TOLERANCE
  assert run.status == "done"
  assert run.steps == list(range(len(norms)))
  assert len(run.ratios) == len(norms) - 1
  # Quadratic: each norm is at most a constant times the square of the one before.
  norms = np.array(norms[-3:])
  assert (norms[1:] < 1e4 * norms[:-1] ** 2).all()
  table = next(block for block in console.document.blocks if isinstance(block, Table))
  assert len(table.rows) == len(run.steps)
  assert "Newton says: " in to_text(console.document)


def test_a_loss_that_is_out_of_reach_ends_after_the_most_steps(few_digits, monkeypatch):
  monkeypatch.setattr(_regression, "TOLERANCE", -1.0)
  monkeypatch.setattr(_regression, "MOST_STEPS", 3)
  run, console = Run("newton"), Console("", quiet=True)
  assert len(_regression.solve(run, load(few_digits, seed=0), console)) == 4
  assert run.status == "unsolved"
  assert re.search(r"Not solved: \|g\| is .* after 3 steps\.", to_text(console.document))


@pytest.mark.parametrize("quiet", [False, True])
def test_a_model_too_large_for_a_dense_hessian_is_skipped_with_its_size(write_data, quiet, capsys):
  images = np.eye(2600)[:8]
  data = load(write_data(images=images, labels=np.arange(8) % 2), seed=0)
  run, console = Run("newton"), Console("", quiet=quiet)
  assert _regression.solve(run, data, console) == []
  assert run.status == "skipped"
  told = to_text(console.document, width=1000)
  assert "the dense Hessian of 5,202 parameters takes 216 MB; the demo goes up to 5,000." in told
  assert bool(capsys.readouterr().out) is not quiet
