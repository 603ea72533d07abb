"""A minimisation ends where it should, says why, and has the derivative of where it ends."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kinkopt
from kinkopt.newton import GaussNewton, Stop, minimize, newton, scale_by_newton


def rosenbrock(x, a=1.0):
  return (a - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


START = jnp.array([-1.2, 1.0])


def zoom(first):
  search = optax.scale_by_zoom_linesearch(30, initial_guess_strategy="one")
  return optax.chain(first, optax.scale(-1.0), search)


OPTIMIZERS = {
  "newton": newton(),
  "scale_by_newton, zoom": zoom(scale_by_newton()),
  "lbfgs": optax.lbfgs(),
  "adam": optax.adam(0.05),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_any_chain_reaches_the_minimum_and_says_so(optimizer):
  found = minimize(rosenbrock, START, optimizer, max_steps=5000)
  assert found.reason is Stop.CONVERGED
  np.testing.assert_allclose(found.params, [1, 1], atol=1e-6)
  largest = jnp.abs(jax.grad(rosenbrock)(found.params)).max()
  np.testing.assert_allclose(found.gradient_size, largest, rtol=1e-5)
  assert found.gradient_size <= 2**-26
  np.testing.assert_allclose(found.value, rosenbrock(found.params), rtol=1e-9, atol=1e-20)


def test_its_steps_are_those_of_a_loop_by_hand():
  optimizer = OPTIMIZERS["lbfgs"]
  params, state = START, optimizer.init(START)
  for _ in range(7):
    value, grads = jax.value_and_grad(rosenbrock)(params)
    updates, state = optimizer.update(
      grads, state, params, value=value, grad=grads, value_fn=rosenbrock
    )
    params = optax.apply_updates(params, updates)
  found = minimize(rosenbrock, START, optimizer, max_steps=7)
  assert (found.reason, found.steps) == (Stop.MAX_STEPS, 7)
  np.testing.assert_allclose(found.params, params, rtol=1e-9)
  chex.assert_trees_all_equal_shapes_and_dtypes(found.state, state)


def test_trees_complex_numbers_and_what_else_the_function_returns():
  target = 1.0 - 2.0j

  def fun(p, shift):
    return jnp.abs(p["z"] - target) ** 4 + jnp.sum((p["w"] - shift) ** 2), {"sum": p["w"].sum()}

  start = {"z": jnp.array(0.5 + 0.5j), "w": jnp.ones((2, 3), jnp.float32), "none": None}
  found = minimize(fun, start, data={"shift": 3.0}, has_aux=True)
  assert found.reason is Stop.CONVERGED
  np.testing.assert_allclose(found.params["z"], target, atol=1e-2)  # flat: the fourth power
  np.testing.assert_allclose(found.params["w"], 3, rtol=1e-6)
  np.testing.assert_allclose(found.aux["sum"], 18, rtol=1e-6)
  chex.assert_trees_all_equal_shapes_and_dtypes(found.params, start)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_low_precision_ends_and_keeps_its_dtype(dtype):
  target = jnp.array([1.0, -2.0], dtype)
  found = minimize(lambda x: jnp.sum((x - target) ** 2), jnp.zeros(2, dtype))
  assert found.params.dtype == dtype
  assert found.reason in (Stop.CONVERGED, Stop.PRECISION_FLOOR)
  np.testing.assert_allclose(
    found.params.astype(float), target.astype(float), rtol=2 * float(jnp.finfo(dtype).eps)
  )


def wrong(x):
  """Gives a loss with a planted error: its gradient has the wrong sign."""

  @jax.custom_vjp
  def loss(x):
    return jnp.sum((x - 1) ** 2)

  loss.defvjp(lambda x: (loss(x), x), lambda x, ct: (-2 * ct * (x - 1),))
  return loss(x)


REASONS = {
  "the start is the minimum": (rosenbrock, jnp.ones(2), {}, Stop.CONVERGED, 0),
  "no step is allowed": (rosenbrock, START, {"max_steps": 0}, Stop.MAX_STEPS, 0),
  "three steps are": (rosenbrock, START, {"max_steps": 3}, Stop.MAX_STEPS, 3),
  "the gradient is wrong": (
    wrong,
    START,
    {"optimizer": zoom(optax.identity())},
    Stop.NO_DESCENT,
    None,
  ),
  "the start is NaN": (rosenbrock, START * jnp.nan, {}, Stop.NOT_FINITE, 0),
  "the steps are too long": (
    lambda x: jnp.sum(jnp.exp(x**2)),
    START,
    {"optimizer": optax.sgd(10.0)},
    Stop.NOT_FINITE,
    None,
  ),
  "the sign is missing": (
    rosenbrock,
    START,
    {"optimizer": scale_by_newton()},
    Stop.UPHILL,
    10,
  ),
  "nothing satisfies it": (
    lambda x: rosenbrock(x, 2**0.5) + 1e3,
    START,
    {"tol": 0.0},
    Stop.PRECISION_FLOOR,
    None,
  ),
  "nothing satisfies L-BFGS": (
    lambda x: rosenbrock(x, 2**0.5) + 1e3,
    START,
    {"tol": 0.0, "optimizer": optax.lbfgs()},
    Stop.PRECISION_FLOOR,
    None,
  ),
}


@pytest.mark.parametrize(
  ("fun", "start", "options", "reason", "steps"), REASONS.values(), ids=REASONS
)
def test_it_says_why_it_ended(fun, start, options, reason, steps):
  found = minimize(fun, start, **{"optimizer": newton(), **options})
  if reason is Stop.PRECISION_FLOOR and found.gradient_size == 0:
    reason = Stop.CONVERGED  # rounding is kind, as with jaxlib 0.12 at optimization level 0
  assert found.reason is reason
  assert steps is None or found.steps == steps
  if not jnp.isnan(start).any():
    assert jnp.isfinite(found.params).all()
    assert jnp.isfinite(found.value)


def test_at_the_floor_of_precision_the_minimum_is_found_nonetheless():
  found = minimize(lambda x: rosenbrock(x, 2**0.5) + 1e3, START, tol=0.0)
  np.testing.assert_allclose(found.params, [2**0.5, 2], atol=1e-9)
  assert found.steps < 40


def test_each_reason_has_its_code_and_its_sentence():
  assert [stop.code for stop in Stop] == list(range(len(Stop)))
  assert len({stop.value for stop in Stop}) == len(Stop)
  assert all(stop.value.endswith(".") and stop.value[0].isupper() for stop in Stop)


def test_an_empty_tree_is_at_its_minimum():
  found = minimize(lambda p: jnp.array(2.0), {})
  assert (found.reason, found.value, found.params) == (Stop.CONVERGED, 2, {})


def test_the_callback_sees_each_step():
  seen = []
  found = minimize(rosenbrock, START, callback=lambda *row: seen.append(row))
  jax.effects_barrier()
  assert sorted(int(step) for step, _, _ in seen) == list(range(1, int(found.steps) + 1))
  assert min(float(size) for _, _, size in seen) == found.gradient_size


def test_the_second_call_compiles_nothing(compilations):
  for a in (1.0, 2.0, 3.0):
    minimize(rosenbrock, START, OPTIMIZERS["newton"], data={"a": a}, tol=a * 1e-9)
  assert compilations("_minimize") == 1


def ridge(w, X, y, strength):
  return jnp.sum((X @ w - y) ** 2) + strength * jnp.sum(w**2)


def ridge_problem(lanes=()):
  rng = np.random.default_rng(0)
  X = rng.normal(size=(*lanes, 8, 3))
  return X, rng.normal(size=(*lanes, 8))


def ridge_formula(X, y, strength):
  return jnp.linalg.solve(X.T @ X + strength * jnp.eye(3), X.T @ y)


@pytest.mark.parametrize("derivative", [jax.jacrev, jax.jacfwd])
@pytest.mark.parametrize("optimizer", ["newton", "lbfgs"])
def test_the_minimiser_has_the_derivatives_of_the_formula(derivative, optimizer):
  X, y = ridge_problem()

  def solution(X, y, strength):
    data = {"X": X, "y": y, "strength": strength}
    return minimize(ridge, jnp.zeros(3), OPTIMIZERS[optimizer], data=data, tol=1e-11).params

  got = derivative(solution, argnums=(0, 1, 2))(X, y, 0.7)
  want = derivative(ridge_formula, argnums=(0, 1, 2))(X, y, 0.7)
  chex.assert_trees_all_close(got, want, rtol=1e-8, atol=1e-10)


def test_the_value_has_a_derivative_too_and_second_ones_exist():
  X, y = ridge_problem()

  def value(strength):  # closed over, not handed on as data
    return minimize(lambda w: ridge(w, X, y, strength), jnp.zeros(3)).value

  formula = lambda s: ridge(ridge_formula(X, y, s), X, y, s)  # noqa: E731
  np.testing.assert_allclose(jax.grad(value)(0.7), jax.grad(formula)(0.7), rtol=1e-8)
  np.testing.assert_allclose(jax.hessian(value)(0.7), jax.hessian(formula)(0.7), rtol=1e-7)


def test_its_derivative_passes_the_check_against_frozen_differences():
  def minimiser(a):
    return minimize(rosenbrock, jnp.zeros(2), data={"a": a}, tol=1e-13).params

  step = 1e-4
  difference = (minimiser(2 + step) - minimiser(2 - step)) / (2 * step)
  np.testing.assert_allclose(jax.jacrev(minimiser)(2.0), difference, rtol=1e-6)


def test_the_gradient_check_sees_through_it():
  X, y = ridge_problem()
  optimizer = optax.sgd(0.03)  # the check freezes the loop too, and this is the smallest

  def summary(X, strength):
    data = {"X": X, "y": y, "strength": strength}
    found = minimize(ridge, jnp.zeros(3), optimizer, data=data, tol=1e-13)
    return jnp.sum(jnp.sin(found.params))

  assert kinkopt.check_gradient(summary, X, 0.5, argnums=(0, 1)).ok
  planted = lambda *args: jax.tree.map(lambda g: 1.01 * g, jax.grad(summary, (0, 1))(*args))  # noqa: E731
  assert not kinkopt.check_gradient(summary, X, 0.5, argnums=(0, 1), gradient=planted).ok


def test_where_the_minimum_is_not_isolated_its_derivative_is_nan():
  def minimiser(a):
    return minimize(lambda x: (x[0] + x[1] - a) ** 2, jnp.zeros(2)).params

  np.testing.assert_allclose(jnp.sum(minimiser(3.0)), 3, rtol=1e-8)
  assert jnp.isnan(jax.jacrev(minimiser)(3.0)).all()


def test_many_parameters_are_differentiated_without_a_matrix():
  weights = jnp.linspace(1.0, 3.0, 2500)

  def minimiser(a):
    fun = lambda x: jnp.sum(weights * (x - a) ** 2) + jnp.sum(x * jnp.roll(x, 1)) / 4  # noqa: E731
    return minimize(fun, jnp.zeros(2500), optax.lbfgs(), tol=1e-9).params.sum()

  matrix = (
    2 * jnp.diag(weights) + (jnp.roll(jnp.eye(2500), 1, 0) + jnp.roll(jnp.eye(2500), -1, 0)) / 4
  )
  want = jnp.sum(jnp.linalg.solve(matrix, 2 * weights))
  np.testing.assert_allclose(jax.grad(minimiser)(1.5), want, rtol=1e-7)


@functools.partial(jax.jit, static_argnames=("batch_size", "optimizer"))
def solve_lanes(a, starts, batch_size=None, optimizer=OPTIMIZERS["newton"]):
  return jax.vmap(
    lambda a, start: minimize(
      rosenbrock, start, optimizer, data={"a": a}, batch_size=batch_size, max_steps=300
    )
  )(a, starts)


def lanes(number):
  rng = np.random.default_rng(1)
  return rng.uniform(0.5, 3, number), rng.normal(size=(number, 2))


@pytest.mark.parametrize(
  ("batch_size", "optimizer"),
  [*((size, "newton") for size in (None, 1, 3, 16, 17, 100)), (None, "lbfgs"), (3, "lbfgs")],
)
def test_each_lane_of_a_batch_stops_by_itself_where_it_would_alone(batch_size, optimizer):
  a, starts = lanes(17)
  found = solve_lanes(a, starts, batch_size, OPTIMIZERS[optimizer])
  assert (found.stopped == Stop.CONVERGED.code).all()
  assert len(np.unique(found.steps)) > 4
  for lane in range(17):
    alone = minimize(rosenbrock, starts[lane], OPTIMIZERS[optimizer], data={"a": a[lane]})
    assert found.steps[lane] == alone.steps
    np.testing.assert_allclose(found.params[lane], alone.params, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_poisoned_lanes_change_no_bit_of_the_others(batch_size):
  a, starts = lanes(100)
  clean = solve_lanes(a, starts, batch_size)
  sick = [13, 57, 99]
  a[sick[0]], starts[sick[1]], starts[sick[2]] = np.nan, np.inf, 1e200
  poisoned = solve_lanes(a, starts, batch_size)
  well = np.delete(np.arange(100), sick)
  jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[well], y[well]), poisoned, clean)
  assert (poisoned.stopped[np.array(sick)] == Stop.NOT_FINITE.code).all()


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_lanes_that_begin_where_they_end_take_no_step(batch_size):
  a, starts = lanes(17)
  starts[5:9] = np.stack([a[5:9], a[5:9] ** 2], 1)
  starts[11] = np.nan
  found = solve_lanes(a, starts, batch_size)
  assert (found.steps[np.array([5, 6, 7, 8, 11])] == 0).all()
  assert (np.delete(found.steps, [5, 6, 7, 8, 11]) > 0).all()
  np.testing.assert_array_equal(found.params[5:9], starts[5:9])


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_what_is_closed_over_may_have_lanes_and_so_may_its_derivative(batch_size):
  X, y = ridge_problem((4,))

  def solution(X, y, strength):
    residual = lambda w: jnp.concatenate([X @ w - y, jnp.sqrt(strength) * w])  # noqa: E731
    optimizer = newton(curvature=GaussNewton(residual, lambda r: jnp.sum(r**2)))
    return minimize(
      lambda w: jnp.sum(residual(w) ** 2), jnp.zeros(3), optimizer, batch_size=batch_size
    )

  found = jax.vmap(solution, (0, 0, None))(X, y, 0.7)
  want = jax.vmap(ridge_formula, (0, 0, None))(X, y, 0.7)
  np.testing.assert_allclose(found.params, want, rtol=1e-9)
  assert (found.steps == 1).all()
  slope = lambda f: jax.vmap(jax.jacrev(f, argnums=2), (0, 0, None))(X, y, 0.7)  # noqa: E731
  np.testing.assert_allclose(
    slope(lambda *args: solution(*args).params), slope(ridge_formula), rtol=1e-8
  )


def test_batches_of_batches():
  a, starts = lanes(6)
  found = jax.vmap(lambda a, s: solve_lanes(a, s, 2))(a.reshape(2, 3), starts.reshape(2, 3, 2))
  flat = solve_lanes(a, starts, 2)
  np.testing.assert_allclose(found.params.reshape(6, 2), flat.params, rtol=1e-9)


@pytest.mark.parametrize(
  ("options", "error", "gist"),
  [
    ({"tol": -1.0}, ValueError, r"minimize\(tol=-1\)` is out of range.*gradient may exceed"),
    ({"tol": "1"}, TypeError, r"minimize\(tol='1'\)` is not a real number"),
    ({"max_steps": -1}, ValueError, r"minimize\(max_steps=-1\)` is out of range.*counts updates"),
    ({"max_steps": 1.5}, TypeError, r"minimize\(max_steps=1.5\)` is not an integer"),
    ({"batch_size": 0}, ValueError, r"minimize\(batch_size=0\)` is out of range.*at once"),
    (
      {"optimizer": newton},
      TypeError,
      r"minimize\(optimizer=...\)` must be an Optax transform, but is <function newton",
    ),
    (
      {"params": jnp.arange(2)},
      TypeError,
      r"`minimize` needs floating-point parameters.*close over counters and masks, or hand them on",
    ),
    (
      {"fun": lambda x: x},
      TypeError,
      r"`fun` must return one real number to minimise, but returned an array of shape \(2,\)",
    ),
    (
      {"fun": lambda x: (jnp.sum(x), x)},
      TypeError,
      "`fun` must return one real number to minimise, but returned a tuple. Return the loss alone",
    ),
  ],
)
def test_mistakes_are_named(options, error, gist):
  with pytest.raises(error, match=gist):
    minimize(**{"fun": rosenbrock, "params": START, **options})


def test_a_traced_reason_and_a_batch_of_them_are_refused():
  with pytest.raises(ValueError, match=r"no value yet inside `jit`.*solution.stopped =="):
    jax.jit(lambda x: minimize(rosenbrock, x).reason.code)(START)
  with pytest.raises(ValueError, match=r"a batch of solutions of shape \(3,\). Take one member"):
    _ = solve_lanes(*lanes(3)).reason


def test_the_front_door_hands_it_on():
  assert kinkopt.minimize is minimize
