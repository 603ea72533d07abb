"""The rule that is wrong is named, with its line and argument, and no other."""

import functools

import jax
import jax.numpy as jnp
import pytest

from kinkopt.gradcheck import _blame, check_gradient
from kinkopt.gradcheck._directions import seed_of
from kinkopt.trace._program import write_program

SEED = jnp.asarray(seed_of(None))


def find_blame(fun, args, argnums, **how):
  return _blame.find_blame(write_program("find_blame", fun, args, argnums), SEED, **how)


@jax.custom_vjp
def softplus(x, scale):
  return jnp.log1p(jnp.exp(x)) * scale


softplus.defvjp(
  lambda x, scale: (softplus(x, scale), (x, scale)),
  lambda r, ct: (-ct * jax.nn.sigmoid(r[0]) * r[1], ct * jnp.log1p(jnp.exp(r[0]))),
)


@jax.custom_jvp
def sine(x):
  return jnp.sin(x)


sine.defjvp(lambda p, t: (sine(*p), jnp.cos(p[0]) * t[0]))


@jax.custom_jvp
def too_steep(x):
  return jnp.sin(x)


too_steep.defjvp(lambda p, t: (too_steep(*p), 1.5 * jnp.cos(p[0]) * t[0]))


def iterated(factor):
  @jax.custom_vjp
  def loop(x):
    start = x, 0
    return jax.lax.while_loop(lambda s: s[1] < 2, lambda s: (jnp.sin(s[0]), s[1] + 1), start)[0]

  loop.defvjp(
    lambda x: (loop(x), x), lambda x, ct: (factor * ct * jnp.cos(jnp.sin(x)) * jnp.cos(x),)
  )
  return loop


def named(fun, *args):
  run = jax.jit(lambda *args: find_blame(fun, args, range(len(args))))
  return tuple(f.sentence for f in run(*args).findings(1e-7))


X = jnp.array([0.3, 1.2, -0.4], jnp.float32)
PLACES = {
  "alone": softplus,
  "under jit": jax.jit(softplus),
  "under vmap": jax.vmap(softplus),
  "in a scan": lambda x, s: jax.lax.scan(lambda c, _: (softplus(c, s), None), x, None, length=3)[0],
  "in a branch": lambda x, s: jax.lax.cond(x[0] > 0, softplus, lambda x, s: x * s, x, s),
  "in a while": lambda x, s: jax.lax.fori_loop(0, jnp.int32(2), lambda _, c: softplus(c, s), x),
  "in checkpoint": jax.checkpoint(softplus),
  "in a right rule": lambda x, s: sine(softplus(sine(x), s)),
}


@pytest.mark.parametrize("place", PLACES)
def test_it_is_found_where_it_stands(place):
  (sentence,) = named(PLACES[place], X, X + 2)
  line = softplus.fun.__code__.co_firstlineno
  where = f"the rule of `softplus` (test_blame.py:{line}) is not its derivative in `x`"
  assert sentence.startswith(where)


def test_the_argument_is_called_by_its_name():
  (sentence,) = named(lambda x: sine(too_steep(x)), X)
  assert "`too_steep`" in sentence
  assert sentence.endswith("in `x`: off by 3.3e-01")


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap, jax.checkpoint])
def test_a_leaf_of_an_argument_is_called_by_its_path(wrap):
  @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
  def scaled(factor, params, *x):
    return factor * params["w"] * x[0]

  def backward(factor, saved, ct):
    w, x = saved
    return {"w": ct * x}, factor * ct * w

  scaled.defvjp(lambda factor, p, *x: (scaled(factor, p, *x), (p["w"], *x)), backward)
  (sentence,) = named(wrap(lambda w, x: scaled(3.0, {"w": w}, x)), X, X + 2)
  assert "is not its derivative in `p['w']`: off by" in sentence


def test_several_are_named_in_the_order_of_the_program():
  found = named(lambda x: softplus(too_steep(x), x), X)
  assert ["too_steep" in sentence for sentence in found] == [True, False]


def test_a_rule_that_is_wrong_twice_is_named_once_with_its_worst_error():
  def fun(x):
    return too_steep(x) + too_steep(2 * x)

  (sentence,) = named(fun, X)
  assert sentence.endswith("in `x`: off by 3.3e-01")


def test_nobody_is_blamed_for_an_argument_that_does_not_move():
  scale = jnp.full(3, 2.0)
  run = jax.jit(lambda x: find_blame(lambda s: sine(softplus(x, s)), (scale,), (0,)))
  assert run(X).findings(1e-7) == ()


@pytest.mark.parametrize("fun", [sine, jax.nn.relu, jax.nn.softplus, jnp.sin, iterated(1.0)])
def test_nobody_is_blamed_for_a_right_rule(fun):
  assert named(fun, X) == ()


def test_a_rule_for_a_loop_is_judged_forwards():
  (sentence,) = named(iterated(1.5), X)
  assert "`loop`" in sentence


def maximum(gradient):
  @jax.custom_vjp
  def top(x):
    return jnp.max(x)

  top.defvjp(lambda x: (top(x), x), lambda x, ct: (ct * gradient(x),))
  return top


def is_tied(x):
  return (x == x.max()) * 1.0


CONVENTIONS = {
  "each tied entry gets all": (is_tied, False),
  "they share": (lambda x: is_tied(x) / is_tied(x).sum(), True),
  "the first gets all": (lambda x: jnp.zeros_like(x).at[jnp.argmax(x)].set(1), True),
  "the loser gets it": (lambda x: (x < x.max()) * 1.0, False),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_on_a_kink_a_convention_is_told_from_an_error(name):
  gradient, is_right = CONVENTIONS[name]
  x = jnp.array([1.0, 1.0, 0.5])
  found = jax.jit(lambda x: find_blame(maximum(gradient), (x,), (0,), is_on_kink=True))(x)
  assert len(found.findings(1e-7)) == (not is_right)
  report = check_gradient(maximum(gradient), x)
  assert report.ok == is_right
  if not is_right:
    assert ", on the kink itself" in report.leaves[0].detail or name == "the loser gets it"
    assert "the rule of `top`" in report.blame[0]


@jax.custom_vjp
def times(w, x):
  return w * x


times.defvjp(
  lambda w, x: (times(w, x), (w, x)),
  lambda saved, ct: (jnp.where(saved[0] == 0, 0.0, ct * saved[1]), ct * saved[0]),
)


def test_a_rule_that_is_wrong_on_the_kink_alone_is_found():
  w = jnp.array([0.0, 1.0, -1.0])
  report = check_gradient(lambda w: jnp.sum(jnp.maximum(times(w, jnp.arange(1.0, 4.0)), 0)), w)
  assert "`(root)[0]` 0 for 0.5, on the kink itself" in report.leaves[0].detail
  assert report.blame[0].startswith("on the kink, the rule of `times`")


def test_on_a_kink_the_conventions_of_libraries_are_no_errors():
  def fun(p):
    return jnp.sum(jax.nn.relu(times(p["w"], jnp.arange(1.0, 4.0)) * p["a"]) * p["b"])

  point = {"a": jnp.ones(3), "b": jnp.ones(3), "w": jnp.array([0.0, 1.0, -1.0])}
  report = check_gradient(fun, point)
  assert all(leaf.verdict.is_pass for leaf in report.leaves[:2])


def test_constants_of_a_handed_gradient_that_cancel_are_rounding():
  def fun(x):
    return jnp.sum(jnp.maximum(0.9 * (x - X), -0.1 * (x - X)))

  def gradient(x):
    return jnp.sum(jnp.where(x > X, 0.9, -0.1)) - jnp.float32(0.7)

  x = jnp.float32(0.7)
  with jax.enable_x64(False):
    assert check_gradient(lambda x: fun(x) - jnp.float32(0.7) * x, x, gradient=gradient).ok


def test_a_library_that_is_smooth_by_its_rule_alone_blames_nobody():
  @jax.custom_jvp
  def softened(x):
    return jnp.logaddexp(x, 0.0)

  softened.defjvp(lambda p, t: (softened(*p), jax.nn.sigmoid(p[0]) * t[0]))
  x = jnp.array([0.0, 1.0, -1.0])
  assert named(softened, x) == ()
  assert check_gradient(lambda x: jnp.sum(softened(x) ** 2), x).ok
