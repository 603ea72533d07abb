"""The parts of a check that need no JAX program: search, noise, judgement, arguments."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.gradcheck import Verdict
from kinkopt.gradcheck._arguments import hide, is_array, is_inexact, show, without_hidden
from kinkopt.gradcheck._differences import noise_of
from kinkopt.gradcheck._inspection import locate
from kinkopt.gradcheck._judge import Evidence, judge, judge_swept


def search(error):
  """Gives what is found, and how many sums it took."""
  count = 0

  def gaps(ranges):
    nonlocal count
    count += len(ranges)
    return np.array([error[low:high].sum() for low, high in ranges])

  return locate(gaps, len(error), error.sum(), 1e-9), count


@pytest.mark.parametrize("size", [1, 2, 3, 100, 78_400])
def test_one_wrong_coordinate_is_found_by_halving(size):
  for place in {0, size // 2, size // 3, size - 1}:
    error = np.zeros(size)
    error[place] = -0.3
    found, count = search(error)
    assert found == [place]
    assert count <= np.ceil(np.log2(size))


def test_a_few_are_found_and_many_are_too_many():
  error = np.zeros(1000)
  error[[3, 4, 500, 999]] = [1, -2, 3, 0.5]
  assert search(error)[0] == [3, 4, 500, 999]
  assert search(np.random.default_rng(0).normal(size=1000))[0] is None
  assert search(np.zeros(10))[0] == []


@pytest.mark.parametrize("deviation", [1e-12, 1e-6, 1e-2])
def test_the_noise_is_measured_and_not_the_function(deviation):
  x = np.linspace(-1e-3, 1e-3, 7)
  random = np.random.default_rng(1)
  values = np.exp(x) + deviation * random.normal(size=(200, 7))
  measured = noise_of(values)
  known = measured[np.isfinite(measured)]
  assert len(known) >= 150
  assert deviation / 3 <= np.median(known) <= 3 * deviation


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_noise_is_that_of_the_first_differences_past_the_function(degree):
  x = np.arange(7.0)
  values = 1e3 * x**degree + np.random.default_rng(3).normal(size=7)
  order = degree + 1  # Moré and Wild's scaling: of the variance of a k-th difference
  share = math.factorial(order) ** 2 / math.factorial(2 * order)
  level = np.sqrt(share * np.mean(np.diff(values, order) ** 2))
  np.testing.assert_allclose(noise_of(values[None]), [level], rtol=1e-12)


def test_where_there_is_no_noise_to_see_nothing_is_claimed():
  x = np.linspace(-1, 1, 7)
  assert not noise_of(np.exp(x)[None])[0] > 1e-2


def evidence(claim, estimate, error=1e-12, norm=1.0, nothing=1e-9):
  claim, estimate = np.atleast_1d(claim) * 1.0, np.atleast_1d(estimate) * 1.0
  return Evidence(claim, estimate, np.full(claim.shape, error), norm, nothing)


JUDGED = {
  "agreement": (evidence([1, -2], [1, -2]), Verdict.HAPPY),
  "agreement needs no bound": (evidence([1.0], [1.0], np.nan), Verdict.HAPPY),
  "a factor of two": (evidence([1, -2], [2, -4]), Verdict.WRONG),
  "one in a thousand": (evidence([1.0], [1.001]), Verdict.UNCOMFORTABLE),
  "one in a million": (evidence([1.0], [1.000001]), Verdict.TOO_HIGH),
  "within the bound": (evidence([1.0], [1.000001], 1e-5), Verdict.HAPPY),
  "within a bound that is too wide": (evidence([1.0], [1.1], 0.2), Verdict.UNDECIDED),
  "no bound": (evidence([1.0], [1.1], np.nan), Verdict.UNDECIDED),
  "nothing on both sides": (evidence([0.0], [1e-11], 1e-10, 0.0), Verdict.HAPPY),
  "a claim of nothing": (evidence([0.0], [1.0], norm=0.0), Verdict.WRONG),
  "NaN": (evidence([np.nan], [1.0]), Verdict.NOT_FINITE),
  "infinite norm": (evidence([1.0], [1.0], norm=np.inf), Verdict.NOT_FINITE),
  "forward mode has no norm": (evidence([1.0], [1.0], norm=np.nan), Verdict.HAPPY),
}


@pytest.mark.parametrize("name", JUDGED)
def test_a_verdict_is_given_on_what_was_seen(name):
  seen, right = JUDGED[name]
  assert judge(seen, 3e-8, 1.0, is_opaque=False).verdict is right


def test_a_value_that_is_not_finite_decides_nothing():
  assert judge(evidence([1.0], [1.0]), 3e-8, np.nan, False).verdict is Verdict.NOT_FINITE


def test_what_is_opaque_is_wrong_only_if_it_is_far_off():
  far, near = evidence([1.0], [1.2]), evidence([1.0], [1.005])
  assert judge(far, 3e-8, 1.0, is_opaque=True).verdict is Verdict.WRONG
  assert judge(near, 3e-8, 1.0, is_opaque=True).verdict is Verdict.UNDECIDED
  close = evidence([1.0], [1.00001], 1e-4)
  assert judge(close, 3e-8, 1.0, is_opaque=True).verdict is Verdict.OKAY


def test_a_power_is_what_would_have_been_seen():
  found = judge(evidence([1.0, 1.0], [1.0, 1.0 + 4e-8], 1e-6, norm=2.0), 1e-8, 1.0, False)
  assert found.power == pytest.approx(5e-7)
  assert found.relative_error == pytest.approx(2e-8)


def test_one_wrong_coordinate_that_directions_cannot_see_is_seen_in_a_sweep():
  whole = evidence([1e9], [1e9], norm=1e9)
  found = judge(whole, 3e-8, 1.0, is_opaque=False)
  swept = evidence([1e9, 2.0], [1e9, 1.0], 1e-3)
  assert judge_swept(found, swept, 3e-8).verdict is Verdict.WRONG
  right = judge_swept(found, evidence([1e9, 1.0], [1e9, 1.0], 1e-3), 3e-8)
  assert right.verdict is Verdict.HAPPY
  assert judge_swept(found, None, 3e-8) == found


def test_what_is_no_array_is_hidden_and_shown_again():
  tree = {"f": jnp.sin, "list": [1, "a", None], "array": np.ones(2), "names": np.array(["a", "b"])}
  hidden = hide(tree)
  assert len(jax.tree.leaves(hidden)) == 1
  assert show(hidden)["f"] is jnp.sin
  assert show(hidden)["list"] == [1, "a", None]
  assert without_hidden(tree, hidden)["list"] == [None, None, None]
  assert without_hidden([1, 2], hidden) == [1, 2]
  assert show(hide({"rate": 1.5}, moves=False)) == {"rate": 1.5}
  assert jax.tree.leaves(hide(1.5, moves=False)) == []
  assert jax.tree.leaves(hide(1.5)) == [1.5]
  assert jax.tree.structure(hidden) == jax.tree.structure(hide(tree))
  assert jax.tree.structure(hidden) != jax.tree.structure(hide(tree | {"f": jnp.cos}))


def test_kinds_of_leaves():
  assert is_array(True)
  assert is_array(jax.random.key(0))
  assert not is_array("a")
  assert not is_array(object())
  assert is_inexact(1.0)
  assert is_inexact(jax.ShapeDtypeStruct((2,), jnp.bfloat16))
  assert not is_inexact(3)
  assert not is_inexact(jax.random.key(0))


def test_what_is_hidden_is_compared_by_identity_where_it_cannot_be_hashed():
  names = np.array(["a", "b"])
  one, same, other = (jax.tree.structure(hide([x])) for x in (names, names, names.copy()))
  assert one == same
  assert hash(one) == hash(same)
  assert one != other
  assert hide(1, moves=False) != 1
  # True is 1, but a program that was traced for the one is not that of the other.
  assert jax.tree.structure(hide([1])) != jax.tree.structure(hide([True]))
