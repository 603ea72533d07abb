"""A frozen function equals the function at the point, has its derivative, and crosses no kink."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from kinkopt.kinks import PrimitiveClass, classify, declare_smooth, freeze, in_float64

POINT = np.array([-1.3, 0.4, 2.1, -0.2, 0.9, 1.6])


def _scan(x):
  return lax.scan(lambda c, a: (jnp.tanh(c + jnp.maximum(a, 0.0)), c * a), x[0], x)


def _square(x):
  return jnp.outer(x, x) + 2 * jnp.eye(6)


FUNCTIONS = {
  "relu": jax.nn.relu,
  "abs": lambda x: jnp.abs(x) * x[0],
  "sign": lambda x: jnp.sign(x) * x**2,
  "minimum": lambda x: jnp.minimum(x, x[::-1] ** 2),
  "clamp": lambda x: lax.clamp(-0.5, x, 0.5) * x,
  "where": lambda x: jnp.where(x > 0, x**2, jnp.sin(x)),
  "floor": lambda x: x * jnp.floor(3 * x),
  "to integers": lambda x: x * (3 * x).astype(int),
  "rem": lambda x: jnp.sin(jnp.fmod(3 * x, x[2])),
  "sort": lambda x: jnp.sort(x) * jnp.arange(6.0),
  "argsort": lambda x: x[jnp.argsort(x)] ** 2,
  "median": lambda x: jnp.median(x) * x,
  "top_k": lambda x: lax.top_k(x, 3)[0] ** 2,
  "max": lambda x: jnp.max(x) * x,
  "argmax": lambda x: x[jnp.argmax(x**2)] * x,
  "cummax": lambda x: lax.cummax(x) ** 2,
  "cummin reversed": lambda x: lax.cummin(x, reverse=True) ** 2,
  "max-pool": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "SAME") ** 2,
  "scan": _scan,
  "while": lambda x: lax.while_loop(lambda s: jnp.sum(s**2) < 50, lambda s: 1.5 * s, x),
  "vmap of while, each to its own end": jax.vmap(
    lambda x: lax.while_loop(lambda s: jnp.abs(s) < 5, lambda s: 1.5 * s, x)
  ),
  "frexp": lambda x: jnp.frexp(x)[0] ** 2,
  "ldexp": lambda x: jnp.ldexp(x**2, jnp.arange(6)),
  "fori": lambda x: lax.fori_loop(0, 5, lambda i, c: jnp.sin(c) + jnp.maximum(x[i], c), x),
  "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
  "switch": lambda x: lax.switch(jnp.argmax(x) % 3, [jnp.sin, jnp.cos, jnp.tanh], x),
  "vmap of cond": jax.vmap(lambda x: lax.cond(x > 0, jnp.sin, jnp.cos, x)),
  "remat": jax.checkpoint(lambda x: jnp.maximum(x, 0.0) ** 2),
  "solve": lambda x: jnp.linalg.solve(_square(x), x),
  "cholesky": lambda x: jnp.linalg.cholesky(_square(x)),
  "segment_sum": lambda x: jax.ops.segment_sum(x**2, jnp.array([0, 1, 0, 2, 2, 1]), 3),
  "set": lambda x: jnp.zeros(6).at[jnp.argsort(x)].set(x**3),
  "stop_gradient": lambda x: x * lax.stop_gradient(x),
  "fft": lambda x: jnp.abs(jnp.fft.fft(x)),
  "softmax": jax.nn.softmax,
  "tree": lambda x: {"a": jnp.abs(x), "b": [jnp.max(x), x[:2]]},
}
each_function = pytest.mark.parametrize("fun", FUNCTIONS.values(), ids=FUNCTIONS)


def _flat(tree):
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _lenient(fun):
  """Under the promotion that users have; the suite's own is strict."""

  def run(*args):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
      return fun(*args)

  return run


@each_function
def test_it_is_the_function_at_the_point_and_its_difference_is_the_derivative(fun):
  fun, x = _lenient(fun), jnp.asarray(POINT)
  direction = jnp.array([1.0, -1.0, -1.0, 1.0, 1.0, -1.0])
  frozen = freeze(fun, x)
  value, derivative = jax.jvp(fun, (x,), (direction,))
  np.testing.assert_allclose(_flat(frozen(x)), _flat(value), rtol=1e-14, atol=1e-15)

  at = jax.jit(frozen)
  row = [
    (_flat(at(x + h * direction)) - _flat(at(x - h * direction))) / (2 * h)
    for h in (0.02 / 2**k for k in range(6))
  ]
  for k in range(1, 6):  # Richardson: the error has even powers of h only
    row = [(4**k * fine - coarse) / (4**k - 1) for coarse, fine in itertools.pairwise(row)]
  error = np.linalg.norm(row[0] - _flat(derivative))
  assert error <= 1e-9 * max(1.0, np.linalg.norm(_flat(derivative)))


@each_function
def test_vmapping_equals_looping(fun):
  frozen = freeze(_lenient(fun), jnp.asarray(POINT))
  moved = jnp.stack([jnp.asarray(POINT) + shift for shift in (-0.1, 0.0, 0.1)])
  mapped = jax.vmap(frozen)(moved)
  for i, y in enumerate(moved):
    lane = jax.tree.map(lambda leaf, i=i: leaf[i], mapped)
    np.testing.assert_allclose(_flat(lane), _flat(frozen(y)), rtol=1e-9, atol=1e-12)


def test_no_kink_is_crossed_at_any_distance():
  frozen = freeze(jax.nn.relu, jnp.array([-1.0, 2.0]))
  np.testing.assert_array_equal(frozen(jnp.array([100.0, -100.0])), [0.0, -100.0])


@pytest.mark.parametrize(
  ("fun", "point"),
  [
    (lambda x: jnp.maximum(x, 0.0).sum(), [0.0, 1.0]),
    (lambda x: jnp.abs(x).sum(), [0.0, -1.0]),
    (jnp.max, [2.0, 1.0, 2.0]),
    (lambda x: (jnp.sort(x) * jnp.arange(3.0)).sum(), [2.0, 1.0, 2.0]),
    (lambda x: lax.clamp(0.0, x, 1.0).sum(), [0.0, 0.5, 1.0]),
  ],
)
def test_at_a_tie_the_derivative_is_the_one_jax_takes(fun, point):
  x = jnp.array(point)
  np.testing.assert_array_equal(jax.grad(freeze(fun, x))(x), jax.grad(fun)(x))


def test_a_float32_program_is_replayed_in_float64_with_its_own_random_draws():
  with jax.enable_x64(False):
    x = jnp.linspace(-1.0, 1.0, 8, dtype=jnp.float32)

    def fun(x):
      keep = jax.random.bernoulli(jax.random.key(3), 0.5, x.shape)
      return jnp.where(keep, jnp.sin(x), 0.0).sum() + jnp.float32(0.1)

    value = freeze(fun, x)(x)
    assert value.dtype == np.float64
    keep = np.asarray(jax.random.bernoulli(jax.random.key(3), 0.5, x.shape))
    exact = np.where(keep, np.sin(np.asarray(x, np.float64)), 0).sum() + np.float64(np.float32(0.1))
    assert abs(np.asarray(value) - exact) < 1e-15
    assert not jax.config.jax_enable_x64


def test_in_its_own_precision_it_is_the_program_bit_for_bit():
  def fun(x):
    return jnp.sort(jax.nn.relu(x) * jnp.abs(x)) / jnp.max(x)

  x = jax.random.normal(jax.random.key(0), (32,), jnp.float32)
  frozen = freeze(fun, x, float64=False)
  assert frozen(x).dtype == jnp.float32
  np.testing.assert_array_equal(frozen(x), fun(x))


def test_stop_gradient_can_be_seen_through():
  def fun(x):
    return x * lax.stop_gradient(x)

  x = jnp.array(2.0)
  assert freeze(fun, x)(jnp.array(3.0)) == 6.0
  assert freeze(fun, x, through_stop_gradient=True)(jnp.array(3.0)) == 9.0


def test_only_the_chosen_arguments_move_and_integers_stay():
  def fun(x, tree, n):
    return jnp.abs(x) * tree["w"] * n + tree["i"]

  tree = {"w": jnp.array(2.0), "i": jnp.array(1)}
  frozen = freeze(_lenient(fun), jnp.array(-3.0), tree, 5, argnums=(0, 1))
  assert frozen(jnp.array(1.0), {"w": jnp.array(4.0), "i": jnp.array(100)}) == -19.0


def test_what_cannot_be_seen_into_is_run_and_named_with_its_line():
  def fun(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(np.abs, shape, x, vmap_method="sequential") * x

  frozen = freeze(fun, jnp.array([-2.0]))
  np.testing.assert_array_equal(frozen(jnp.array([3.0])), [9.0])
  assert len(frozen.opaque) == 1
  assert frozen.opaque[0].startswith("pure_callback (test_freeze.py:")
  assert freeze(jnp.sin, jnp.array(1.0)).opaque == ()


def test_a_function_applied_at_indices_is_not_passed_over():
  x = jnp.array([1.0, 2.0, 3.0])
  frozen = freeze(lambda x: x.at[jnp.array([2, 0])].apply(jnp.square), x)
  np.testing.assert_array_equal(frozen(x), [1.0, 2.0, 9.0])
  assert frozen.opaque[0].startswith("scatter (test_freeze.py:")


def test_the_bits_of_a_number_are_not_seen_into():
  def flipped(x):
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.int64) ^ 1, jnp.float64)

  frozen = freeze(flipped, jnp.array(1.5))
  assert frozen.opaque[0].startswith("bitcast_convert_type (test_freeze.py:")


def test_no_tracer_leaks():
  with jax.checking_leaks():
    jax.jit(freeze(_scan, jnp.asarray(POINT)))(jnp.asarray(POINT))


def test_a_wrong_number_of_arguments_is_named():
  frozen = freeze(lambda x, y: x * y, jnp.array(1.0), jnp.array(2.0))
  with pytest.raises(ValueError, match=r"`argnums=\(0,\)` takes these arguments alone.*given 2"):
    frozen(jnp.array(1.0), jnp.array(2.0))


def test_a_wrong_tree_is_named():
  frozen = freeze(lambda p: p["w"], {"w": jnp.array(1.0)})
  with pytest.raises(ValueError, match=r"has no leaf `\['w'\]`"):
    frozen({"v": jnp.array(1.0)})


def test_an_imaginary_part_is_not_dropped():
  match = r"`freeze`: the {} leaf `\(root\)` is complex128\[\], but float64\[\] in the point.*lost"
  with pytest.raises(TypeError, match=match.format("moved argument")):
    freeze(jnp.abs, jnp.array(1.0))(jnp.array(1j))
  with pytest.raises(TypeError, match=match.format("direction `toward`")):
    freeze(jnp.abs, jnp.array(1.0), toward=jnp.array(1j))


def test_argnums_may_be_counted_from_the_end():
  frozen = freeze(lambda x, y: x * jnp.abs(y), jnp.array(2.0), jnp.array(-1.0), argnums=-1)
  assert frozen.program.argnums == (1,)
  assert float(frozen(jnp.array(3.0))) == -6.0


def test_an_argnum_that_is_not_there_is_named():
  with pytest.raises(ValueError, match=r"names argument 2, but the point has 1 arguments"):
    freeze(jnp.sin, jnp.array(1.0), argnums=2)


@pytest.mark.parametrize(
  ("name", "kind"),
  [
    ("max", PrimitiveClass.WINNER),
    ("sin", PrimitiveClass.SMOOTH),
    ("scatter-add", PrimitiveClass.SMOOTH),
    ("scan", PrimitiveClass.STRUCTURAL),
    ("pallas_call", PrimitiveClass.OPAQUE),
    ("a primitive of tomorrow", PrimitiveClass.OPAQUE),
  ],
)
def test_a_primitive_has_its_class(name, kind):
  assert classify(name) is kind


def test_a_primitive_has_one_class():
  with pytest.raises(ValueError, match=r"`max` already is winner"):
    declare_smooth("max")


def test_what_is_declared_smooth_is():
  declare_smooth("declared by a test")
  assert classify("declared by a test") is PrimitiveClass.SMOOTH


@pytest.mark.parametrize("size", [2, 65])  # few entries are taken apart, many are looked up
def test_a_window_of_nothing_but_padding_has_no_winner(size):
  def fun(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (size,), (size,), ((2 * size, 0),))

  x = jnp.sin(jnp.arange(2.0 * size))
  frozen = freeze(fun, x)
  assert (fun(x)[:2] == -jnp.inf).all()
  np.testing.assert_array_equal(frozen(x), fun(x))
  np.testing.assert_array_equal(frozen(x + 1), fun(x) + 1)


def test_a_value_that_the_function_closes_over_may_change():
  factor = 1.0

  def fun(x):
    return factor * jnp.abs(x)

  x = jnp.array([-1.0, 2.0])
  for factor in (1.0, 3.0, 5.0):
    np.testing.assert_array_equal(freeze(fun, x)(-x), factor * jnp.array([-1.0, -2.0]))
    np.testing.assert_array_equal(in_float64(fun)(x), factor * jnp.array([1.0, 2.0]))
