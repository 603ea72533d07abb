"""Properties of frozen functions, on programs and points that nobody chose."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kinkopt.kinks import crossings, freeze

SIZE = 4
# Whole numbers and halves, so that ties are met as often as not.
NUMBERS = st.integers(-4, 4).map(lambda n: n / 2)
POINTS = st.lists(NUMBERS, min_size=SIZE, max_size=SIZE).map(np.array)
STEPS = {
  "relu": lambda x: jnp.maximum(x, 0.0),
  "min": lambda x: jnp.minimum(x, x[::-1]),
  "abs": jnp.abs,
  "sort": jnp.sort,
  "clip": lambda x: lax.clamp(-1.0, x, 1.0),
  "where": lambda x: jnp.where(x > 0.5, 2 * x, x - 1),
  "floor": lambda x: x - jnp.floor(x),
  "shift by the largest": lambda x: x - jnp.max(x),
  "cummax": lax.cummax,
  "roll to the largest": lambda x: jnp.roll(x, jnp.argmax(x)),
  "square": lambda x: x * x,
  "mix": lambda x: 0.5 * x + x[::-1],
  "branch": lambda x: lax.cond(x[0] > x[1], jnp.abs, lambda x: -2 * x, x),
  "scan": lambda x: lax.scan(lambda c, a: (jnp.maximum(c, a), c - a), x[0], x)[1],
  "pool": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "SAME"),
}
PROGRAMS = st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4).map(tuple)
few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)


def _run(program, x):
  with jax.numpy_dtype_promotion("standard"):
    return functools.reduce(lambda x, name: STEPS[name](x), program, x)


# Compiled once a program, whatever the points.
@functools.partial(jax.jit, static_argnums=0)
def _plain(program, x):
  return _run(program, x)


@functools.partial(jax.jit, static_argnums=0)
def _frozen(program, point, moved):
  return freeze(lambda x: _run(program, x), point)(moved)


@functools.partial(jax.jit, static_argnums=0)
def _changes(program, a, b):
  found = crossings(lambda x: _run(program, x), (a,), (b,))
  return sum((c.changed for c in found), jnp.int32(0))


@few
@hypothesis.given(program=PROGRAMS, x=POINTS)
def test_at_the_point_it_is_the_function_to_the_bit(program, x):
  np.testing.assert_array_equal(_frozen(program, x, x), _plain(program, x))


@few
@hypothesis.given(program=PROGRAMS, x=POINTS, v=POINTS)
def test_where_no_winner_changes_it_is_the_function(program, x, v):
  x = x + np.array([0.13, 0.29, 0.41, 0.07])  # off the ties
  for h in (1.0, 0.1, 0.01):
    if _changes(program, x, x + h * v) == 0:
      expected = _plain(program, x + h * v)
      np.testing.assert_allclose(_frozen(program, x, x + h * v), expected, rtol=1e-12, atol=1e-12)


@few
@hypothesis.given(program=PROGRAMS, x=POINTS, v=POINTS)
def test_freezing_twice_changes_nothing(program, x, v):
  @functools.partial(jax.jit)
  def twice(point, moved):
    return freeze(freeze(lambda x: _run(program, x), point), point)(moved)

  np.testing.assert_allclose(twice(x, x + v), _frozen(program, x, x + v), rtol=1e-13, atol=1e-13)


@few
@hypothesis.given(program=PROGRAMS, x=POINTS, v=POINTS)
def test_mapping_equals_looping(program, x, v):
  moved = jnp.stack([x + k * v for k in (-1.0, 0.0, 0.5)])
  mapped = jax.vmap(functools.partial(_frozen, program, x))(moved)
  looped = jnp.stack([_frozen(program, x, y) for y in moved])
  np.testing.assert_allclose(mapped, looped, rtol=1e-13, atol=1e-13)


@few
@hypothesis.given(program=PROGRAMS, x=POINTS, v=POINTS)
def test_crossings_are_symmetric_and_none_is_met_without_moving(program, x, v):
  assert _changes(program, x, x + v) == _changes(program, x + v, x)
  assert _changes(program, x, x) == 0
