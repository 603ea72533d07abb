"""Assertions for test-suites: the message alone must lead to the bug."""

import functools
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import pytest

from kinkopt.gradcheck import Verdict
from kinkopt.testing import assert_gradient, assert_rule

X = jnp.array([-0.4, 0.3, 1.1])


def test_a_right_gradient_gives_its_report():
  report = assert_gradient(lambda x, n: jnp.sum(jnp.abs(x) ** n), X, 3, key=jax.random.key(5))
  assert report.verdict is Verdict.HAPPY
  assert report.seed == (0, 5)


def test_the_message_names_leaf_coordinate_rule_and_line():
  @jax.custom_vjp
  def layer(w, x):
    return jnp.tanh(w @ x)

  def backward(saved, ct):
    w, x, y = saved
    slope = ct * (1 - y**2)
    return jnp.outer(slope, x).at[1, 2].multiply(3), w.T @ slope

  layer.defvjp(lambda w, x: ((y := layer(w, x)), (w, x, y)), backward)
  params = {"w": jnp.array([[0.1, 0.2, 0.3], [-0.3, 0.2, 0.5]])}
  with pytest.raises(AssertionError) as caught:
    assert_gradient(lambda p, x: jnp.sum(layer(p["w"], x) ** 2), params, X)
  message = str(caught.value)
  line = layer.fun.__code__.co_firstlineno
  assert "`['w']`: the gradient is wrong at 1 of 6 coordinates: `['w'][1, 2]`" in message
  assert f"The rule of `layer` (test_testing.py:{line}) is not its derivative in `w`" in message


@pytest.mark.parametrize("check", [assert_gradient, assert_rule])
def test_the_message_and_the_exception_are_chosen_as_in_chex(check):
  wrong = jax.custom_jvp(jnp.sin)
  wrong.defjvp(lambda p, t: (jnp.sin(*p), 1.5 * jnp.cos(p[0]) * t[0]))
  with pytest.raises(AssertionError, match=r"^Layer 3\n\nGradient check\n"):
    check(wrong, X, custom_message="Layer 3")
  with pytest.raises(ValueError, match=r"^Layer 3$"):
    check(
      wrong, X, custom_message="Layer 3", include_default_message=False, exception_type=ValueError
    )
  chosen = {"custom_message": "Layer 3", "exception_type": ValueError}
  with pytest.raises(ValueError, match=r"^\[Chex\].*Layer 3"):
    chex.assert_equal(1, 2, **chosen)


@jax.custom_jvp
def sine(x):
  return jnp.sin(x)


sine.defjvp(lambda p, t: (sine(*p), jnp.cos(p[0]) * t[0]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def power(x, n):
  return x**n


power.defvjp(lambda x, n: (power(x, n), x), lambda n, x, ct: (ct * n * x ** (n - 1),))


@jax.custom_vjp
def once(x):
  return jnp.sin(x)


once.defvjp(lambda x: (once(x), jax.lax.stop_gradient(jnp.cos(x))), lambda r, ct: (ct * r,))


def test_a_rule_is_checked_in_its_modes_and_twice():
  assert [leaf.mode for leaf in assert_rule(sine, X).leaves] == ["rev", "fwd"]
  (leaf,) = assert_rule(power, X, 3).leaves
  assert (leaf.mode, leaf.order) == ("rev", 2)
  with pytest.raises(AssertionError, match="The derivative of the rule of `once`"):
    assert_rule(once, X)
  assert assert_rule(once, X, order=1).ok


def test_what_has_no_rule_is_refused():
  with pytest.raises(TypeError, match=r"was given `sin` of type .*call `assert_gradient`"):
    assert_rule(jnp.sin, X)


def test_the_fixture_is_there_and_shows_its_report(tmp_path):
  (tmp_path / "test_it.py").write_text(
    "import jax.numpy as jnp\n"
    "def test_it(assert_gradient):\n"
    "  report = assert_gradient(lambda x: jnp.sum(jnp.abs(x)), jnp.arange(3.0))\n"
    "  assert report.evaluations == 0\n"
  )
  command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
  run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
  assert run.returncode == 1
  assert "gradient check" in run.stdout
  assert "The point is on a kink: abs (test_it.py:3)" in run.stdout


SUITE = """
import jax, jax.numpy as jnp, pytest

X = jnp.arange(1.0, 4.0)

@pytest.mark.gradcheck(gradient=lambda x: 2 * jnp.cos(x))
def test_wrong(assert_gradient):
  assert_gradient(lambda x: jnp.sum(jnp.sin(x)), X)

@pytest.mark.gradcheck(probes=3, sweep=0)
def test_right(assert_gradient):
  assert assert_gradient(lambda x: jnp.sum(jnp.sin(x)), X).evaluations == 6
  assert assert_gradient(lambda x: jnp.sum(x), X, probes=1).evaluations == 2

@pytest.mark.gradcheck(3)
def test_misused(assert_gradient):
  pass

def test_other():
  pass
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_summary_counts_the_checks_and_names_what_is_wrong(tmp_path, workers):
  (tmp_path / "test_it.py").write_text(SUITE)
  command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers"]
  run = subprocess.run(
    [*command, "-n", workers, "test_it.py"],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
  )
  assert "1 failed, 2 passed, 1 error" in run.stdout
  summary = run.stdout.partition("gradient checks")[2]
  assert (
    "2 of 3 gradients are right; an error above 3e-08 of a leaf would have been seen." in summary
  )
  assert "test_it.py::test_wrong: wrong at (root)" in summary
  assert "takes options of `check_gradient` by name, but was given 3" in run.stdout


def test_a_suite_without_checks_has_no_summary_and_the_marker_selects(tmp_path):
  (tmp_path / "test_it.py").write_text(SUITE)
  command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
  command += ["-m", "not gradcheck", "test_it.py"]
  run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
  assert "1 passed, 3 deselected" in run.stdout
  assert "gradient checks" not in run.stdout


def test_the_plugin_loads_no_jax():
  code = "import sys, kinkopt._pytest; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
