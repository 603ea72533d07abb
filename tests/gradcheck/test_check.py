"""Right gradients pass, wherever the point is; wrong ones do not, and are named."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.gradcheck import GradientReport, LeafReport, Verdict, check_gradient, residuals
from tests.gradcheck.test_residuals import ignores_its_cotangent, loss, network


def changed(change):
  def gradient(*args):
    return change(jax.grad(loss)(*args))

  return gradient


def failing(report):
  return {leaf.name: leaf.detail for leaf in report.leaves if not leaf.verdict.is_pass}


@pytest.mark.parametrize(
  ("dtype", "x64"),
  [
    ("float16", False),
    ("bfloat16", True),
    ("float32", False),
    ("float32", True),
    ("float64", True),
  ],
)
def test_a_right_gradient_passes_on_two_evaluations_for_each_probe(dtype, x64):
  with jax.enable_x64(x64 or dtype == "float64"):
    report = check_gradient(loss, *network(dtype))
  assert report.ok
  assert report.verdict is Verdict.HAPPY
  assert report.evaluations == 4
  assert [leaf.dtype for leaf in report.leaves] == [dtype] * 4
  assert all(leaf.relative_error <= leaf.power == 3e-8 for leaf in report.leaves)


def test_seeds_change_the_directions_and_no_verdict():
  args = network()
  errors = set()
  for seed in range(2):
    report = check_gradient(loss, *args, key=jax.random.key(seed))
    assert report.ok
    assert report.seed == (0, seed)
    errors.add(report.leaves[0].relative_error)
  assert len(errors) == 2


ON_KINKS = {
  "relu": (lambda x: jnp.sum(jax.nn.relu(x) ** 2 + jax.nn.relu(x)), jnp.array([0.0, 1.0, -1.0])),
  "abs": (lambda x: jnp.sum(jnp.abs(x)), jnp.array([0.0, 1.0, -1.0])),
  "max": (jnp.max, jnp.array([1.0, 1.0, 0.5])),
  "sort": (lambda x: jnp.sort(x) @ jnp.arange(4.0), jnp.array([2.0, 1.0, 1.0, 3.0])),
  "clip": (lambda x: jnp.sum(jnp.clip(x, 0, 1)), jnp.array([0.0, 1.0, 0.5])),
}


@pytest.mark.parametrize("name", ON_KINKS)
def test_a_convention_at_a_kink_is_no_failure_and_is_told(name):
  report = check_gradient(*ON_KINKS[name])
  assert report.ok
  assert "test_check.py" in report.ties[0] or "max" in report.ties[0]
  assert "The point is on a kink" in str(report)


def test_dead_units_and_gradients_that_are_0_pass():
  params, x, labels = network()
  params["hidden"]["b"] = params["hidden"]["b"] - 100
  assert check_gradient(loss, params, x, labels).ok
  shifted = check_gradient(lambda b: jnp.sum(jax.nn.softmax(jnp.arange(3.0) + b)), jnp.float32(0.7))
  assert shifted.ok


LEAVES = ["['hidden']['b']", "['hidden']['w']", "['out']['b']", "['out']['w']"]
BUGS = {
  "one leaf 1 % off": (1.01, "is the right one times 1.01"),
  "one leaf 1e-6 off": (1 + 1e-6, "is the right one times 1.000001"),
  "sign": (-1.0, "has the wrong sign"),
  "zero": (0.0, "is 0 everywhere"),
  "mean division missing": (12.0, "is the right one times 12, an axis's length"),
}


@pytest.mark.parametrize(("number", "name"), list(zip((0, 1, 2, 3, 0), BUGS)))
def test_a_factor_is_found_in_its_leaf_and_named(name, number):
  factor, words = BUGS[name]

  def change(gradient):
    leaves, tree = jax.tree.flatten(gradient)
    leaves[number] *= factor
    return tree.unflatten(leaves)

  report = check_gradient(loss, *network(jnp.float64), gradient=changed(change))
  assert list(failing(report)) == [LEAVES[number]]
  assert failing(report)[LEAVES[number]].startswith(words)
  assert report.leaves[number].relative_error >= 0.5 * abs(factor - 1) / max(factor, 1)


def test_an_error_of_1e_12_passes():
  change = functools.partial(jax.tree.map, lambda leaf: leaf * (1 + 1e-12))
  assert check_gradient(loss, *network(jnp.float64), gradient=changed(change)).ok


@pytest.mark.parametrize("seed", range(2))
def test_one_wrong_coordinate_is_named(seed):
  def change(gradient):
    gradient["hidden"]["w"] = gradient["hidden"]["w"].at[4, 7].multiply(-1)
    return gradient

  key = jax.random.key(seed)
  report = check_gradient(loss, *network(), gradient=changed(change), key=key)
  (detail,) = failing(report).values()
  assert "wrong at 1 of 144 coordinates: `['hidden']['w'][4, 7]`" in detail


def test_two_equal_errors_do_not_cancel():
  """With directions of signs alone they would in half of all draws."""
  error = jnp.array([0.1, 0.1, 0.0])
  fun = lambda x: jnp.sum(x**2)  # noqa: E731
  run = jax.jit(
    lambda key: residuals(fun, jnp.ones(3), key=key, gradient=lambda x: 2 * x + error, probes=50)
  )
  found = run(jax.random.key(0))
  assert np.abs(found.claim - found.estimate).min() > 1e-4


def rule(derivative):
  @jax.custom_vjp
  def function(x):
    return jnp.tanh(x)

  function.defvjp(lambda x: (jnp.tanh(x), x), lambda x, ct: (derivative(x, ct),))
  return function


def slope(x):
  return 1 - jnp.tanh(x) ** 2


RULES = {
  "sign": (lambda x, ct: -ct * slope(x), "has the wrong sign"),
  "only below 0": (lambda x, ct: ct * slope(x) * jnp.where(x < 0, 1.1, 1), "is wrong at 1 of 3"),
  "past an index": (lambda x, ct: ct * slope(x) * jnp.array([1, 1, 0.0]), "`(root)[2]` 0 for"),
  "backwards": (lambda x, ct: (ct * slope(x))[::-1], "backwards along axis 0"),
}


@pytest.mark.parametrize("name", RULES)
def test_a_wrong_rule_is_described_by_what_it_does(name):
  derivative, words = RULES[name]
  x = jnp.array([-0.4, 0.3, 1.1])
  report = check_gradient(rule(derivative), x)
  (detail,) = failing(report).values()
  assert words in detail
  (sentence,) = report.blame
  assert "the rule of `function` (test_check.py:" in sentence
  assert check_gradient(rule(lambda x, ct: ct * slope(x)), x).ok


def test_a_rule_that_ignores_its_cotangent_fails():
  report = check_gradient(ignores_its_cotangent, jnp.arange(1.0, 4.0))
  assert not report.ok
  assert "the rule of `ignores_its_cotangent` (test_residuals.py:" in report.blame[0]


def test_a_stray_stop_gradient_is_wrong_when_seen_through():
  fun = lambda x: jnp.sum(x * jax.lax.stop_gradient(x))  # noqa: E731
  assert check_gradient(fun, jnp.ones(3)).ok
  report = check_gradient(fun, jnp.ones(3), through_stop_gradient=True)
  assert report.verdict is Verdict.WRONG


def test_a_gradient_given_as_arrays_is_held_to_its_own_precision():
  args = network()
  gradient = jax.grad(loss)(*args)
  assert check_gradient(loss, *args, gradient=gradient).ok
  gradient["out"]["w"] = 1.001 * gradient["out"]["w"]
  assert list(failing(check_gradient(loss, *args, gradient=gradient))) == ["['out']['w']"]


def rough(params, far):
  """Is a loss of which `far` leaves few digits, as products do on a GPU."""
  return jnp.mean(((jnp.tanh(params["w"]) + far) - far) ** 3)


@pytest.mark.parametrize("size", [(30, 20), (7,)], ids=["along directions", "swept"])
def test_a_gradient_given_as_arrays_may_be_as_rough_as_the_program_is(size):
  args = {"w": jax.random.normal(jax.random.key(0), size, jnp.float32)}, jnp.float32(3e3)
  gradient = jax.grad(rough)(*args)
  report = check_gradient(rough, *args, gradient=gradient)
  (leaf,) = report.leaves
  assert report.ok
  assert 1e-5 < leaf.precision_loss < leaf.relative_error * 4 < 1e-2
  assert leaf.power == 4 * leaf.precision_loss
  too_large = {"w": gradient["w"] * (1 + 20 * leaf.precision_loss)}
  assert list(failing(check_gradient(rough, *args, gradient=too_large))) == ["['w']"]
  one_sign = {"w": gradient["w"].at[(3,) * len(size)].multiply(-1)}
  assert list(failing(check_gradient(rough, *args, gradient=one_sign))) == ["['w']"]


def test_what_the_precision_leaves_open_is_undecided_for_arrays_and_checked_for_a_function():
  args = {"w": jax.random.normal(jax.random.key(0), (30, 20), jnp.float32)}, jnp.float32(1e5)
  report = check_gradient(rough, *args, gradient=jax.grad(rough)(*args))
  assert report.verdict is Verdict.UNDECIDED
  assert "hand in the function that makes it, which is checked in float64" in str(report)
  assert check_gradient(rough, *args, gradient=jax.grad(rough)).ok
  wrong = check_gradient(rough, *args, gradient=lambda *x: {"w": 1.01 * jax.grad(rough)(*x)["w"]})
  assert wrong.verdict is Verdict.UNCOMFORTABLE


def test_a_rough_gradient_of_what_jax_does_not_differentiate_is_still_wrong():
  def loop(w):
    return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, w))[1]

  right = jax.jacfwd(loop)(jnp.float64(0.7))
  assert check_gradient(loop, jnp.float64(0.7), gradient=right).ok
  report = check_gradient(loop, jnp.float64(0.7), gradient=1.001 * right)
  assert report.verdict is Verdict.UNCOMFORTABLE
  assert np.isnan(report.leaves[0].precision_loss)


def test_aux_is_left_aside():
  def with_aux(*args):
    return loss(*args), {"anything": 3}

  assert check_gradient(with_aux, *network(), has_aux=True).ok
  gradient = jax.grad(with_aux, has_aux=True)
  assert check_gradient(with_aux, *network(), has_aux=True, gradient=gradient).ok


def test_what_has_no_gradient_is_skipped_with_a_line():
  tree = {"count": jnp.int32(3), "key": jax.random.key(0), "none": None, "w": jnp.ones(3)}
  report = check_gradient(lambda t: jnp.sum(t["w"] ** t["count"]), tree)
  assert report.ok
  assert report.skipped == ("['count']", "['key']")
  assert "skipped: ['count'], ['key']" in str(report)


def test_a_gradient_that_is_not_finite_is_named_and_decides_nothing():
  report = check_gradient(lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x), x)), jnp.array([1.0, -2]))
  assert report.verdict is Verdict.NOT_FINITE
  assert not report.ok
  assert "not finite at 1 of 2 coordinates, first `(root)[1]`" in report.leaves[0].detail


def test_several_arguments_are_named_by_their_number():
  report = check_gradient(lambda a, b: jnp.sum(a * b**2), jnp.ones(3), jnp.ones(3), argnums=(0, 1))
  assert report.ok
  assert [leaf.name for leaf in report.leaves] == ["[0]", "[1]"]


def test_nothing_to_check_raises():
  with pytest.raises(TypeError, match="`check_gradient` found nothing to check"):
    check_gradient(lambda n: n, 3)
  with pytest.raises(ValueError, match=r"`check_gradient\(probes=0\)` is out of range"):
    check_gradient(jnp.sum, jnp.ones(3), probes=0)
  with pytest.raises(TypeError, match=r"`check_gradient\(gradient=...\)` needs .* float64\[3\]"):
    check_gradient(lambda x: x, jnp.ones(3), gradient=jnp.ones_like)


REPORT = GradientReport(
  (
    LeafReport("['b']", (3,), "float32", Verdict.HAPPY, 1e-10, 3e-8, 2.0, precision_loss=2e-7),
    LeafReport("['w']", (2, 3), "float32", Verdict.WRONG, 2.0, 3e-8, 1.5, "has the wrong sign"),
    LeafReport("['x']", (), "float64", Verdict.UNDECIDED, np.nan, np.nan, 1.0),
  ),
  skipped=("['n']",),
  blame=("the rule of `f` (model.py:3) is not its derivative in `x`: off by 2.0e+00",),
  opaque=("pure_callback (model.py:3)",),
  seed=(0, 7),
  evaluations=92,
)


def test_the_report_reads_well():
  assert (
    str(REPORT)
    == """Gradient check
==============

The relative error is above 1e-2: the gradient is probably wrong.

`['w']`: the gradient has the wrong sign.

The rule of `f` (model.py:3) is not its derivative in `x`: off by 2.0e+00.

leaf   shape         relative error  would have seen  own precision  verdict
------------------------------------------------------------------------------
['w']  float32[2,3]         2.0e+00          3.0e-08              -  wrong
['x']  float64[]                  -                -              -  undecided
['b']  float32[3]           1.0e-10          3.0e-08        2.0e-07  happy

Run as they are, in their own precision, and not seen into: pure_callback (model.py:3).

Without a gradient, and skipped: ['n'].

92 evaluations; seed [0, 7]."""
  )


def test_the_report_goes_through_json_and_back():
  read = GradientReport.from_json(REPORT.to_json())
  assert str(read) == str(REPORT)
  assert str(dataclasses.asdict(read)) == str(dataclasses.asdict(REPORT))  # NaN is not NaN
  assert repr(read) == f"<GradientReport: {REPORT.verdict.name}, {len(REPORT.leaves)} leaves>"
  assert read.to_json() == REPORT.to_json()


def test_the_report_raises_unless_all_passed():
  with pytest.raises(AssertionError, match=r"the gradient has the wrong sign\."):
    REPORT.raise_if_wrong()
  GradientReport(REPORT.leaves[:1]).raise_if_wrong()
  assert not GradientReport(()).ok


def test_json_of_something_else_is_refused():
  with pytest.raises(ValueError, match=r"an object with `format` 'kinkopt\.gradient_report'"):
    GradientReport.from_json("{}")
  with pytest.raises(ValueError, match="up to version 1, but this report is of version 9"):
    GradientReport.from_json(REPORT.to_json().replace('"version": 1', '"version": 9'))
