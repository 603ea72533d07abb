"""A loss is traced once or twice, and what was compiled serves each loss of the same text."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kinkopt.newton import GaussNewton, minimize, newton
from kinkopt.newton._kept import has_own_functions

START = jnp.zeros(2)
SHIFTS = [jnp.array([1.0, 2.0]), jnp.array([3.0, -1.0]), jnp.array([0.5, 0.5])]


def counted(fun):
  """Gives a function and the list of its calls."""
  calls = []

  def traced(*args, **named):
    calls.append(args)
    return fun(*args, **named)

  return traced, calls


def bowl(x, shift):
  return jnp.sum(jnp.cosh(x - shift))


AROUND = {
  "alone": lambda solve: solve(START),
  "jit": lambda solve: jax.jit(solve)(START),
  "vmap": lambda solve: jax.vmap(solve)(jnp.ones((3, 2))),
  "jit of vmap": lambda solve: jax.jit(jax.vmap(solve))(jnp.ones((3, 2))),
  "jvp": lambda solve: jax.jvp(solve, (START,), (START,)),
  "reverse": lambda solve: jax.jacrev(solve)(START),
}


@pytest.mark.parametrize("optimizer", [newton(), optax.lbfgs()], ids=["newton", "lbfgs"])
@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_a_loss_is_traced_once_or_twice(around, optimizer):
  fun, calls = counted(bowl)
  around(lambda x: minimize(fun, x, optimizer, data={"shift": SHIFTS[0]}).params)
  assert len(calls) <= 2
  around(lambda x: minimize(fun, x, optimizer, data={"shift": SHIFTS[0]}).params)
  assert len(calls) <= 4


def test_a_loss_written_anew_over_another_batch_compiles_nothing(compilations):
  optimizer = newton()
  for shift in SHIFTS:
    found = minimize(lambda x, shift=shift: bowl(x, shift), START, optimizer)
    np.testing.assert_allclose(found.params, shift, atol=1e-8)
  assert compilations("_minimize") == 1


def test_the_same_loss_over_another_batch_is_seen_and_compiles_nothing(compilations):
  batch, optimizer = {}, newton()
  fun, calls = counted(lambda x: bowl(x, batch["shift"]))
  for shift in SHIFTS:
    batch["shift"] = shift
    np.testing.assert_allclose(minimize(fun, START, optimizer).params, shift, atol=1e-8)
  assert compilations("_minimize") == 1
  assert len(calls) == 4  # twice before it was compiled
  batch["shift"] = np.ones((3, 2))
  np.testing.assert_allclose(minimize(fun, START, optimizer).params, 1, atol=1e-8)
  assert compilations("_minimize") == 2


def test_numbers_are_part_of_the_text(compilations):
  optimizer = newton()
  for scale in (1.0, 2.0, 1.0):
    found = minimize(lambda x, scale=scale: scale * bowl(x, 1.0), START, optimizer)
    np.testing.assert_allclose(found.value, 2 * scale)
  assert compilations("_minimize") == 2


def test_trees_and_names_are_part_of_the_text(compilations):
  optimizer = newton()
  fun = lambda p, a, b: bowl(p[0], a) + bowl(p[1], b)  # noqa: E731
  turned = lambda p, b, a: bowl(p[0], b) + bowl(p[1], a)  # noqa: E731
  named = {"a": jnp.array(1.0), "b": jnp.array(2.0)}
  for f, start, want in ((fun, [0.0, 0.0], [1, 2]), (turned, (0.0, 0.0), (2, 1))):
    found = minimize(f, start, optimizer, data=named)
    assert jax.tree.structure(found.params) == jax.tree.structure(want)
    np.testing.assert_allclose(found.params, want, atol=1e-8)


def test_auxiliary_results_are_those_of_the_batch(compilations):
  optimizer = newton()
  for shift in SHIFTS:
    fun = lambda x, shift=shift: (bowl(x, shift), {"shift": shift, "x": 2 * x})  # noqa: E731
    found = minimize(fun, START, optimizer, has_aux=True)
    np.testing.assert_array_equal(found.aux["shift"], shift)
    np.testing.assert_allclose(found.aux["x"], 2 * shift, atol=1e-7)
  assert compilations("_minimize") == 1


def test_a_custom_rule_is_part_of_the_text(compilations):
  optimizer = optax.sgd(0.1)

  def make(sign):
    @jax.custom_vjp
    def square(x):
      return jnp.sum(x**2)

    square.defvjp(lambda x: (square(x), x), lambda x, ct: (2 * sign * ct * x,))
    return lambda x: square(x) + 0.0

  ends = [minimize(make(s), jnp.ones(2), optimizer, max_steps=9).value for s in (1.0, -1.0, 1.0)]
  np.testing.assert_allclose(ends, [2 * (1 - 0.2 * s) ** 18 for s in (1.0, -1.0, 1.0)])
  assert compilations("_minimize") == 2


def test_what_differs_from_trace_to_trace_is_known_by_the_function(compilations):
  seen, optimizer = [], newton()

  def fun(x):
    jax.debug.callback(lambda x: seen.append(x), x)
    return bowl(x, SHIFTS[0])

  for _ in range(3):
    np.testing.assert_allclose(minimize(fun, START, optimizer).params, SHIFTS[0], atol=1e-8)
  jax.effects_barrier()
  assert seen
  assert compilations("_minimize") == 1


def test_what_an_optimizer_closes_over_is_not_taken_for_that_of_another_loss():
  batch = {}
  residual = lambda x: x**3 - batch["y"]  # noqa: E731
  optimizer = newton(curvature=GaussNewton(residual))
  assert has_own_functions(optimizer)
  for y in (jnp.array([8.0, 1.0]), jnp.array([27.0, 64.0])):
    batch["y"] = y
    found = minimize(lambda x: 0.5 * jnp.sum(residual(x) ** 2), jnp.ones(2) * 3, optimizer)
    np.testing.assert_allclose(found.params**3, y, rtol=1e-6)


def test_functions_of_libraries_and_of_ones_own_are_told_apart():
  for optimizer in (newton(), optax.lbfgs(), optax.adam(optax.cosine_decay_schedule(0.1, 10))):
    assert not has_own_functions(optimizer)
  for optimizer in (
    optax.adam(lambda count: 0.1),
    optax.chain(optax.adam(0.1), optax.stateless(lambda g, p: g)),
    newton(curvature=GaussNewton(bowl)),
    optax.masked(optax.sgd(0.1), lambda p: True),
  ):
    assert has_own_functions(optimizer)


def test_a_line_search_that_leaves_the_dtype_is_given_the_function(compilations):
  optimizer, target = optax.lbfgs(), jnp.array([1.0, -2.0], jnp.bfloat16)
  fun, calls = counted(lambda x: jnp.sum((x - target) ** 2))
  for _ in range(2):
    found = minimize(fun, jnp.zeros(2, jnp.bfloat16), optimizer)
    np.testing.assert_allclose(found.params.astype(float), [1, -2], rtol=0.02)
  assert len({args[0].dtype for args in calls}) == 2
  assert compilations("_minimize") == 1


def test_a_batch_is_let_go_and_the_compiled_program_with_the_caches(compilations):
  optimizer, held = newton(), []
  for _ in range(2):
    shift = jnp.full(2, 3.0)
    held.append(weakref.ref(shift))
    np.testing.assert_allclose(
      minimize(lambda x, shift=shift: bowl(x, shift), START, optimizer).params, 3, atol=1e-8
    )
    del shift
    gc.collect()
    assert held[-1]() is None
  assert compilations("_minimize") == 1
  jax.clear_caches()
  minimize(lambda x: bowl(x, SHIFTS[0]), START, optimizer)
  assert compilations("_minimize") == 2


def test_a_loss_kept_has_programs_for_each_device(compilations):
  optimizer = newton()
  for device in jax.devices()[:2]:
    start = jax.device_put(START, device)
    found = minimize(lambda x: bowl(x, np.array([1.0, 2.0])), start, optimizer)
    assert found.params.devices() == {device}
    np.testing.assert_allclose(found.params, [1, 2], atol=1e-8)
