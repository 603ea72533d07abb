"""Bad input is refused in a sentence that names the rule, the value, the place and the way out."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt import rules

EXPORTS = [name for name in rules.__all__ if name != "lookahead_params"]


def make(name: str, **kwargs: object) -> optax.GradientTransformationExtraArgs:
  factory = getattr(rules, name)
  demanded = {"learning_rate": 0.1, "momentum": 0.9}
  names = inspect.signature(factory).parameters
  return factory(**{key: value for key, value in demanded.items() if key in names} | kwargs)


def exports_with(argument: str) -> list[str]:
  return [n for n in EXPORTS if argument in inspect.signature(getattr(rules, n)).parameters]


each_export = pytest.mark.parametrize("name", EXPORTS)


@pytest.mark.parametrize(
  ("value", "error", "match"),
  [
    (-0.1, ValueError, r"\(learning_rate=-0\.1\)` is out of range: .* in \[0, inf\)\. It multipl"),
    (float("nan"), ValueError, r"\(learning_rate=nan\)` is out of range"),
    (float("inf"), ValueError, r"\(learning_rate=inf\)` is out of range"),
    (jnp.float32(-1.0), ValueError, r"\(learning_rate=-1\)` is out of range"),
    (np.ones(2), ValueError, r"must be a scalar, but has shape \(2,\)\. .* put `jax.vmap` around"),
    (jnp.ones((1, 1)), ValueError, r"must be a scalar, but has shape \(1, 1\)"),
    ("0.1", TypeError, r"\(learning_rate='0\.1'\)` is not a real number\. It multiplies the gr"),
    (None, TypeError, r"\(learning_rate=None\)` is not a real number"),
    (1j, TypeError, r"\(learning_rate=1j\)` is not a real number"),
    (jnp.array(1j), TypeError, r"is not a real number"),
  ],
)
@pytest.mark.parametrize("name", exports_with("learning_rate"))
def test_bad_learning_rate_is_refused(name, value, error, match):
  with pytest.raises(
    error, match=rf"`{name}\(learning_rate=.*" if error is None else match
  ) as info:
    make(name, learning_rate=value)
  assert str(info.value).startswith(f"`{name}(learning_rate=")


@pytest.mark.parametrize("value", [1.0, -0.5, 2, float("nan"), jnp.float32(1.0), jnp.int32(1)])
@pytest.mark.parametrize("argument", ["momentum", "decay", "b1", "b2"])
def test_decay_outside_zero_and_one_is_refused(argument, value):
  names = exports_with(argument)
  assert names
  for name in names:
    number = f"{float(value):g}"
    with pytest.raises(
      ValueError, match=rf"`{name}\({argument}={number}\)` is out of range: "
    ) as e:
      make(name, **{argument: value})
    assert f"`{argument}` must lie in [0, 1). It is the share of the past" in str(e.value)


@pytest.mark.parametrize("argument", ["momentum", "decay", "b1", "b2", "eps"])
def test_a_schedule_of_anything_but_the_rate_is_refused_with_the_way_out(argument):
  for name in exports_with(argument):
    with pytest.raises(TypeError, match=f"schedule of `{argument}`, use `optax.inject_hyperparams"):
      make(name, **{argument: optax.constant_schedule(0.5)})


@pytest.mark.parametrize("argument", ["eps", "initial_accumulator_value"])
def test_negative_denominators_are_refused(argument):
  names = exports_with(argument)
  assert names
  for name in names:
    with pytest.raises(ValueError, match=rf"`{name}\({argument}=-1e-08\)` is out of range: "):
      make(name, **{argument: -1e-8})
    with pytest.raises(TypeError, match=rf"`{name}\({argument}='x'\)` is not a real number"):
      make(name, **{argument: "x"})


@each_export
def test_integer_parameter_is_refused_at_init(name):
  params = {"w": jnp.ones(2), "count": jnp.arange(3, dtype=jnp.int32)}
  match = (
    rf"`{name}` needs floating-point parameters, but the leaf `\['count'\]` is int32\. .*masked"
  )
  with pytest.raises(TypeError, match=match):
    make(name).init(params)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.uint8])
@each_export
def test_integer_gradient_is_refused(name, dtype):
  tx, params = make(name), {"w": jnp.ones(2)}
  gradient = {"w": jnp.ones(2, dtype)}
  match = (
    rf"`{name}` needs floating-point gradients, but the leaf `\['w'\]` is {jnp.dtype(dtype)}\."
  )
  with pytest.raises(TypeError, match=match):
    tx.update(gradient, tx.init(params), params)


@each_export
def test_gradient_of_another_tree_is_refused(name):
  tx, params = make(name), {"w": jnp.ones(2), "b": jnp.ones(1)}
  state = tx.init(params)
  update = functools.partial(tx.update, state=state, params=params)
  match = (
    rf"`{name}`: the gradient does not have the tree of the parameters\. The gradient has no leaf "
    r"`\['w'\]`; it has `\['W'\]` instead\. Pass a gradient with the same tree as the parameters\."
  )
  with pytest.raises(ValueError, match=match):
    update({"W": jnp.ones(2), "b": jnp.ones(1)})
  with pytest.raises(ValueError, match=r"has no leaf `\['w'\]`\. Pass"):
    update({"w": None, "b": jnp.ones(1)})
  with pytest.raises(ValueError, match=r"has `\['c'\]` besides\."):
    update({"w": jnp.ones(2), "b": jnp.ones(1), "c": jnp.ones(1)})
  match = (
    rf"`{name}`: the gradient leaf `\['w'\]` is float64\[1\], but float64\[2\] in the parameters"
  )
  with pytest.raises(ValueError, match=match):
    update({"w": jnp.ones(1), "b": jnp.ones(1)})


def test_gradient_in_another_container_is_refused():
  tx, params = rules.sgd(0.1), (jnp.ones(2), jnp.ones(1))
  with pytest.raises(ValueError, match=r"The containers differ: PyTreeDef\(\[\*, \*\]\) against"):
    tx.update(list(params), tx.init(params), params)


@pytest.mark.parametrize(
  ("name", "argument"),
  [
    (name, argument)
    for argument in ("accumulator_dtype", "mu_dtype")
    for name in exports_with(argument)
    if "adagrad" not in name and "rmsprop" not in name
  ],
)
def test_complex_gradient_is_not_gathered_in_a_real_dtype(name, argument):
  tx = make(name, **{argument: jnp.float32})
  params = {"z": jnp.ones(2, jnp.complex64)}
  match = (
    rf"`{name}` cannot gather the complex64 gradient leaf `\['z'\]` in float32: its imaginary part "
    r"would be lost\. Pass a complex accumulator dtype, or None for the parameters' own\."
  )
  with pytest.raises(TypeError, match=match):
    tx.update(params, tx.init(params), params)


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "scale_by_adagrad", "scale_by_rmsprop"])
def test_second_moments_of_a_complex_gradient_may_be_asked_for_by_either_dtype(name):
  params = jnp.ones(2, jnp.complex64)
  for dtype in (jnp.float32, jnp.complex64):
    tx = make(name, accumulator_dtype=dtype)
    _, state = tx.update(params, tx.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.ndim} == {jnp.dtype("float32")}


def test_lookahead_without_its_state_is_refused():
  params = jnp.ones(2)
  state = rules.nesterov(0.1).init(params)
  match = r"found no state of `nesterov_lookahead` in `opt_state`, .* with `nesterov`, the gradient"
  with pytest.raises(ValueError, match=match):
    rules.lookahead_params(params, state)


def test_lookahead_of_other_parameters_is_refused():
  state = rules.nesterov_lookahead(0.1).init({"w": jnp.ones(2)})
  match = (
    r"`lookahead_params`: the parameter tree does not have the tree of the velocity\. "
    r"The parameter tree has no leaf `\['w'\]`; it has `\['b'\]` instead\."
  )
  with pytest.raises(ValueError, match=match):
    rules.lookahead_params({"b": jnp.ones(2)}, state)
  match = r"the parameter tree leaf `\['w'\]` is float64\[3\], but float64\[2\] in the velocity"
  with pytest.raises(ValueError, match=match):
    rules.lookahead_params({"w": jnp.ones(3)}, state)
  flat = optax.flatten(rules.nesterov_lookahead(0.1)).init({"w": jnp.ones(2)})
  with pytest.raises(ValueError, match="the parameter tree does not have the tree of the velocity"):
    rules.lookahead_params({"w": jnp.ones(2)}, flat)


def test_traced_hyperparameters_are_not_checked():
  """They have no value yet: a population may hold a member with a bad one, and only it suffers."""

  def update(rate):
    tx = rules.sgd(rate)
    return tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0]

  updates = jax.vmap(update)(jnp.array([0.1, -0.1, jnp.nan]))
  np.testing.assert_array_equal(updates, [[-0.1, -0.1], [0.1, 0.1], [np.nan, np.nan]])
