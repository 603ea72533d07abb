"""The replay in float64: the same program and draws, and the derivative that it claims."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from kinkopt import kinks
from kinkopt.kinks import in_float64

X = np.linspace(0.2, 1.4, 6)


@pytest.fixture(autouse=True)
def _without_64_bits():
  with jax.enable_x64(False):
    yield


@jax.custom_vjp
def _reversed(x, n):
  return jnp.sin(x) * n


# A rule that is wrong on purpose, so that it can be told from the derivative of what is evaluated.
_reversed.defvjp(
  lambda x, n: (_reversed(x, n), (x, n)),
  lambda held, ct: (1.25 * ct * jnp.cos(held[0]) * held[1], None),
)


@jax.custom_jvp
def _forward(x):
  return jnp.sin(x)


_forward.defjvp(lambda p, t: (_forward(*p), 1.25 * t[0] * jnp.cos(p[0])))


@jax.custom_jvp
def _symbolic(x, y):
  return jnp.sin(x) * y


def _symbolic_rule(primals, tangents):
  (x, y), (dx, _) = primals, tangents
  rate = 1.25 * dx * jnp.cos(x) * y
  return _symbolic(x, y), rate


_symbolic.defjvp(_symbolic_rule, symbolic_zeros=True)


def _integral(x):
  """Integers, a mask and a random draw beside the active path."""
  keep = jax.random.bernoulli(jax.random.key(1), 0.5, x.shape)
  count = jnp.cumsum(jnp.ones(x.shape, jnp.int32))
  return jnp.where(keep, jnp.sin(x), 0.5 * x) * count


PROGRAMS = {
  "custom_vjp": (lambda x: _reversed(x, 2), lambda x: 1.25 * 2 * np.cos(x)),
  "custom_jvp": (_forward, lambda x: 1.25 * np.cos(x)),
  "symbolic zeros": (lambda x: _symbolic(x, jnp.float32(2)), lambda x: 1.25 * 2 * np.cos(x)),
  "in scan": (
    lambda x: lax.scan(lambda c, a: (c, _forward(a)), 0.0, x)[1],
    lambda x: 1.25 * np.cos(x),
  ),
  "in vmap": (jax.vmap(lambda x: _reversed(x, 2)), lambda x: 2.5 * np.cos(x)),
  "in cond": (
    lambda x: lax.cond(x[0] > 0, _forward, jnp.sin, x),
    lambda x: 1.25 * np.cos(x),
  ),
  "in jit": (jax.jit(_forward), lambda x: 1.25 * np.cos(x)),
  "checkpoint": (jax.checkpoint(_forward), lambda x: 1.25 * np.cos(x)),
  "a cast down and up": (lambda x: jnp.sin(x.astype("bfloat16")).astype("float32"), np.cos),
  "a product with float16 sums": (
    lambda x: jnp.dot(jnp.diag(x).astype("float16"), jnp.ones(6, "float16")).astype("float32"),
    np.ones_like,
  ),
  "complex": (lambda x: jnp.abs(lax.complex(x, 2 * x)), lambda x: np.full(6, np.sqrt(5))),
  "gather": (lambda x: x[jnp.array([5, 4, 3, 2, 1, 0])][::-1] ** 2, lambda x: 2 * x),
  "segment_sum": (lambda x: jax.ops.segment_sum(x**2, jnp.arange(6), 6), lambda x: 2 * x),
  "solve": (
    lambda x: jnp.linalg.solve(jnp.diag(x), jnp.ones(6)),
    lambda x: -1 / x**2,
  ),
  "clamp by a scalar": (lambda x: lax.clamp(0.0, x, 0.9) * 2, lambda x: 2.0 * (x < 0.9)),
  "custom_root": (
    jax.vmap(
      lambda a: lax.custom_root(
        lambda y: y**3 - a,
        a,
        lambda f, y: lax.fori_loop(0, 30, lambda _, y: y - f(y) / (3 * y**2), y),
        lambda g, y: y / g(1.0),
      )
    ),
    lambda a: a ** (-2 / 3) / 3,
  ),
}  # fmt: skip


@pytest.mark.parametrize(("fun", "derivative"), PROGRAMS.values(), ids=PROGRAMS)
def test_the_derivative_is_the_programs_own_in_float64(fun, derivative):
  point = jnp.asarray(X, jnp.float32)
  with jax.numpy_dtype_promotion("standard"):
    replay = in_float64(fun, like=(point,))
    value = fun(point)
  with jax.enable_x64(True):
    wide = np.asarray(point, np.float64)
    result = replay(wide)
    gradient = jax.jit(jax.grad(lambda x: replay(x).sum()))(wide)
  assert result.dtype == np.float64
  np.testing.assert_allclose(result, value, rtol=2e-2 if "cast" in str(fun) else 5e-3)
  np.testing.assert_allclose(gradient, derivative(wide), rtol=3e-15, atol=1e-15)


def test_without_its_rules_the_derivative_is_that_of_what_is_evaluated():
  point = jnp.asarray(X, jnp.float32)
  replay = in_float64(lambda x: _reversed(_forward(x), 2), like=(point,), custom_rules=False)
  with jax.enable_x64(True):
    wide = np.asarray(point, np.float64)
    gradient = jax.grad(lambda x: replay(x).sum())(wide)
  np.testing.assert_allclose(gradient, 2 * np.cos(np.sin(wide)) * np.cos(wide), rtol=3e-15)


def test_forward_mode_agrees_with_reverse_mode():
  replay = in_float64(lambda x: _forward(_symbolic(x, x)), like=(jnp.asarray(X, jnp.float32),))
  with jax.enable_x64(True):
    forward, backward = jax.jacfwd(replay)(X), jax.jacrev(replay)(X)
  np.testing.assert_allclose(forward, backward, rtol=1e-15)


def test_draws_masks_and_integers_are_those_of_the_program():
  x = jnp.asarray(X, jnp.float32)
  with jax.numpy_dtype_promotion("standard"):
    np.testing.assert_allclose(in_float64(_integral)(x), _integral(x), rtol=1e-6)


def test_no_setting_changes_and_results_are_float64():
  value = in_float64(jnp.sin)(jnp.float32(1.0))
  assert value.dtype == np.float64
  assert not jax.config.jax_enable_x64


def test_low_precision_is_replayed_from_the_values_it_was_given():
  x = jnp.asarray(X, jnp.bfloat16)
  exact = np.sin(np.asarray(x, np.float64))
  np.testing.assert_allclose(in_float64(jnp.sin)(x), exact, rtol=1e-15)


def test_only_the_chosen_arguments_are_widened():
  def fun(x, y):
    return x * y, jnp.sin(y)

  product, sine = in_float64(fun, argnums=0)(jnp.float32(2.0), jnp.float32(3.0))
  assert (product.dtype, sine.dtype) == (np.float64, np.float32)


def test_a_reverse_rule_refuses_forward_mode_as_in_jax():
  replay = in_float64(lambda x: _reversed(x, 2))
  with pytest.raises(TypeError, match="forward-mode"):
    jax.jvp(replay, (jnp.float32(1.0),), (jnp.float32(1.0),))


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, lambda f: lambda x: lax.map(f, x)])
def test_it_is_a_function_like_any_other(transform):
  x = jnp.asarray(X, jnp.float32)
  np.testing.assert_array_equal(transform(in_float64(jnp.sin))(x), in_float64(jnp.sin)(x))


def test_a_callers_jit_without_64_bits_can_compile_an_argmax():
  x = jnp.asarray(X, jnp.float32)
  assert float(jax.jit(in_float64(lambda x: x[jnp.argmax(x)]))(x)) == float(x[-1])
  assert float(jax.jit(kinks.freeze(lambda x: x[jnp.argmax(x)], x))(-x)) == -float(x[-1])


def test_shapes_other_than_those_it_was_traced_with_are_named():
  replay = in_float64(lambda p: p["w"], like=({"w": jnp.ones(2)},))
  with pytest.raises(ValueError, match=r"`in_float64`.*`\['w'\]`"):
    replay({"w": jnp.ones(3)})


def test_an_array_is_not_taken_for_its_rows():
  match = r"`in_float64` takes all arguments.*`like` is of type `ArrayImpl`.*write `\(like,\)`"
  with pytest.raises(TypeError, match=match):
    in_float64(jnp.sin, like=jnp.ones(2))


def test_an_argument_that_is_not_there_is_named():
  with pytest.raises(ValueError, match=r"`in_float64\(argnums=1\)` names argument 1"):
    in_float64(jnp.sin, argnums=1)(jnp.ones(2))
