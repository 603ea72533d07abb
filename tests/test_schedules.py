"""The decays against extended precision: accuracy, counts up to the last, and Optax's company."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kinkopt
from kinkopt.schedules import exponential_decay, inverse_time_decay, step_decay

LAST_COUNT = 2**31 - 1
FLOAT32_EPS = 2.0**-23
# The rounding of exp (1 ulp), of two products and of the three constants: 4 halves and a bit.
FLOAT32_BOUND = 4 * FLOAT32_EPS

SCHEDULES = {
  "step": lambda a0, x: step_decay(a0, x, every=7),
  "exponential": exponential_decay,
  "inverse_time": inverse_time_decay,
}
# One hyperparameter for each, at which the rate is alive after thousands of steps.
HYPERPARAMETER = {"step": 0.995, "exponential": 1e-3, "inverse_time": 1e-3}


def reference(name, a0, x, count):
  a0, x, count = np.longdouble(a0), np.longdouble(x), np.asarray(count, np.longdouble)
  if name == "step":
    return a0 * x ** np.floor(count / 7)
  return a0 * np.exp(-x * count) if name == "exponential" else a0 / (1 + x * count)


def counts_up_to(last):
  """Small ones, a spread over all orders of magnitude, and neighbours of the powers of two."""
  powers = [2**n + d for n in range(1, 31) for d in (-1, 0, 1)]
  spread = np.geomspace(1, max(last, 1), 3000).astype(np.int64)
  every = np.unique(np.r_[0:100, spread, powers, last - 1, last])
  return every[(every >= 0) & (every <= last)].astype(np.int32)


def relative_distance(got, want, above):
  got, want = np.asarray(got, np.longdouble), np.asarray(want, np.longdouble)
  alive = want > above
  assert alive.any()
  return float(np.max(np.abs(got[alive] / want[alive] - 1)))


@pytest.mark.parametrize("k", [0.0, 1e-9, 4e-8, 3e-6, 1e-5, 1e-3, 0.1, 1 / 3, 0.7, 17.3])
def test_exponential_decay_keeps_float32_accuracy_until_it_underflows(k):
  counts = counts_up_to(min(LAST_COUNT, int(90 / k) if k else LAST_COUNT))
  with jax.enable_x64(False):
    got = jax.jit(exponential_decay(0.1, k))(counts)
    traced = jax.jit(lambda k, count: exponential_decay(0.1, k)(count))(np.float32(k), counts)
  assert got.dtype == traced.dtype == np.float32
  above = 1e-37  # the smallest normal float32 is 1.2e-38
  want = reference("exponential", 0.1, k, counts)
  assert relative_distance(got, want, above) <= FLOAT32_BOUND
  want = reference("exponential", 0.1, np.float32(k), counts)
  assert relative_distance(traced, want, above) <= FLOAT32_BOUND


def test_exponential_decay_in_one_rounded_product_would_miss_that_accuracy():
  counts = counts_up_to(8_000_000)
  with jax.enable_x64(False):
    rounded = 0.1 * jnp.exp(-1e-5 * jnp.asarray(counts).astype(jnp.float32))
  want = reference("exponential", 0.1, 1e-5, counts)
  assert relative_distance(rounded, want, 1e-37) > 5 * FLOAT32_BOUND


def test_optax_form_of_exponential_decay_is_off_by_4e_3_at_2e5_steps():
  k, count = 1e-4, 200_000
  want = 0.1 * math.exp(-k * count)
  with jax.enable_x64(False):
    theirs = float(optax.exponential_decay(0.1, 1, math.exp(-k))(count))
    ours = float(exponential_decay(0.1, k)(count))
  assert abs(theirs / want - 1) > 4e-3
  assert abs(ours / want - 1) < FLOAT32_BOUND


@pytest.mark.parametrize("drop", [0.1, 0.25, 1 / 3, 0.5, 0.9, 0.99, 0.999, 1 - 1e-6, 1 - 2.9e-8, 1])
def test_step_decay_keeps_float32_accuracy_until_it_underflows(drop):
  last = int(min(LAST_COUNT, 84 / -math.log(drop))) if drop < 1 else LAST_COUNT
  counts = counts_up_to(last)
  with jax.enable_x64(False):
    got = jax.jit(step_decay(1.0, drop, every=1))(counts)
    traced = jax.jit(lambda drop, count: step_decay(1.0, drop, every=1)(count))(
      np.float32(drop), counts
    )
  above = 1e-36
  want = np.longdouble(drop) ** counts.astype(np.longdouble)
  assert relative_distance(got, want, above) <= FLOAT32_BOUND
  want = np.longdouble(np.float32(drop)) ** counts.astype(np.longdouble)
  assert relative_distance(traced, want, above) <= FLOAT32_BOUND


def test_step_decay_by_half_is_exact():
  with jax.enable_x64(False):
    got = step_decay(0.1, every=10)(jnp.arange(1000))
  want = np.ldexp(np.float32(0.1), -(np.arange(1000) // 10))
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("every", [1000, 2**16 + 1, 10**8, LAST_COUNT])
def test_stages_begin_at_their_step_at_every_size_of_count(every):
  last = LAST_COUNT // every
  stages = np.unique([1, last // 3, last // 2, last - 1, last])
  begins = every * stages[stages > 0]
  drop = math.exp(-20 / last)  # alive at the last stage, and each stage visible in float32
  with jax.enable_x64(False):
    schedule = jax.jit(step_decay(1.0, drop, every=every))
    before, at, end = (
      np.asarray(schedule(np.minimum(begins + shift, LAST_COUNT).astype(np.int32)))
      for shift in (-1, 0, every - 1)
    )
  assert (before > at).all()
  np.testing.assert_array_equal(at, end)


def test_optax_staircase_enters_stages_a_step_early_near_2_to_the_24():
  begins = 10 * np.arange(2**24 // 10, 2**24 // 10 + 1000)
  drop = 1 - 2.0**-16  # e**-25 after that many stages, and each still visible in float32
  with jax.enable_x64(False):
    theirs = optax.exponential_decay(1.0, 10, drop, staircase=True)
    ours = step_decay(1.0, drop, every=10)
    last, first = jnp.asarray(begins - 1), jnp.asarray(begins)
    assert (theirs(last) == theirs(first)).any()
    assert (ours(last) > ours(first)).all()
    assert (ours(first) == ours(first + 9)).all()


@pytest.mark.parametrize("k", [0.0, 1e-9, 1e-5, 0.1, 17.3, 1e6])
def test_inverse_time_decay_keeps_float32_accuracy_at_every_count(k):
  counts = counts_up_to(LAST_COUNT)
  with jax.enable_x64(False):
    got = jax.jit(inverse_time_decay(0.1, k))(counts)
  assert got.dtype == np.float32
  want = reference("inverse_time", 0.1, k, counts)
  assert relative_distance(got, want, 0) <= FLOAT32_BOUND


@pytest.mark.parametrize("name", SCHEDULES)
def test_float64_is_right_to_rounding(name):
  counts = counts_up_to(20_000)
  got = SCHEDULES[name](0.1, HYPERPARAMETER[name])(counts)
  assert got.dtype == np.float64
  want = reference(name, 0.1, HYPERPARAMETER[name], counts)
  # exp and pow turn the rounding of an argument of 20 into a relative error.
  np.testing.assert_allclose(got, want.astype(float), rtol=20 * 2.0**-52)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_rate_has_the_default_float_dtype_for_every_kind_of_count(name, x64):
  with jax.enable_x64(x64):
    schedule = SCHEDULES[name](jnp.bfloat16(0.5), HYPERPARAMETER[name])
    kinds = [int, np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, jnp.int32, jnp.uint16]
    rates = [schedule(kind(100)) for kind in kinds]
    rates += [jax.jit(schedule)(100), schedule(np.array(100)), schedule(jnp.array([100]))[0]]
    assert {(rate.dtype, rate.weak_type) for rate in rates} == {(jnp.result_type(float), False)}
    np.testing.assert_array_equal(rates, float(rates[0]))


def test_a_stage_may_be_longer_than_the_dtype_of_the_count_can_say():
  schedule = step_decay(1.0, 0.5, every=100_000)
  assert [float(schedule(kind(100))) for kind in (np.int8, np.uint8, np.int16)] == [1.0] * 3


@pytest.mark.parametrize("name", SCHEDULES)
def test_counts_below_zero_are_taken_as_zero(name):
  schedule = SCHEDULES[name](0.1, HYPERPARAMETER[name])
  assert schedule(-5) == schedule(0) == 0.1


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_member_of_a_population_gets_the_rate_of_a_lone_run(name):
  rates = np.float32([0.1, 0.2, 0.0])
  x = np.float32([HYPERPARAMETER[name], 0.5, 1e-3])
  counts = np.int32([0, 13, 1000])
  with jax.enable_x64(False):
    got = jax.jit(jax.vmap(lambda a, x, t: SCHEDULES[name](a, x)(t)))(rates, x, counts)
    lone = [SCHEDULES[name](a, x)(t) for a, x, t in zip(rates, x, counts)]
  np.testing.assert_allclose(got, lone, rtol=FLOAT32_BOUND)


def test_the_length_of_a_stage_may_be_traced():
  got = jax.vmap(lambda every: step_decay(1.0, 0.5, every=every)(100))(jnp.array([10, 50, 101]))
  np.testing.assert_array_equal(got, [0.5**10, 0.25, 1.0])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("x64", [False, True])
def test_derivatives_in_the_hyperparameters_are_right(name, x64):
  """Hypergradients pass through the split of the rate and the rounding of the base."""
  a0, x, count = 0.5, HYPERPARAMETER[name], 300
  stage = count // 7
  with jax.enable_x64(x64):
    got = jax.grad(lambda a0, x: SCHEDULES[name](a0, x)(count), argnums=(0, 1))(a0, x)
    # The four-fold bound: a product of four rounded factors at most.
    tolerance = 16 * float(jnp.finfo(got[0].dtype).eps)
  want = {
    "step": (x**stage, a0 * stage * x ** (stage - 1)),
    "exponential": (math.exp(-x * count), -a0 * count * math.exp(-x * count)),
    "inverse_time": (1 / (1 + x * count), -a0 * count / (1 + x * count) ** 2),
  }[name]
  np.testing.assert_allclose(got, want, rtol=tolerance)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_new_count_does_not_recompile(name):
  chex.clear_trace_counter()
  schedule = SCHEDULES[name](0.1, HYPERPARAMETER[name])

  @jax.jit
  @chex.assert_max_traces(n=1)
  def rate(count):
    return schedule(count)

  for count in (0, 1, 10_000):
    rate(jnp.int32(count))


@pytest.mark.parametrize("name", ["exponential", "inverse_time"])
def test_a_huge_decay_constant_still_starts_at_the_initial_rate(name):
  counts = np.int32([0, 1, LAST_COUNT])
  with jax.enable_x64(False):
    rate = jax.jit(lambda k, count: SCHEDULES[name](0.1, k)(count))
    for k in np.float32([1e30, 3e38, np.inf]):
      np.testing.assert_allclose(rate(k, counts), np.float32([0.1, 0, 0]), atol=1e-30)
    # float32 cannot hold the constant itself.
    got = SCHEDULES[name](0.1, 1e300)(counts)
  np.testing.assert_allclose(got, np.float32([0.1, 0, 0]), atol=1e-37)


def test_a_drop_that_float32_cannot_hold_still_starts_at_the_initial_rate():
  with jax.enable_x64(False):
    python = step_decay(0.1, 1e-50, every=1)(jnp.array([0, 1]))
    traced = jax.jit(lambda drop: step_decay(0.1, drop, every=1)(jnp.array([0, 1])))(0.0)
  np.testing.assert_allclose(python, np.float32([0.1, 0]), atol=1e-37)
  np.testing.assert_allclose(traced, np.float32([0.1, 0]), atol=1e-37)


def test_strict_promotion_rules_are_kept():
  with jax.numpy_dtype_promotion("strict"):
    for name, make in SCHEDULES.items():
      with jax.enable_x64(False):
        make(jnp.bfloat16(0.1), jnp.float32(HYPERPARAMETER[name]))(jnp.int32(5))
      make(jnp.bfloat16(0.1), jnp.float32(HYPERPARAMETER[name]))(jnp.int32(5))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("rule", [optax.sgd, kinkopt.rules.sgd, kinkopt.rules.momentum, optax.adam])
def test_schedule_is_a_learning_rate_of_both_libraries(name, rule):
  schedule = SCHEDULES[name](0.1, HYPERPARAMETER[name])
  params, gradient = jnp.ones(2), jnp.ones(2)

  def updates(learning_rate):
    optimizer = rule(learning_rate)

    def step(state, _):
      return optimizer.update(gradient, state, params)[::-1]

    return jax.lax.scan(step, optimizer.init(params), length=100)[1]

  table = jnp.asarray(schedule(np.arange(100)))
  got = updates(schedule)
  np.testing.assert_allclose(got, updates(lambda count: table[count]), rtol=1e-12)
  assert not np.array_equal(got, updates(0.1))


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_works_inside_join_schedules_and_inject_hyperparams(name):
  schedule = SCHEDULES[name](0.1, HYPERPARAMETER[name])
  joined = optax.join_schedules([optax.linear_schedule(0.0, 0.1, 10), schedule], [10])
  np.testing.assert_allclose(joined(jnp.int32(5)), 0.05)
  np.testing.assert_array_equal(joined(jnp.int32(910)), schedule(900))
  optimizer = optax.inject_hyperparams(kinkopt.rules.sgd)(learning_rate=joined)
  params = jnp.ones(2)
  state = optimizer.init(params)
  _, states = jax.lax.scan(
    lambda state, _: (optimizer.update(params, state)[1],) * 2, state, length=1000
  )
  rates = states.hyperparams["learning_rate"]
  np.testing.assert_allclose(rates[10:], schedule(np.arange(990)), rtol=1e-12)


REFUSALS = [
  (
    lambda: step_decay(0.1, 1.5, every=10),
    ValueError,
    r"`step_decay\(drop=1.5\)` is out of range: `drop` must lie in \(0, 1\]. It is the factor at "
    r"each stage, and above 1 it would raise the rate. For a drop by half write `drop=0.5`",
  ),
  (lambda: step_decay(0.1, 0, every=10), ValueError, r"drop=0\).*must lie in \(0, 1\]"),
  (lambda: step_decay(0.1, "half", every=10), TypeError, r"drop='half'\)` is not a real number"),
  (lambda: step_decay(-0.1, every=10), ValueError, r"init_value=-0.1\).*learning rate at step 0"),
  (lambda: step_decay(0.1, every=0), ValueError, r"every=0\).*\[1, .*write `every=1000`"),
  (lambda: step_decay(0.1, every=10.0), TypeError, r"every=10.0\)` is not an integer"),
  (lambda: step_decay(0.1, every=True), TypeError, r"every=True\)` is not an integer"),
  (
    lambda: step_decay(0.1, every=2**31),
    ValueError,
    r"every=2147483648\).*must lie in \[1, 2147483647\]",
  ),
  (lambda: step_decay(0.1, every=jnp.array([1, 2])), ValueError, r"has shape \(2,\)"),
  (
    lambda: exponential_decay(0.1, -1e-3),
    ValueError,
    r"`exponential_decay\(decay_constant=-0.001\)`.*must lie in \[0, inf\).*would raise the rate",
  ),
  (lambda: exponential_decay(math.nan, 1), ValueError, r"init_value=nan\).*must lie in \[0, inf\)"),
  (
    lambda: exponential_decay(optax.constant_schedule(0.1), 1e-3),
    TypeError,
    r"exponential_decay\(init_value=<function.*is not a real number",
  ),
  (
    lambda: inverse_time_decay(0.1, math.inf),
    ValueError,
    r"`inverse_time_decay\(decay_constant=inf\)` is out of range",
  ),
  (lambda: inverse_time_decay(None, 1.0), TypeError, r"init_value=None\)` is not a real number"),
  (
    lambda: inverse_time_decay(0.1, 1.0)(0.5),
    TypeError,
    r"made by `inverse_time_decay` needs an integer count.* with float64: .*jnp.arange\(1000\)",
  ),
  (lambda: step_decay(0.1, every=3)(jnp.float32(3)), TypeError, r"`step_decay`.* with float32"),
  (lambda: exponential_decay(0.1, 1.0)("7"), TypeError, r"`exponential_decay`.* with str"),
]


@pytest.mark.parametrize(("make", "error", "match"), REFUSALS)
def test_bad_input_is_refused_in_a_sentence(make, error, match):
  with pytest.raises(error, match=match):
    make()
