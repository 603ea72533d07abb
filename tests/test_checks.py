"""Every refusal in its words; and what must pass."""

import decimal
import fractions
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt._checks import (
  FACTOR,
  FRACTION,
  NON_NEGATIVE,
  POSITIVE,
  Interval,
  check_floating,
  check_integer,
  check_number,
  check_same_tree,
  dtype_of,
)


@pytest.mark.parametrize(
  ("interval", "text", "inside", "outside"),
  [
    (NON_NEGATIVE, "[0, inf)", [0, 0.0, -0.0, 5e-324, 1e308], [-5e-324, math.inf, math.nan]),
    (POSITIVE, "(0, inf)", [5e-324, 1], [0, -1, math.inf, math.nan]),
    (FRACTION, "[0, 1)", [0, 0.5, 1 - 2**-53], [1, -1e-9, math.nan]),
    (FACTOR, "(0, 1]", [1, 1e-9], [0, 1 + 2**-52, math.nan]),
    (Interval(1, 2**31 - 1, has_high=True), "[1, 2147483647]", [1, 2**31 - 1], [0, 2**31]),
    (Interval(0.1 + 0.2, 1e300), "[0.30000000000000004, 1e+300)", [0.5], [0.3]),
  ],
)
def test_interval_has_its_ends_as_it_says(interval, text, inside, outside):
  assert str(interval) == text
  assert all(value in interval for value in inside)
  assert not any(value in interval for value in outside)


def check(value, interval=FRACTION, **options):
  check_number("rule", "decay", value, interval, "It is a share.", **options)


@pytest.mark.parametrize(
  "value",
  [
    0,
    0.5,
    fractions.Fraction(1, 2),
    np.float32(0.5),
    np.int64(0),
    np.array(0.5),
    jnp.float32(0.5),
    jnp.bfloat16(0.5),
    jnp.array(0),
    jnp.array(0.5),
  ],
)
def test_scalars_of_every_kind_pass(value):
  check(value)


def test_schedules_pass_where_they_are_accepted():
  check(optax.constant_schedule(5.0), accepts_schedule=True)
  with pytest.raises(
    TypeError,
    match=r"`rule\(decay=<function.*is not a real number. It is a share.*"
    r"For a schedule of `decay`, use `optax.inject_hyperparams`\.$",
  ):
    check(optax.constant_schedule(0.5))


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad])
def test_traced_scalars_pass_because_they_have_no_value_yet(transform):
  def f(value):
    check(value)
    check_integer("rule", "every", value.astype(int), POSITIVE, "It counts.")
    return value

  transform(f)(jnp.full((1,) if transform is jax.vmap else (), 5.0))


@pytest.mark.parametrize(
  ("value", "shown"),
  [
    (1, "1"),
    (1.5, "1.5"),
    (-1e-9, "-1e-09"),
    (math.nan, "nan"),
    (math.inf, "inf"),
    (1 + 2**-52, r"1\.0000000000000002"),
    (2**31, "2147483648"),
    (np.float32(2), "2"),
    (jnp.array(-1.0), "-1"),
    (np.array(7), "7"),
  ],
)
def test_number_out_of_range_is_shown_with_its_range(value, shown):
  match = (
    rf"`rule\(decay={shown}\)` is out of range: `decay` must lie in \[0, 1\)\. It is a share\."
  )
  with pytest.raises(ValueError, match=match):
    check(value)


@pytest.mark.parametrize(
  ("value", "shown"),
  [
    (True, "True"),
    (np.bool_(True), "True"),
    (jnp.array(False), "Array"),
    (None, "None"),
    ("0.5", "'0.5'"),
    (0.5j, "0.5j"),
    (jnp.array(0.5j), "Array"),
    ([0.5], r"\[0.5\]"),
    (decimal.Decimal("0.5"), "Decimal"),
  ],
)
def test_what_is_no_real_number_is_a_type_error(value, shown):
  with pytest.raises(
    TypeError, match=rf"`rule\(decay=.*{shown}.*` is not a real number. It is a sh"
  ):
    check(value)


@pytest.mark.parametrize("value", [jnp.array([0.5]), np.zeros((2, 0)), np.full(3, 9.0)])
def test_array_must_be_a_scalar(value):
  match = (
    r"`rule\(decay=...\)` must be a scalar, but has shape \({}.*put `jax.vmap` around the call"
  )
  with pytest.raises(ValueError, match=match.format(value.shape[0])):
    check(value)
  with pytest.raises(ValueError, match=match.format(value.shape[0])):
    jax.jit(lambda value: check(value))(value)


def test_integer_is_an_integer():
  for value in (1, np.int8(3), jnp.uint32(5), np.array(2)):
    check_integer("rule", "every", value, POSITIVE, "It counts.")
  for value in (1.0, True, None, "1", np.float32(1), jnp.array(1.0), np.bool_(True)):
    with pytest.raises(TypeError, match=r"`rule\(every=.*` is not an integer. It counts."):
      check_integer("rule", "every", value, POSITIVE, "It counts.")
  with pytest.raises(
    ValueError, match=r"`rule\(every=0\)` is out of range.*\(0, inf\). It counts."
  ):
    check_integer("rule", "every", 0, POSITIVE, "It counts.")
  with pytest.raises(
    ValueError, match=r"`rule\(every=...\)` must be a scalar, but has shape \(2,\)"
  ):
    check_integer("rule", "every", np.array([1, 2]), POSITIVE, "It counts.")
  with pytest.raises(TypeError, match=r"is not an integer"):
    jax.jit(lambda x: check_integer("rule", "every", x, POSITIVE, "It counts."))(1.0)


@pytest.mark.parametrize(
  ("leaf", "want"),
  [
    (1.0, "float64"),
    (1, "int64"),
    (True, "bool"),
    (1j, "complex128"),
    (np.float32(1), "float32"),
    (jnp.bfloat16(1), "bfloat16"),
    ("text", None),
    (None, None),
  ],
)
def test_dtype_of_knows_arrays_and_numbers_and_nothing_else(leaf, want):
  assert dtype_of(leaf) == want


def test_floating_leaves_pass():
  leaves = [1.0, 1j, np.float16(1), jnp.ones(2, jnp.bfloat16), np.zeros(0, np.complex64), None]
  check_floating("rule", leaves, "parameters")
  check_floating("rule", {}, "parameters")
  jax.jit(lambda tree: check_floating("rule", tree, "parameters"))({"w": 1.0})
  check_floating("rule", jax.eval_shape(lambda: jnp.ones(3)), "parameters")


@pytest.mark.parametrize(
  ("leaf", "dtype"),
  [
    (1, "int64"),
    (True, "bool"),
    (np.uint8(1), "uint8"),
    ("text", "str"),
    (object(), "object"),
    (jax.random.key(0), "key<fry>"),
    (np.zeros(1, jax.dtypes.float0), "float0"),
  ],
)
def test_leaf_that_is_not_floating_is_named_with_its_dtype(leaf, dtype):
  match = rf"`rule` needs floating-point weights, but the leaf `\['w'\]\[1\]` is {dtype}\. Only .*"
  with pytest.raises(TypeError, match=match + "wrap the transform in `optax.masked`"):
    check_floating("rule", {"w": [1.0, leaf]}, "weights")
  with pytest.raises(TypeError, match=match + "have a gradient: leave it out."):
    check_floating("rule", {"w": [1.0, leaf]}, "weights", "leave it out.")


def same(tree, like):
  check_same_tree("rule", "gradient", tree, "parameters", like)


def test_same_trees_pass_whatever_their_dtypes():
  same({"w": jnp.ones(2), "n": None}, {"w": np.ones(2, np.float16), "n": None})
  same((1.0, jnp.ones((0, 3))), (2, np.zeros((0, 3))))
  same({}, {})


@pytest.mark.parametrize(
  ("tree", "like", "match"),
  [
    (
      {"W": 1.0},
      {"w": 1.0},
      r"`rule`: the gradient does not have the tree of the parameters. The gradient has no leaf "
      r"`\['w'\]`; it has `\['W'\]` instead. Pass a gradient with the same tree as the parameters.",
    ),
    ({"w": 1.0}, {"w": 1.0, "b": 2.0}, r"The gradient has no leaf `\['b'\]`. Pass"),
    ({"w": 1.0, "b": 2.0}, {"w": 1.0}, r"The gradient has `\['b'\]` besides. Pass"),
    ({"w": None}, {"w": 1.0}, r"has no leaf `\['w'\]`. Pass"),
    (
      {},
      dict.fromkeys("abcde", 1.0),
      r"has no leaf `\['a'\]`, `\['b'\]`, `\['c'\]` and 2 more. Pass",
    ),
    ([1.0], (1.0,), r"The containers differ: PyTreeDef\(\[\*\]\) against PyTreeDef\(\(\*,\)\)"),
    (1.0, [1.0], r"has no leaf `\[0\]`; it has `\(root\)` instead"),
  ],
)
def test_difference_of_trees_is_told_by_leaf(tree, like, match):
  with pytest.raises(ValueError, match=match):
    same(tree, like)


@pytest.mark.parametrize(
  ("leaf", "like", "match"),
  [
    (
      jnp.ones((2, 1)),
      jnp.ones(2, jnp.float32),
      r"`rule`: the gradient leaf `\['w'\]\[1\]` is float64\[2,1\], but float32\[2\] in the "
      r"parameters. Shapes are not broadcast: a gradient must have the shape of the param",
    ),
    (1.0, np.ones(1), r"`\['w'\]\[1\]` is float\[\], but float64\[1\] in the parameters"),
  ],
)
def test_difference_of_shapes_is_told_by_leaf(leaf, like, match):
  with pytest.raises(ValueError, match=match):
    same({"w": [0.0, leaf]}, {"w": [0.0, like]})
