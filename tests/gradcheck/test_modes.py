"""What else a check is asked: modes, orders, cuts, intended rules, edges, callbacks, NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.gradcheck import GradientReport, StopCheck, Verdict, check_gradient
from kinkopt.gradcheck._stages import Stages
from tests.gradcheck.test_residuals import loss, network

X = jnp.array([-0.4, 0.3, 1.1])


def detail_of(report):
  (leaf,) = report.leaves
  return leaf.detail


@jax.custom_jvp
def negated(x):
  return jnp.sin(x)


negated.defjvp(lambda p, t: (negated(*p), -jnp.cos(p[0]) * t[0]))


def test_forward_mode_judges_the_jvp_of_many_outputs():
  report = check_gradient(lambda x: negated(jnp.outer(jnp.arange(334.0), x)), X, mode="fwd")
  assert detail_of(report) == "has the wrong sign"
  assert report.leaves[0].label == "(root) (forward mode)"
  assert "`negated`" in report.blame[0]


def test_both_modes_are_reported_leaf_by_leaf():
  report = check_gradient(lambda x: jnp.sum(jnp.sin(x) ** 2), X, mode="both")
  assert report.ok
  assert [leaf.mode for leaf in report.leaves] == ["rev", "fwd"]


def rule(saved):
  @jax.custom_vjp
  def function(x):
    return jnp.sin(x)

  function.defvjp(lambda x: (function(x), saved(x)), lambda slope, ct: (ct * slope,))
  return function


def test_a_rule_may_be_right_and_its_derivative_wrong():
  constant = rule(lambda x: jax.lax.stop_gradient(jnp.cos(x)))
  assert check_gradient(constant, X).ok
  report = check_gradient(constant, X, order=2)
  assert detail_of(report) == "is 0 everywhere"
  assert report.leaves[0].label == "(root) (second order)"
  assert report.blame[0].startswith("the derivative of the rule of `function` (test_modes.py:")
  assert check_gradient(rule(jnp.cos), X, order=2).ok


def test_second_order_without_64_bits_where_the_program_indexes():
  with jax.enable_x64(False):
    assert check_gradient(loss, *network(), order=2).ok


def test_an_inner_rule_is_blamed_at_second_order():
  @jax.custom_jvp
  def cosine(x):
    return jnp.cos(x)

  cosine.defjvp(lambda p, t: (cosine(*p), -1.1 * jnp.sin(p[0]) * t[0]))
  outer = rule(cosine)
  report = check_gradient(lambda x: jnp.sum(outer(x) ** 2), X, order=2)
  assert not report.ok
  assert len(report.blame) == 1
  assert report.blame[0].startswith("the rule of `cosine`")


def test_a_leaf_beside_one_that_is_not_finite_is_judged_by_itself():
  tree = {"a": X, "b": X}
  report = check_gradient(
    lambda t: jnp.sum(jnp.where(t["a"] > 0, jnp.sqrt(t["a"]), 0) + t["b"] ** 2), tree
  )
  assert [leaf.verdict for leaf in report.leaves] == [Verdict.NOT_FINITE, Verdict.HAPPY]


def test_second_order_of_a_network_and_of_a_loop_without_a_backward_pass():
  assert check_gradient(loss, *network(), order=2).ok

  def slopes(x):
    return jnp.cos(jnp.sin(x)) * jnp.cos(x)

  @jax.custom_vjp
  def loop(x):
    return jax.lax.fori_loop(0, jnp.int32(2), lambda _, x: jnp.sin(x), x)

  loop.defvjp(lambda x: (loop(x), x), lambda x, ct: (ct * slopes(x),))
  assert check_gradient(lambda x: jnp.sum(loop(x) ** 2), X, order=2).ok


@jax.custom_vjp
def straight_through(x):
  return jnp.round(x)


straight_through.defvjp(lambda x: (straight_through(x), None), lambda _, ct: (ct,))


@jax.custom_vjp
def clipped(x):
  return x * 1.0


clipped.defvjp(lambda x: (clipped(x), None), lambda _, ct: (jnp.clip(ct, -1, 1),))


@pytest.mark.parametrize("name", [straight_through, "straight_through"])
def test_an_intended_rule_is_checked_through(name):
  def fun(x):
    return jnp.sum(jnp.sin(straight_through(3 * x)))

  assert check_gradient(fun, X).verdict is Verdict.WRONG
  assert check_gradient(fun, X, intended=[name]).ok
  before = check_gradient(lambda x: fun(rule(lambda x: 1.5 * jnp.cos(x))(x)), X, intended=[name])
  assert detail_of(before) == "is the right one times 1.5"
  assert len(before.blame) == 1
  assert "`function`" in before.blame[0]


def test_an_intended_rule_must_be_there_and_be_linear():
  with pytest.raises(ValueError, match=r"names `typo`, but .* It meets: `straight_through`"):
    check_gradient(straight_through, X, intended=["typo"])
  with pytest.raises(ValueError, match=r"names `clipped` \(test_modes.py:\d+\), whose rule is"):
    check_gradient(clipped, X, intended=[clipped])


def test_what_is_cut_is_listed_with_its_line_but_not_what_jax_cuts():
  def fun(x):
    return jnp.sum(x * jax.lax.stop_gradient(x)) + jax.nn.logsumexp(x)

  report = check_gradient(fun, X)
  line = fun.__code__.co_firstlineno + 1
  assert report.ok
  assert report.cuts == (f"stop_gradient (test_modes.py:{line})",)
  assert "took that as meant" in str(report)
  through = check_gradient(fun, X, through_stop_gradient=True)
  assert not through.ok
  assert "The check saw through it." in str(through)


def sine_elsewhere(x):
  shape = jax.ShapeDtypeStruct(x.shape, jnp.float32)
  return jax.pure_callback(lambda x: np.sin(np.asarray(x, np.float32)), shape, x)


def callback(factor):
  @jax.custom_vjp
  def function(x):
    return sine_elsewhere(x)

  function.defvjp(lambda x: (function(x), x), lambda x, ct: (factor * ct * jnp.cos(x),))
  return function


@pytest.mark.parametrize(
  ("factor", "verdicts"),
  [
    (1.0, {Verdict.HAPPY, Verdict.OKAY}),
    (1.002, {Verdict.UNDECIDED}),
    (1.2, {Verdict.WRONG}),
  ],
)
def test_a_callback_is_held_to_its_own_precision(factor, verdicts):
  report = check_gradient(callback(factor), X.astype(jnp.float32))
  assert report.verdict in verdicts
  assert report.opaque[0].startswith("pure_callback (test_modes.py:")
  if factor == 1.2:
    assert detail_of(report) == "is the right one times 1.2"


NOT_FINITE = {
  "where": (
    lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x), x)),
    X,
    "is not finite at 1 of 3 coordinates, first `(root)[0]`: `sqrt` (test_modes.py:{line}) is not "
    "finite in a branch that `where` did not take",
  ),
  "slope": (
    lambda x: jnp.sqrt(jnp.sum(x**2)),
    jnp.zeros(3),
    "is not finite at 3 of 3 coordinates, first `(root)[0]`: its slope is infinite on the way "
    "back, at `div` (test_modes.py:{line})",
  ),
  "value": (
    lambda x: jnp.sum(jnp.log(x)),
    X,
    "decides nothing, since the value itself is not finite: `log` (test_modes.py:{line})",
  ),
  "in a loop": (
    lambda x: jax.lax.scan(lambda c, x: (c + jnp.where(x > 0, jnp.sqrt(x), 0), None), 0.0, x)[0],
    X,
    "coordinates, first `(root)[0]`: `sqrt` (test_modes.py:{line}) is not finite in a branch",
  ),
}


@pytest.mark.parametrize("name", NOT_FINITE)
def test_what_is_not_finite_is_traced_to_its_line(name):
  fun, x, words = NOT_FINITE[name]
  report = check_gradient(fun, x)
  assert report.verdict is Verdict.NOT_FINITE
  assert words.format(line=fun.__code__.co_firstlineno) in detail_of(report)


def test_a_handed_gradient_is_traced_itself():
  report = check_gradient(lambda x: jnp.sum(x**2), X, gradient=lambda x: 2 * x + 0 * jnp.log(x))
  assert "`log` (test_modes.py:" in detail_of(report)
  forward = check_gradient(lambda x: jnp.sqrt(jnp.sum(x**2)), 0 * X, mode="fwd")
  assert detail_of(forward).startswith("is not finite: its slope is infinite")


EDGES = {
  "x^1.5": (lambda x: jnp.sum(x * jnp.sqrt(x)), lambda x: 1.5 * jnp.sqrt(x)),
  "tie": (lambda x: jnp.sum(jnp.maximum(x, 0) + x**1.5), lambda x: (x > 0) + 1.5 * jnp.sqrt(x)),
}


@pytest.mark.parametrize("name", EDGES)
def test_at_the_edge_of_a_domain_one_side_decides(name):
  fun, gradient = EDGES[name]
  x = jnp.array([0.5, 0.0, 1.0, 0.0])
  assert check_gradient(fun, x, gradient=gradient).ok
  report = check_gradient(fun, x, gradient=lambda x: gradient(x) + jnp.array([0, 0.5, 0, 0]))
  assert "wrong at 1 of 4 coordinates: `(root)[1]`" in detail_of(report)


def test_near_the_edge_the_ladder_is_finer():
  x = jnp.array([1e-5, 1e-3, 0.5, 1.0])
  assert check_gradient(lambda x: jnp.sum(jnp.sqrt(x)), x, sweep=0).ok
  assert check_gradient(lambda x: jnp.sum(jnp.sin(1e5 * x)), x, sweep=0).ok


def test_a_sweep_sees_what_directions_cannot():
  scales = jnp.array([1e12, 1.0])

  def gradient(x):
    return 2 * scales * x * jnp.array([1.0, 1.5])

  def fun(x):
    return jnp.sum(scales * x**2)

  x = jnp.array([0.0, 1.0])
  x = x.at[0].set(1e-3)
  assert check_gradient(fun, x, gradient=gradient, sweep=0).ok
  report = check_gradient(fun, x, gradient=gradient)
  assert detail_of(report) == "is wrong at 1 of 2 coordinates: `(root)[1]` 3 for 2"


def sines(x):
  """Has no derivative backwards but a handed one."""
  return jax.lax.fori_loop(0, jnp.int32(2), lambda _, x: jnp.sin(x), x).sum()


def slopes(x):
  return jnp.cos(jnp.sin(x)) * jnp.cos(x)


def test_a_wrong_coordinate_is_found_by_differences_alone():
  x = jnp.linspace(0.1, 1.0, 5000)
  report = check_gradient(sines, x, gradient=lambda x: slopes(x).at[77].multiply(2))
  assert detail_of(report).startswith("is wrong at 1 of 5,000 coordinates: `(root)[77]` 1.9")
  assert report.evaluations <= 4 + 48 + 2 * 14 + 30
  factor = check_gradient(sines, x, gradient=lambda x: 0.75 * slopes(x))
  assert detail_of(factor) == "is the right one times 0.75"
  many = check_gradient(sines, x, gradient=lambda x: slopes(x) + jnp.arange(5000) % 7)
  assert "along random directions" in detail_of(many)
  short = check_gradient(sines, x, gradient=lambda x: 0.75 * slopes(x), locate=False)
  assert (detail_of(short), short.verdict) == ("", Verdict.WRONG)


def test_strings_and_functions_among_the_leaves_are_skipped():
  def fun(tree):
    return jnp.sum(tree["f"](tree["w"] * tree["n"])) * (tree["name"] == "a")

  tree = {"f": jnp.sin, "n": 3, "name": "a", "none": None, "w": X}
  report = check_gradient(fun, tree)
  assert report.ok
  assert report.skipped == ("['f']", "['n']", "['name']")
  gradient = {"f": None, "n": 0, "name": None, "none": None, "w": 3 * jnp.cos(3 * X)}
  assert check_gradient(fun, tree, gradient=gradient).ok


def test_python_numbers_stay_what_they_are():
  def fun(x, shape, scale, flag):
    return jnp.sum(jnp.ones(shape) * x[0]) * scale if flag and scale > 1 else jnp.sum(x**2)

  assert check_gradient(fun, X, 3, 2.5, True).ok
  assert check_gradient(lambda t: jnp.sum(t["x"].reshape(t["n"], -1)), {"n": 3, "x": X}).ok
  assert check_gradient(lambda x, y: x * y**2, 1.5, 2.0, argnums=(0, 1)).ok


def test_the_precision_of_the_program_is_told_apart_from_the_rule():
  report = check_gradient(loss, *network(jnp.bfloat16))
  assert report.ok
  assert all(1e-4 < leaf.precision_loss < 0.2 for leaf in report.leaves)
  (wide,) = check_gradient(lambda x: jnp.sum(jnp.sin(x)), X).leaves
  assert wide.precision_loss < 1e-15


def test_jitted_functions_are_compiled_once_and_others_are_looked_at_again(compilations):
  count = 0

  def fun(x):
    nonlocal count
    count += 1
    return jnp.sum(jnp.sin(x))

  jitted = jax.jit(fun)
  for scale in (1, 2, 3):
    assert check_gradient(jitted, scale * X).ok
  assert compilations("kinkopt_look") == 1
  assert count == 1
  factor = 1.0
  gradient = lambda x: factor * jnp.cos(x)  # noqa: E731
  assert check_gradient(fun, X, gradient=gradient).ok
  factor = 2.0
  assert not check_gradient(fun, X, gradient=gradient).ok


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fun", [lambda x: jnp.sum(jnp.exp(800 * x)), lambda x: jnp.sum(x / 0.0)])
def test_what_is_not_finite_is_told_and_numpy_warns_of_nothing(fun, dtype):
  assert check_gradient(fun, jnp.array([0.5, 1.0], dtype)).verdict is Verdict.NOT_FINITE


def test_progress_is_told_and_batches_change_nothing():
  told = []
  x = jnp.linspace(0.1, 1.0, 50)

  def fun(x):
    return jnp.sum(jnp.sin(x) * jnp.abs(x))

  one = check_gradient(fun, x, progress=lambda done, planned: told.append((done, planned)))
  assert told[-1] == (one.evaluations, one.evaluations)
  assert len(told) >= 3
  assert all(done <= planned for done, planned in told)
  many = check_gradient(fun, x, batch_size=7)
  assert many.evaluations == one.evaluations
  np.testing.assert_allclose(
    many.leaves[0].relative_error, one.leaves[0].relative_error, atol=1e-10
  )


@pytest.mark.parametrize("looks", [3, 5, 7])
def test_a_check_that_is_stopped_tells_what_it_has_seen(looks):
  x = {f"{i:02}": jnp.linspace(0.1, 1.0, 5) for i in range(40)}

  def fun(x):
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in x.values())

  def gradient(x):
    return {name: jnp.cos(leaf) * (2 if name in ("01", "39") else 1) for name, leaf in x.items()}

  told = []

  def progress(done, planned):
    told.append((done, planned))
    if len(told) == looks:
      raise StopCheck

  report = check_gradient(fun, x, gradient=gradient, progress=progress, sweep=0)
  assert len(told) == looks
  assert not report.is_complete
  assert "The check was ended before it was done" in str(report)
  found = {leaf.name: leaf.verdict for leaf in report.leaves}
  assert found["['00']"] is Verdict.HAPPY
  # The first look leaves doubts, which a ladder of steps would have to resolve.
  assert found["['01']"] is Verdict.UNDECIDED
  # Two looks move all leaves at once; then eight leaves, with two directions each, are one look.
  undecided = {3: 40 - 8 + 1, 5: 40 - 24 + 1, 7: 2}
  assert sum(v is Verdict.UNDECIDED for v in found.values()) == undecided[looks]
  assert not report.ok
  assert GradientReport.from_json(report.to_json()).to_json() == report.to_json()


def test_what_is_known_to_be_wrong_is_so_where_the_search_for_the_place_is_stopped():
  x = jnp.linspace(0.1, 1.0, 500)

  def check(**options):
    def loop(x):  # which JAX does not differentiate, so that there is nothing to compare with
      turn = lambda c: (c[0] + 1, jnp.sin(c[1]))  # noqa: E731
      return jnp.sum(jax.lax.while_loop(lambda c: c[0] < 1, turn, (0, x))[1])

    wrong = jnp.cos(x).at[jnp.array([17, 333])].multiply(2)
    return check_gradient(loop, x, gradient=wrong, **options)

  judged = check(locate=False).evaluations

  def progress(done, planned):
    if done > judged:
      raise StopCheck

  stopped, whole = check(progress=progress), check()
  assert judged < stopped.evaluations <= whole.evaluations
  assert stopped.verdict is whole.verdict is not Verdict.HAPPY
  assert not stopped.is_complete
  assert "[17]" in whole.leaves[0].detail


def test_running_out_of_memory_says_what_to_do(monkeypatch):
  def too_large(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

  monkeypatch.setattr(Stages, "_find", lambda *_: too_large)
  with pytest.raises(jax.errors.JaxRuntimeError) as caught:
    check_gradient(lambda x: jnp.sum(x**2), X)
  assert (
    "Lower `batch_size` if it is above 1, or check on fewer examples" in caught.value.__notes__[0]
  )


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"mode": "backward"}, r"`check_gradient\(mode='backward', order=1\)` is not known"),
    ({"order": 3}, "`order` 1 or 2"),
    ({"order": 2, "gradient": jnp.cos}, "no mode and no derivative of its own"),
    ({"mode": "fwd", "gradient": jnp.cos}, "Leave `gradient` out to check JAX's"),
    ({"sweep": -1}, r"`check_gradient\(sweep=-1\)` is out of range"),
    ({"batch_size": 0}, r"`check_gradient\(batch_size=0\)` is out of range"),
  ],
)
def test_messages(options, words):
  with pytest.raises(ValueError, match=words):
    check_gradient(lambda x: jnp.sum(jnp.sin(x)), X, **options)


def test_the_program_is_the_one_of_the_callers_mode():
  def fun(x):
    assert jnp.zeros(()).dtype == jnp.float32
    return jnp.sum(jnp.sin(x) * jax.random.gamma(jax.random.key(3), jnp.exp(x)))

  x = X.astype(jnp.float32)
  with jax.enable_x64(False):
    assert check_gradient(fun, x).ok
    assert check_gradient(fun, x, mode="fwd").ok
    assert check_gradient(lambda x: fun(x * 0) + x.sum(), x, gradient=jnp.ones_like).ok


def test_functions_that_need_64_bits_to_be_lowered_do_without_the_setting():
  def fun(x):
    return jnp.sum(jax.scipy.special.i0e(x) + jax.scipy.special.betainc(2.0, 3.0, x**2 / 4))

  with jax.enable_x64(False):
    assert check_gradient(fun, X.astype(jnp.float32)).ok


def solved(tolerance, factor=1.0):
  @jax.custom_vjp
  def root(w):
    start = jnp.zeros_like(w), jnp.ones_like(w)
    step = lambda s: (jnp.tanh(s[0] * w + 0.3), s[0])  # noqa: E731
    return jax.lax.while_loop(lambda s: jnp.abs(s[0] - s[1]).max() > tolerance, step, start)[0]

  def backward(saved, ct):
    w, z = saved
    slope = 1 - z**2
    return (factor * ct * slope * z / (1 - slope * w),)

  root.defvjp(lambda w: ((z := root(w)), (w, z)), backward)
  return root


def test_a_loop_that_ends_at_a_tolerance_is_evaluated_no_better():
  w = X.astype(jnp.float32) / 4
  report = check_gradient(lambda w: jnp.sum(solved(1e-6)(w)), w)
  assert report.ok
  assert report.approximations[0].startswith("while (test_modes.py:")
  assert report.leaves[0].power >= 1e-4
  wrong = check_gradient(lambda w: jnp.sum(solved(1e-6, 1.01)(w)), w)
  assert not wrong.ok
  assert len(wrong.blame) == 1


def test_a_library_may_evaluate_less_exactly_than_it_differentiates():
  x = jnp.array([-2.0, -1.0, 0.3, 1.2], jnp.float32)
  with jax.enable_x64(False):
    report = check_gradient(lambda x: jnp.sum(jax.scipy.stats.norm.logcdf(4 * x)), x)
  assert report.ok
  assert report.approximations == ("functions of a library, whose derivative rules were trusted",)
