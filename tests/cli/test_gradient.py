import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.cli._console import Console
from kinkopt.cli._data import load
from kinkopt.cli._gradient import FINE_STEP, STEP, GradientCheck, check_network
from kinkopt.cli._network import init_network
from kinkopt.gradcheck import Verdict, verdict
from kinkopt.render import Table, to_text


@pytest.fixture(scope="module")
def check():
  data = load(None, seed=0)
  params = jax.tree.map(jnp.asarray, init_network(data.num_features, data.num_classes, seed=0))
  return GradientCheck(params, data.split.train_images[:4], data.split.train_labels[:4])


def _change(gradient, layer, leaf, place, change):
  entry = gradient[layer][leaf]
  return {**gradient, layer: {**gradient[layer], leaf: entry.at[place].set(change(entry[place]))}}


def test_a_right_gradient_has_no_wrong_coordinate(check):
  assert check.find_wrong(check.gradient) == []


@pytest.mark.parametrize(
  ("change", "is_wrong"),
  [
    (lambda g: 2 * g, True),
    (lambda g: -g, True),
    (lambda g: 0 * g, True),
    (lambda g: 1.02 * g, True),
    (lambda g: g + jnp.nan, True),
    # On the rung below: uncomfortable, not wrong.
    (lambda g: 1.005 * g, False),
  ],
)
def test_a_changed_coordinate_is_found_if_it_is_on_the_wrong_rung(check, change, is_wrong):
  # The hidden bias comes first in the row of coordinates, and has 32 of them; the output's has 10.
  wrong = check.find_wrong(_change(check.gradient, "output", "bias", 3, change))
  first = 32 + check.gradient["hidden"]["weights"].size
  assert wrong == ([first + 3] if is_wrong else [])


def test_rounding_on_a_tiny_coordinate_is_not_called_wrong(check):
  # Zero where zero is right, moved by less than a difference can tell.
  pixel = int(np.argmin(np.abs(np.asarray(check.gradient["hidden"]["weights"])).sum(axis=1)))
  below = check.floor(STEP) / 2
  changed = _change(check.gradient, "hidden", "weights", (pixel, 0), lambda g: g + below)
  assert check.find_wrong(changed) == []


def test_a_kink_within_the_step_is_not_called_wrong():
  params = jax.tree.map(jnp.asarray, init_network(3, 2, seed=0))
  image = np.array([[1.0, 0.5, 0.25]])
  before = float(image[0] @ params["hidden"]["weights"][:, 0])
  # Unit 0 is on, but so little that a step of 1e-5 in its bias turns it off.
  params["hidden"]["bias"] = params["hidden"]["bias"].at[0].set(0.3 * STEP - before)
  assert 0.3 * STEP > FINE_STEP
  check = GradientCheck(params, image, np.array([1]))
  look = check.look(check.gradient)
  assert verdict(look.error[0], kinks=True) is Verdict.WRONG, "the plain difference is fooled"
  assert check.find_wrong(check.gradient) == [], "and the second look is not"


def test_the_story_counts_every_coordinate_and_catches_the_planted_error(few_digits, capsys):
  data = load(few_digits, seed=0)
  console = Console("", quiet=False)
  assert check_network(data, 0, console)
  table = next(block for block in console.document.blocks if isinstance(block, Table))
  size = 16 * 32 + 32 + 32 * 10 + 10
  assert [sum(row[column] for row in table.rows) for column in (1, 2)] == [size, size]
  happy = next(row[1:3] for row in table.rows if row[3] == "happy")
  assert happy[0] > 10 * happy[1], "one-sided is not good"
  story = to_text(console.document, width=10_000)
  assert "PASSED" in story
  assert "doubled on purpose, and the check named ['output']['bias']" in story
  assert capsys.readouterr().out


def test_a_check_that_misses_the_planted_error_says_so(few_digits, monkeypatch, capsys):
  monkeypatch.setattr(GradientCheck, "find_wrong", lambda self, gradient: [])
  console = Console("", quiet=True)
  assert not check_network(load(few_digits, seed=0), 0, console)
  assert "did NOT find it: it named nothing." in to_text(console.document, width=10_000)
  assert capsys.readouterr().out == ""


def test_a_wrong_gradient_fails_the_check_by_name(few_digits, monkeypatch):
  find_wrong = GradientCheck.find_wrong
  monkeypatch.setattr(
    GradientCheck,
    "find_wrong",
    lambda self, gradient: sorted({*find_wrong(self, gradient), 33}),
  )
  console = Console("", quiet=True)
  assert not check_network(load(few_digits, seed=0), 0, console)
  story = to_text(console.document, width=10_000)
  assert (
    "FAILED: 1 coordinate is wrong by more than rounding at h = 1e-05 and at h = 1e-07" in story
  )
  assert "['hidden']['weights'][0, 1]" in story
