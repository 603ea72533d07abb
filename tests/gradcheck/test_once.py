"""The function is traced once, and what was compiled of it is kept by its text."""

import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.gradcheck import check_gradient
from kinkopt.trace._fingerprint import fingerprints
from kinkopt.trace._program import write_program

X = jnp.array([-0.4, 0.3, 1.1])
STAGES = ("claim", "look", "survey", "other", "blame", "origins", "push", "value", "both")


@pytest.fixture
def compiled(compilations):
  """Forgets what was kept; gives how often each stage was compiled since."""
  jax.clear_caches()
  return lambda: {s: n for s in STAGES if (n := compilations(f"kinkopt_{s}"))}


def network(params, x):
  x = jnp.tanh(x @ params["a"])
  return jnp.mean(jax.nn.relu(x @ params["b"]) ** 2)


PARAMS = {"a": jnp.eye(3) + 0.1, "b": jnp.eye(3) - 0.2}


@pytest.mark.parametrize("options", [{}, {"mode": "fwd"}, {"mode": "both"}, {"sweep": 0}])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_check_calls_the_function_once(options, batch):
  chex.clear_trace_counter()
  counted = chex.assert_max_traces(network, n=1)
  assert check_gradient(counted, PARAMS, X[None], batch_size=batch, **options).ok


def test_a_gradient_that_is_handed_in_and_second_order_call_it_twice_at_most():
  chex.clear_trace_counter()
  counted = chex.assert_max_traces(network, n=2)
  assert check_gradient(counted, PARAMS, X[None], gradient=jax.grad(counted)).ok
  chex.clear_trace_counter()
  assert check_gradient(chex.assert_max_traces(network, n=2), PARAMS, X[None], order=2).ok


def test_what_is_wrong_is_explained_without_calling_it_again():
  chex.clear_trace_counter()

  def loss(w):
    return jnp.sum(scaled(1.1)(w) ** 2)

  assert check_gradient(chex.assert_max_traces(loss, n=1), X).blame


def scaled(factor, by=None):
  @jax.custom_vjp
  def sine(x):
    return jnp.sin(x)

  def backward(x, ct):
    return (ct * factor * jnp.cos(x) * (1.0 if by is None else by.value),)

  sine.defvjp(lambda x: (jnp.sin(x), x), backward)
  return sine


def test_a_passing_check_compiles_two_programs_and_the_second_check_none(compiled):
  def fresh(c):
    return lambda x: jnp.sum(jax.nn.relu(jnp.sin(x)) * c)

  assert check_gradient(fresh(X), X).ok
  assert compiled() == {"claim": 1, "look": 1}
  # Written anew, at another point, with other constants.
  assert check_gradient(fresh(2 * X), 3 * X).ok
  assert check_gradient(fresh(X), X).ok
  assert compiled() == {"claim": 1, "look": 1}
  jax.clear_caches()
  assert check_gradient(fresh(X), X).ok
  assert compiled() == {"claim": 2, "look": 2}


def test_a_wrong_check_that_is_made_again_compiles_nothing(compiled):
  def loss(x):
    return jnp.sum(scaled(1.5)(x))

  first = str(check_gradient(loss, X))
  before = compiled()
  assert str(check_gradient(loss, X)) == first
  assert "`sine`" in first
  assert compiled() == before


def test_constants_are_those_of_the_check():
  def loss_with(c):
    return lambda x: jnp.sum(c * x**2)

  for factor in (1.0, 2.0, 3.0):
    constant = factor * jnp.arange(1.0, 4.0)
    right, wrong = 2 * constant * X, 2.2 * constant * X
    assert check_gradient(loss_with(constant), X, gradient=right).ok
    assert not check_gradient(loss_with(constant), X, gradient=wrong).ok


def test_a_rule_that_differs_is_another_program_even_if_only_backwards():
  check = lambda factor: check_gradient(lambda x: jnp.sum(scaled(factor)(x)), X)  # noqa: E731
  assert check(1.0).ok
  assert not check(1.01).ok
  assert check(1.0).ok


def test_a_rule_that_does_something_else_by_now_is_looked_at_again():
  by = types.SimpleNamespace(value=1.0)
  sine = scaled(1.0, by)
  loss = lambda x: jnp.sum(sine(x))  # noqa: E731
  assert check_gradient(loss, X).ok
  by.value = 1.1
  assert not check_gradient(loss, X).ok
  by.value = 1.0
  assert check_gradient(loss, X).ok


def test_lines_are_those_of_the_check():
  def first(x):
    return jnp.sum(jnp.abs(x) * jax.lax.stop_gradient(x))

  def second(x):
    return jnp.sum(jnp.abs(x) * jax.lax.stop_gradient(x))

  point = X.at[0].set(0)
  for fun in (first, second, first):
    line = fun.__code__.co_firstlineno + 1
    report = check_gradient(fun, point)
    assert f"abs (test_once.py:{line})" in report.ties[0]
    assert f"stop_gradient (test_once.py:{line})" in report.cuts[0]


def same(a, b, *args, argnums=0):
  keys = [fingerprints([write_program("test", f, args, argnums)]) for f in (a, b)]
  return keys[0] == keys[1] if None not in keys else None


def test_fingerprints_tell_programs_apart():
  assert same(lambda x: jnp.sin(x) * 2, lambda y: jnp.sin(y) * 2, X)
  assert not same(lambda x: jnp.sin(x) * 2, lambda x: jnp.sin(x) * 3, X)
  assert not same(lambda x: jnp.sin(x) * 0.0, lambda x: jnp.sin(x) * -0.0, X)
  assert not same(lambda x: jnp.sin(x), lambda x: jnp.cos(x), X)
  assert not same(lambda x, y: x - y, lambda x, y: y - x, X, X)
  assert not same(lambda x: x.sum(0), lambda x: x.sum(1), jnp.ones((3, 3)))
  assert same(lambda x: x + np.arange(3.0), lambda x: x + np.arange(3.0) ** 2, X)
  loop = lambda n: lambda x: jax.lax.fori_loop(0, n, lambda _, c: jnp.sin(c), x)  # noqa: E731
  assert same(loop(3), loop(3), X)
  assert not same(loop(3), loop(4), X)
  branch = lambda f: lambda x: jax.lax.cond(x[0] > 0, f, jnp.cos, x)  # noqa: E731
  assert not same(branch(jnp.sin), branch(jnp.tan), X)
  inner = lambda c: lambda x: jax.jit(lambda x: x * c)(x)  # noqa: E731
  assert same(inner(X), inner(X), X)


def test_a_rule_that_cannot_be_traced_by_itself_is_kept_for_nobody():
  def loss(x):
    saved = jnp.cos(x)

    @jax.custom_jvp
    def sine(y):
      return jnp.sin(y)

    sine.defjvp(lambda p, t: (sine(*p), saved * t[0]))
    return jnp.sum(sine(x))

  assert same(loss, loss, X) is None
