"""The step on real losses: quadratics in one step, quadratic convergence, never a maximum."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt.newton import Outcome, newton, outcome, scale_by_newton


def backtracking():
  return optax.scale_by_backtracking_linesearch(max_backtracking_steps=40)


def zoom():
  return optax.scale_by_zoom_linesearch(max_linesearch_steps=40, initial_guess_strategy="one")


LINE_SEARCHES = [backtracking, zoom]


def minimise(tx, loss, params, steps):
  """Runs a chain under `scan`; gives the last parameters, and all states and iterates."""

  def step(carry, _):
    params, state = carry
    value, grads = jax.value_and_grad(loss)(params)
    grads = optax.tree.conj(grads)
    updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)
    params = optax.apply_updates(params, updates)
    return (params, state), (state, params)

  run = jax.jit(lambda params: jax.lax.scan(step, (params, tx.init(params)), length=steps))
  (last, _), (states, path) = run(params)
  return last, states, path


def outcome_at(states, step) -> Outcome:
  return outcome(jax.tree.map(lambda leaf: leaf[step], states))


def random_quadratic(n, dtype):
  """Gives a loss with a known minimum, its condition number, and a start."""
  rng = np.random.default_rng(n)
  condition = float(jnp.finfo(dtype).eps) ** -0.25  # 54 in float32, 8192 in float64
  eigenvalues = np.geomspace(1, 1 / condition, n)
  Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
  A = ((Q * eigenvalues) @ Q.T).astype(dtype)
  minimum = rng.normal(size=n).astype(dtype)
  start = rng.normal(size=n).astype(dtype)
  return lambda x: 0.5 * (x - minimum) @ A @ (x - minimum), condition, minimum, start


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 10, 100])
def test_a_quadratic_is_solved_in_one_step_to_rounding(n, dtype):
  loss, condition, minimum, start = random_quadratic(n, dtype)
  first, states, _ = minimise(newton(), loss, start, steps=1)
  # Gradient and solve each lose condition * n * machine_eps of the distance; in practice sqrt(n).
  bound = 4 * np.sqrt(n) * condition * float(jnp.finfo(dtype).eps)
  assert np.linalg.norm(first - minimum) <= bound * np.linalg.norm(start - minimum)
  assert first.dtype == dtype
  assert outcome_at(states, -1) is Outcome.NEWTON


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_quadratic_over_a_tree_is_solved_in_one_step_to_rounding(dtype):
  flat_loss, condition, minimum, start = random_quadratic(12, dtype)

  def unravel(x):
    return {"w": x[:6].reshape(2, 3), "b": [x[6:10], x[10:10], x[10]], "s": (x[11],)}

  def ravel(p):
    return jnp.concatenate([p["w"].ravel(), p["b"][0], p["b"][1], p["b"][2][None], p["s"][0][None]])

  first, _, _ = minimise(newton(), lambda p: flat_loss(ravel(p)), unravel(start), steps=1)
  bound = 4 * np.sqrt(12) * condition * float(jnp.finfo(dtype).eps)
  assert np.linalg.norm(ravel(first) - minimum) <= bound * np.linalg.norm(start - minimum)
  chex.assert_trees_all_equal_shapes_and_dtypes(first, unravel(start))


def logistic_problems(lanes=64, samples=100, features=6):
  rng = np.random.default_rng(0)
  X = rng.normal(size=(lanes, samples, features))
  truth = rng.normal(size=(lanes, features))
  logits = np.einsum("lsf,lf->ls", X, truth)
  return X, (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)


def logistic_loss(w, X, y):
  return jnp.mean(jax.nn.softplus(X @ w) - y * (X @ w)) + 0.005 * w @ w


def numpy_logistic_minimum(X, y):
  """Solves one problem in NumPy, by 50 iteratively reweighted least squares."""
  w = np.zeros(X.shape[1])
  for _ in range(50):
    p = 1 / (1 + np.exp(-X @ w))
    gradient = X.T @ (p - y) / len(y) + 0.01 * w
    hessian = (X.T * (p * (1 - p))) @ X / len(y) + 0.01 * np.eye(len(w))
    w = w - np.linalg.solve(hessian, gradient)
  assert np.linalg.norm(gradient) < 1e-14
  return w


def fit_logistic(X, y):
  return minimise(newton(), lambda w: logistic_loss(w, X, y), jnp.zeros(X.shape[1]), steps=8)[2]


def test_a_batch_of_logistic_regressions_converges_quadratically():
  X, y = logistic_problems()
  paths = np.asarray(jax.jit(jax.vmap(fit_logistic))(X, y))
  minima = np.stack([numpy_logistic_minimum(*problem) for problem in zip(X, y)])
  errors = (
    np.linalg.norm(paths - minima[:, None], axis=-1) / np.linalg.norm(minima, axis=1)[:, None]
  )
  assert errors[:, -1].max() < 1e-13
  exponents = []
  for e in errors:
    last = np.flatnonzero(e > 1e-12)[-1]  # beyond, rounding takes over
    exponents.append(np.log(e[last] / e[last - 1]) / np.log(e[last - 1] / e[last - 2]))
  # e_(k+1) = C e_k**2 gives exactly 2 in the limit; linear convergence would give 1.
  assert 1.95 < np.median(exponents) < 2.05
  assert min(exponents) > 1.9


def test_a_lane_of_a_batch_takes_the_steps_of_a_lone_run():
  X, y = logistic_problems(lanes=8)
  batch = jax.jit(jax.vmap(fit_logistic))(X, y)
  fit_one = jax.jit(fit_logistic)
  for lane in range(8):
    # Rounding alone: a batched product may sum in another order. Condition numbers are below 100.
    np.testing.assert_allclose(batch[lane], fit_one(X[lane], y[lane]), rtol=1e-12, atol=1e-13)


def test_a_nan_lane_changes_no_bit_of_the_others():
  X, y = logistic_problems(lanes=8)
  fit = jax.jit(jax.vmap(fit_logistic))
  clean = np.asarray(fit(X, y))
  X[3, 0, 0] = np.nan
  poisoned = np.asarray(fit(X, y))
  others = [0, 1, 2, 4, 5, 6, 7]
  np.testing.assert_array_equal(poisoned[others], clean[others])
  assert (poisoned[3] == 0).all()  # where it started: a NaN gradient gives the update 0


def sum_of_cosines(x):
  return jnp.sum(jnp.cos(x))


@pytest.mark.parametrize("line_search", LINE_SEARCHES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_a_maximum_it_goes_down_to_a_minimum(line_search, dtype):
  start = jnp.array([0.3, 0.4], dtype)
  tx = optax.chain(scale_by_newton(), optax.scale(-1), line_search())
  last, states, path = minimise(tx, sum_of_cosines, start, steps=20)
  values = jax.vmap(sum_of_cosines)(path)
  assert (jnp.diff(values) <= 1e-6).all()
  np.testing.assert_allclose(sum_of_cosines(last), -2, atol=4 * jnp.finfo(dtype).eps)
  assert outcome_at(states, 0) is Outcome.SHIFTED
  assert outcome_at(states, -1) is Outcome.NEWTON


@pytest.mark.parametrize("line_search", LINE_SEARCHES)
def test_beside_a_saddle_it_goes_down_to_a_minimum(line_search):
  def loss(p):
    return p[0] ** 2 / 2 - p[1] ** 2 / 2 + p[1] ** 4 / 4  # saddle at 0, minima at (0, +-1)

  tx = optax.chain(scale_by_newton(), optax.scale(-1), line_search())
  last, states, _ = minimise(tx, loss, jnp.array([1.0, 1e-6]), steps=40)
  np.testing.assert_allclose(last, [0, 1], atol=1e-7)  # sqrt(machine_eps): f is flat to rounding
  assert outcome_at(states, -1) is Outcome.NEWTON


def test_exactly_on_a_saddle_the_update_is_zero_and_the_outcome_says_indefinite():
  def loss(p):
    return p[0] ** 2 - p[1] ** 2

  last, states, _ = minimise(newton(), loss, jnp.zeros(2), steps=1)
  assert (last == 0).all()
  assert outcome_at(states, -1) is Outcome.SHIFTED


def rosenbrock(x):
  return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.parametrize("line_search", LINE_SEARCHES)
def test_with_a_line_search_it_solves_rosenbrock(line_search):
  tx = optax.chain(scale_by_newton(), optax.scale(-1), line_search())
  last, _, _ = minimise(tx, rosenbrock, jnp.array([-1.2, 1.0]), steps=30)
  np.testing.assert_allclose(last, [1, 1], atol=1e-10)


def test_on_a_piecewise_linear_loss_it_steps_along_the_gradient_and_says_so():
  def loss(x):
    return jnp.sum(jnp.abs(x))

  start = jnp.array([2.0, -3.0])
  last, states, _ = minimise(newton(), loss, start, steps=1)
  assert loss(last) < loss(start)
  taken = start - last
  np.testing.assert_allclose(taken[0], -taken[1], rtol=1e-14)
  assert outcome_at(states, -1) is Outcome.ZERO_HESSIAN


@pytest.mark.parametrize("line_search", [None, zoom])
def test_complex_parameters_take_the_steps_of_their_real_pairs(line_search):
  rng = np.random.default_rng(1)
  A = rng.normal(size=(5, 3)) + 1j * rng.normal(size=(5, 3))
  b = rng.normal(size=5) + 1j * rng.normal(size=5)

  def loss(z):
    return jnp.sum(jnp.log1p(jnp.abs(A @ z - b) ** 2))

  tx = (
    newton()
    if line_search is None
    else optax.chain(scale_by_newton(), optax.scale(-1), line_search())
  )
  start = rng.normal(size=3) + 1j * rng.normal(size=3)
  _, _, complex_path = minimise(tx, loss, jnp.array(start), steps=5)

  def real_loss(x):
    return loss(x[0] + 1j * x[1])

  _, _, real_path = minimise(tx, real_loss, jnp.stack([start.real, start.imag]), steps=5)
  assert complex_path.dtype == np.complex128
  np.testing.assert_allclose(complex_path, real_path[:, 0] + 1j * real_path[:, 1], rtol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_parameters_are_solved_in_float32(dtype):
  minimum = jnp.array([1.0, -2.0, 0.5], dtype)

  def loss(x):
    return jnp.sum(jnp.array([1.0, 4.0, 0.25], dtype) * (x - minimum) ** 2)

  first, states, _ = minimise(newton(), loss, jnp.array([3.0, 1.0, -1.0], dtype), steps=1)
  assert first.dtype == dtype
  np.testing.assert_allclose(
    first.astype(float), minimum.astype(float), atol=8 * float(jnp.finfo(dtype).eps)
  )
  assert states.memory.scale.dtype == np.float32


def test_a_step_too_long_for_float16_is_shortened_and_stays_finite():
  tx = scale_by_newton()
  x = jnp.array([1.0], jnp.float16)

  def flat(x):
    return jnp.sum(5e-5 * x.astype(np.float32) ** 2)

  updates, state = tx.update(jnp.array([100.0], jnp.float16), tx.init(x), x, value_fn=flat)
  assert updates.dtype == np.float16
  assert 0 < updates[0] < 65504  # the full step is 1e6
  assert outcome(state) is Outcome.SHIFTED


def test_mixed_dtypes_keep_their_own():
  params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2, np.float32), "c": jnp.ones(1, complex)}

  def loss(p):
    return jnp.sum(p["a"].astype(float) ** 2) + jnp.sum(p["b"] ** 2) + jnp.sum(jnp.abs(p["c"]) ** 2)

  last, states, _ = minimise(newton(), loss, params, steps=1)
  chex.assert_trees_all_equal_shapes_and_dtypes(last, params)
  assert all((jnp.abs(leaf) <= 1e-15).all() for leaf in jax.tree.leaves(last))
  assert states.memory.scale.dtype == np.float64


def test_it_is_the_formula_of_the_notes():
  x = jnp.array([0.5, -1.0, 2.0])

  def loss(x):
    return jnp.sum(jnp.exp(x)) + x @ x

  tx = newton()
  updates, _ = tx.update(jax.grad(loss)(x), tx.init(x), x, value_fn=loss)
  expected = x - jnp.linalg.inv(jax.hessian(loss)(x)) @ jax.grad(loss)(x)
  np.testing.assert_allclose(optax.apply_updates(x, updates), expected, rtol=1e-13)


def test_scale_by_newton_transforms_what_comes_in_and_has_the_sign_of_lbfgs():
  x = jnp.array([1.0, 2.0])

  def loss(x):
    return 2 * x @ x

  tx = optax.chain(optax.scale(3.0), scale_by_newton())
  updates, _ = tx.update(jax.grad(loss)(x), tx.init(x), x, value_fn=loss)
  np.testing.assert_allclose(updates, 3 * x, rtol=1e-15)


def test_the_update_can_be_differentiated():
  def one_step(curvature):
    tx, x = scale_by_newton(), jnp.array([1.0, -1.0])

    def loss(x):
      return jnp.sum(curvature * x**2 / 2 + x**4 / 4)

    updates, _ = tx.update(jax.grad(loss)(x), tx.init(x), x, value_fn=loss)
    return (x - updates)[0]

  # x - (c x + x**3) / (c + 3 x**2) at x = 1 is 2 / (c + 3), whose derivative is -2 / (c + 3)**2.
  np.testing.assert_allclose(jax.grad(one_step)(2.0), -2 / 25, rtol=1e-13)
  np.testing.assert_allclose(jax.jacfwd(one_step)(2.0), -2 / 25, rtol=1e-13)
