"""The numerical gradient: its order, its trees, its dtypes, its memory, and what it refuses."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt._numerics import machine_eps
from kinkopt.gradcheck import numerical_gradient

SCHEMES = ("centered", "forward", "backward")


def smooth(x):
  return jnp.sum(jnp.sin(x) * jnp.exp(0.5 * x))


def mixed_tree():
  """Every kind of leaf that a gradient may have."""
  return {
    "scalar": 0.5,
    "numpy": np.array([[1.0, -2.0], [0.25, 3.0], [0.0, 1.5]]),
    "none": None,
    "empty": jnp.zeros((3, 0)),
    "nested": (jnp.float32(2.0), [jnp.array([1.0 + 2.0j, -0.5j])]),
  }


def of_mixed_tree(tree):
  a, (b, [c]) = tree["numpy"], tree["nested"]
  real = tree["scalar"] * jnp.sum(jnp.tanh(a)) + jnp.cos(b.astype(float)) * a[2, 1]
  return real + jnp.sum(tree["empty"]) + jnp.sum(jnp.abs(c) ** 2 * c.imag) + jnp.sum(c**3).real


def assert_trees_close(got, want, rtol, atol):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("scheme", "order"), [("forward", 1), ("backward", 1), ("centered", 2)])
def test_one_sided_schemes_are_of_order_1_and_the_centered_one_of_order_2(scheme, order):
  """Why the notes call one-sided "not good"."""
  x = jnp.linspace(-1.0, 1.0, 7)
  # From where the next term of the expansion matters to where rounding does.
  steps = np.geomspace(1e-4, 1e-2, 9)
  gradients = jax.vmap(lambda h: numerical_gradient(smooth, scheme=scheme, step=h)(x))(steps)
  errors = np.abs(gradients - jax.grad(smooth)(x)).max(axis=1)
  slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
  assert slope == pytest.approx(order, abs=0.02)


def test_at_the_step_of_the_notes_centered_is_thousands_of_times_closer():
  x = jnp.linspace(-1.0, 1.0, 7)
  error = {
    s: np.abs(numerical_gradient(smooth, scheme=s)(x) - jax.grad(smooth)(x)).max() for s in SCHEMES
  }
  # Truncation: h/2 |f''| on one side; rounding, machine_eps |f| / h, is what is left on two.
  assert error["centered"] < 10 * machine_eps(float) / 1e-5
  assert min(error["forward"], error["backward"]) > 1e3 * error["centered"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("batch_size", [None, 1, 5, 1000])
def test_any_tree_gets_the_gradient_of_jax_grad(scheme, batch_size):
  got = numerical_gradient(of_mixed_tree, scheme=scheme, batch_size=batch_size)(mixed_tree())
  want = jax.grad(of_mixed_tree)(mixed_tree())
  # h/2 times second derivatives of up to 20 on one side; and float32 holds one of the derivatives.
  atol = 1e-8 if scheme == "centered" else 1e-4
  assert_trees_close(got, want, rtol=machine_eps("float32"), atol=atol)


@pytest.mark.parametrize("argnums", [0, 1, -1, (1,), (2, 0), [0, 1], np.int64(1)])
def test_argnums_are_those_of_jax_grad(argnums):
  def f(a, b, c, *, power):
    return jnp.sum(a["w"] * b) ** power + c[0] * a["w"][0]

  args = {"w": jnp.array([1.0, 2.0])}, jnp.array([0.5, -1.0]), [jnp.float64(2.0)]
  got = numerical_gradient(f, argnums)(*args, power=3)
  want = jax.grad(f, argnums if isinstance(argnums, (tuple, list)) else int(argnums))(
    *args, power=3
  )
  assert_trees_close(got, want, 0, atol=1e-8)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_function_is_traced_once_and_aux_is_taken_at_the_point(scheme):
  traces = []

  def f(x, scale):
    traces.append(x)
    return scale * jnp.sum(x**2), {"x": x}

  x, scales = jnp.arange(7.0), jnp.array([3.0, -1.0])
  for batch_size in (None, 3):
    gradient = numerical_gradient(f, scheme=scheme, batch_size=batch_size, has_aux=True)
    population = jax.vmap(gradient, in_axes=(None, 0))
    for call, scale in ((gradient, 3.0), (jax.jit(gradient), 3.0), (population, scales)):
      traces.clear()
      got, aux = call(x, scale)
      assert len(traces) == 1
      np.testing.assert_allclose(got, np.multiply.outer(scale, 2 * x), atol=1e-4)
      np.testing.assert_array_equal(aux["x"], np.broadcast_to(x, got.shape))


def test_no_arguments_to_move_give_the_empty_tuple():
  assert numerical_gradient(smooth, ())(jnp.ones(2)) == ()


def test_second_call_does_not_recompile():
  traces = []

  def f(x):
    traces.append(x)
    return jnp.sum(x**2)

  gradient = jax.jit(numerical_gradient(f))
  for shift in (0.0, 1.0, 2.0):
    gradient(jnp.ones(3) + shift)
  assert len(traces) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_population_gets_what_each_member_gets(scheme, batch_size):
  xs = jnp.linspace(-2.0, 2.0, 12).reshape(3, 4)
  steps = jnp.array([1e-5, 1e-4, 1e-3])

  def gradient(x, h):
    return numerical_gradient(smooth, scheme=scheme, step=h, batch_size=batch_size)(x)

  got = jax.jit(jax.vmap(gradient))(xs, steps)
  lone = jnp.stack([gradient(x, h) for x, h in zip(xs, steps)])
  # The same quotients, but f may be rounded otherwise: machine_eps |f| / h.
  np.testing.assert_allclose(got, lone, atol=10 * machine_eps(float) / 1e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_coordinate_that_f_ignores_gets_exactly_zero(scheme, batch_size):
  w = jax.random.normal(jax.random.key(0), (17, 5))

  def f(params):
    return jnp.sum(jnp.tanh(w.T @ params["used"])) + jnp.sum(params["half"][:3] ** 3)

  params = {"used": jnp.linspace(0, 1, 17), "half": jnp.linspace(1, 2, 6), "unused": jnp.ones(9)}
  got = jax.jit(numerical_gradient(f, scheme=scheme, batch_size=batch_size))(params)
  assert not np.any(got["unused"])
  assert not np.any(got["half"][3:])
  assert np.all(got["half"][:3])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_quotient_of_a_line_is_exact_because_the_step_taken_is_divided_by(dtype, scheme):
  """f(x) = 4x rounds nothing, so the quotient must be 4; over h it would be off by percents."""
  x = jnp.array([1.0, -1.7, 0.3, 3.1, 117.0, 0.013, 0.0], dtype)
  for step in (0.37, 200 * machine_eps(dtype) / 3):
    gradient = jax.vmap(numerical_gradient(lambda x: 4 * x, scheme=scheme, step=step))
    for call in (gradient, jax.jit(gradient)):
      got = np.asarray(call(x), float)
      np.testing.assert_array_equal(got, 4.0)
    taken = (x + jnp.asarray(step, dtype)).astype(float) - x.astype(float)
    assert np.max(np.abs(taken / step - 1)) > machine_eps(dtype) / 4


@pytest.mark.parametrize(
  ("dtype", "still_moves", "is_lost"),
  [
    ("float32", 255.0, 256.0),
    ("float16", 0.03, 1 / 32),
    ("bfloat16", 0.0038, 1 / 256),
    ("float64", 2e10, 1e12),
  ],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_step_lost_in_rounding_gives_nan_at_that_coordinate_only(
  dtype, still_moves, is_lost, scheme
):
  x = jnp.array([still_moves, 1.5 * is_lost, -1.5 * is_lost], dtype)
  got = numerical_gradient(lambda x: jnp.sum(x.astype(float)), scheme=scheme, step=1e-5)(x)
  np.testing.assert_array_equal(np.isnan(got.astype(float)), [False, True, True])


def test_step_lost_on_one_side_only_is_no_centered_difference():
  """Below a power of two the numbers are twice as dense as above it."""
  x = jnp.float32(1.0)
  step = 0.4 * machine_eps("float32")  # more than half the spacing below 1, less than half above
  assert x - jnp.float32(step) != x
  assert x + jnp.float32(step) == x
  assert np.isnan(numerical_gradient(jnp.square, step=step)(x))
  assert np.isnan(numerical_gradient(jnp.square, step=step, scheme="forward")(x))
  assert np.isfinite(numerical_gradient(jnp.square, step=step, scheme="backward")(x))


def test_quotients_of_low_precision_are_formed_in_float32():
  """bfloat16 would round 101.25 and 100.75 to multiples of 1/2 before they are subtracted."""
  x = jnp.bfloat16(1.0)
  for scheme in SCHEMES:
    got = numerical_gradient(lambda x: 100 + x.astype(jnp.float32), scheme=scheme, step=0.25)(x)
    assert got.dtype == jnp.bfloat16
    assert got == 1.0


def test_complex_gradient_follows_the_convention_of_jax_grad():
  def f(z):
    return jnp.sum(z.real**2 * z.imag + 3 * z.imag)

  z = jnp.array([[1.0 + 2.0j], [-0.5 + 0.25j]])
  got = numerical_gradient(f)(z)
  # df/dx - i df/dy, by hand.
  want = 2 * z.real * z.imag - 1j * (z.real**2 + 3)
  np.testing.assert_allclose(got, want, atol=1e-9)
  np.testing.assert_allclose(got, jax.grad(f)(z), atol=1e-9)
  assert numerical_gradient(f)(z.astype(jnp.complex64)).dtype == jnp.complex64


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_nothing_to_move_gives_the_empty_gradient(scheme, batch_size):
  gradient = numerical_gradient(lambda _: 1.0, scheme=scheme, batch_size=batch_size)
  assert gradient({}) == {}
  assert gradient((None, [])) == (None, [])
  assert gradient({"w": jnp.zeros((0, 3))})["w"].shape == (0, 3)


def test_with_64_bits_off_everything_is_float32():
  with jax.enable_x64(False):
    got = numerical_gradient(lambda x: jnp.sum(jnp.tanh(x)), step=1e-2)(np.linspace(-1, 1, 5))
    assert got.dtype == np.float32
    want = 1 - np.tanh(np.linspace(-1, 1, 5)) ** 2
  # Truncation h^2/6 |f'''| <= h^2/3, rounding machine_eps / h.
  np.testing.assert_allclose(got, want, atol=1e-4 / 3 + 4 * machine_eps("float32") / 1e-2)


def test_strict_promotion_rules_are_kept():
  with jax.numpy_dtype_promotion("strict"):
    tree = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2, jnp.float32)}
    numerical_gradient(lambda t: jnp.sum(t["a"]).astype(float) + jnp.sum(t["b"]).astype(float))(
      tree
    )


def test_memory_is_that_of_one_batch_however_many_coordinates():
  def temporary_bytes(size, batch_size):
    compiled = (
      jax.jit(numerical_gradient(smooth, batch_size=batch_size)).lower(jnp.ones(size)).compile()
    )
    return compiled.memory_analysis().temp_size_in_bytes

  # A few arrays of n numbers: the ends and their values. All probes at once would be 2 n^2 numbers.
  for size in (1_000, 4_000, 16_000):
    assert temporary_bytes(size, None) < 16 * 8 * size
    assert temporary_bytes(size, 10) < (16 + 3 * 10) * 8 * size
    assert 16 * 8 * size < 2 * size**2


def test_gradient_keeps_the_name_and_the_arguments_of_f():
  def loss(params, *, is_training):
    return jnp.sum(params**2) * (2.0 if is_training else 1.0)

  gradient = numerical_gradient(loss)
  assert gradient.__name__ == "loss"
  got = jax.jit(gradient, static_argnames="is_training")(jnp.ones(2), is_training=True)
  np.testing.assert_allclose(got, 4.0, atol=1e-9)
  numerical_gradient(functools.partial(loss, is_training=False))(jnp.ones(2))


def call(f=smooth, argnums=0, x=None, **options):
  return numerical_gradient(f, argnums, **options)(jnp.ones(2) if x is None else x)


REFUSALS = {
  "not a function": (
    lambda: numerical_gradient(3.0),
    TypeError,
    r"`f` is 3.0.*Pass the loss itself",
  ),
  "unknown scheme": (
    lambda: numerical_gradient(smooth, scheme="central"),
    ValueError,
    r"scheme='central'\)` is unknown: .* one of 'centered', 'forward', 'backward'",
  ),
  "step 0": (
    lambda: numerical_gradient(smooth, step=0.0),
    ValueError,
    r"`numerical_gradient\(step=0\)` is out of range: `step` must lie in \(0, inf\).*`step=1e-5`",
  ),
  "negative step": (lambda: numerical_gradient(smooth, step=-1e-5), ValueError, r"step=-1e-05\)"),
  "NaN step": (lambda: numerical_gradient(smooth, step=math.nan), ValueError, r"step=nan\)"),
  "step of no number": (lambda: numerical_gradient(smooth, step="h"), TypeError, r"step='h'\)"),
  "batch of 0": (
    lambda: numerical_gradient(smooth, batch_size=0),
    ValueError,
    r"batch_size=0\)` is out of range: .*must lie in \[1, .*None takes them one by one",
  ),
  "batch of 2.5": (
    lambda: numerical_gradient(smooth, batch_size=2.5),
    TypeError,
    r"batch_size=2.5\)` is not an integer",
  ),
  "value of shape (2,)": (
    lambda: call(jnp.sin),
    TypeError,
    r"scalar value, but `f` returned float64 of shape \(2,\).*`jnp.sum`",
  ),
  "value of shape (1,)": (lambda: call(lambda x: x[:1]), TypeError, r"of shape \(1,\)"),
  "forgotten has_aux": (
    lambda: call(lambda x: (smooth(x), x)),
    TypeError,
    r"`f` returned a tuple.*say `has_aux=True`",
  ),
  "no value": (lambda: call(lambda x: None), TypeError, r"`f` returned a NoneType"),
  "has_aux without aux": (
    lambda: call(has_aux=True),
    TypeError,
    r"return a pair `\(value, aux\)`, but it returned float64 of shape \(\)",
  ),
  "complex value": (
    lambda: call(lambda x: jnp.sum(x) * 1j),
    TypeError,
    r"real floating-point value, but `f` returned complex128 of shape \(\). Take the real part",
  ),
  "integer value": (
    lambda: call(lambda x: jnp.argmax(x)),
    TypeError,
    r"`f` returned int64 of shape",
  ),
  "integer leaf": (
    lambda: call(x={"w": jnp.ones(2), "steps": [3]}),
    TypeError,
    r"argnums=0\)` needs floating-point coordinates, but the leaf `\['steps'\]\[0\]` is int64",
  ),
  "boolean leaf": (lambda: call(x=jnp.array([True])), TypeError, r"leaf `\(root\)` is bool"),
  "key leaf": (lambda: call(x=jax.random.key(0)), TypeError, r"leaf `\(root\)` is key<"),
  "text leaf": (lambda: call(x={"name": "w"}), TypeError, r"leaf `\['name'\]` is str"),
  "missing argument": (
    lambda: call(argnums=1),
    TypeError,
    r"argnums=1\)` has no argument to move: .* called with 1 positional arguments.*by keyword",
  ),
  "missing argument from the end": (lambda: call(argnums=(0, -2)), TypeError, r"argnums=-2\)"),
  "argument named twice": (
    lambda: call(argnums=(0, -1)),
    ValueError,
    r"argnums=\(0, -1\)\)` names an argument twice in a call with 1 positional",
  ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_in_a_sentence(case):
  make, error, match = REFUSALS[case]
  with pytest.raises(error, match=match):
    make()
