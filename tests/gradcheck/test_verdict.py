"""The ladder of the notes, rung by rung; and bugs planted on purpose, found at their place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt._coordinates import coordinate_name
from kinkopt.gradcheck import Verdict, numerical_gradient, relative_error, verdict

HAPPY, OKAY, TOO_HIGH = Verdict.HAPPY, Verdict.OKAY, Verdict.TOO_HIGH
UNCOMFORTABLE, WRONG = Verdict.UNCOMFORTABLE, Verdict.WRONG
NOT_FINITE, UNDECIDED = Verdict.NOT_FINITE, Verdict.UNDECIDED


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
  ("rung", "below_with_kinks", "below_without", "above_with_kinks", "above_without"),
  [
    (1e-7, HAPPY, HAPPY, OKAY, TOO_HIGH),
    (1e-4, OKAY, TOO_HIGH, UNCOMFORTABLE, UNCOMFORTABLE),
    (1e-2, UNCOMFORTABLE, UNCOMFORTABLE, WRONG, WRONG),
  ],
)
def test_rung_itself_belongs_to_the_better_verdict(
  dtype, rung, below_with_kinks, below_without, above_with_kinks, above_without
):
  at = dtype(rung)
  below, above = np.nextafter(at, dtype(0)), np.nextafter(at, dtype(1))
  for error in (at, below):
    assert verdict(error, kinks=True) is below_with_kinks
    assert verdict(error, kinks=False) is below_without
  assert verdict(above, kinks=True) is above_with_kinks
  assert verdict(above, kinks=False) is above_without


@pytest.mark.parametrize("kinks", [False, True])
def test_ends_of_the_ladder(kinks):
  assert verdict(0.0, kinks=kinks) is HAPPY
  assert verdict(0, kinks=kinks) is HAPPY
  assert verdict(2.0, kinks=kinks) is WRONG
  assert verdict(1, kinks=kinks) is WRONG


@pytest.mark.parametrize("kinks", [False, True])
@pytest.mark.parametrize("error", [np.nan, np.inf, jnp.array([0.0, jnp.nan]), {"w": [5.0, np.nan]}])
def test_what_is_not_finite_never_passes_and_is_worse_than_wrong(error, kinks):
  assert verdict(error, kinks=kinks) is NOT_FINITE
  assert not NOT_FINITE.is_pass


@pytest.mark.parametrize(
  "nothing", [{}, None, [], np.zeros((0, 3)), {"w": jnp.zeros(0), "b": None}]
)
def test_nothing_compared_is_not_a_pass(nothing):
  assert verdict(nothing, kinks=True) is UNDECIDED
  assert not UNDECIDED.is_pass


@pytest.mark.parametrize(
  ("error", "want"),
  [
    (jnp.array([1e-9, 1e-5, 1e-8]), OKAY),
    ({"a": jnp.zeros((2, 3)), "b": (jnp.float32(1e-3), 1e-9)}, UNCOMFORTABLE),
    ({"a": jnp.zeros(0), "b": 1e-9}, HAPPY),
    ([1e-9, jnp.array([[0.0], [0.02]])], WRONG),
    (jnp.array([1e-3], jnp.bfloat16), UNCOMFORTABLE),
    (jnp.array([0.0, 1.0], jnp.float16), WRONG),
  ],
)
def test_of_many_errors_the_worst_decides(error, want):
  assert verdict(error, kinks=True) is want


def test_sentences_hold_the_numbers_of_the_notes():
  numbers = {
    HAPPY: "1e-7 or less: be happy",
    OKAY: "1e-4 or less: usually okay for an objective with kinks",
    TOO_HIGH: "above 1e-7: too high for an objective without kinks",
    UNCOMFORTABLE: "between 1e-4 and 1e-2: this should make you uncomfortable",
    WRONG: "above 1e-2: the gradient is probably wrong",
    NOT_FINITE: "NaN or infinite somewhere",
    UNDECIDED: "Nothing was compared",
  }
  assert set(numbers) == set(Verdict)
  for outcome, words in numbers.items():
    assert words in outcome.value
  assert [outcome for outcome in Verdict if outcome.is_pass] == [HAPPY, OKAY]


@pytest.mark.parametrize(
  ("error", "kind", "match"),
  [
    (-1e-9, ValueError, r"relative error -1e-09 in the leaf `\(root\)`.*never negative"),
    ({"w": jnp.array([0.5, -2.0])}, ValueError, r"relative error -2 in the leaf `\['w'\]`"),
    (1j, TypeError, r"real numbers, but the leaf `\(root\)` is complex128"),
    (True, TypeError, r"leaf `\(root\)` is bool"),
    ({"w": "small"}, TypeError, r"leaf `\['w'\]` is <U5"),
  ],
)
def test_what_is_no_relative_error_is_refused(error, kind, match):
  with pytest.raises(kind, match=match):
    verdict(error, kinks=True)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad])
def test_traced_error_is_refused_with_the_way_out(transform):
  with pytest.raises(TypeError, match=r"`\['w'\]` is traced: .*call `verdict` on what comes out"):
    transform(lambda w: (verdict({"w": w}, kinks=True), w)[1])(
      jnp.ones(() if transform is jax.grad else 1)
    )


def tanh_net(params, x, labels):
  hidden = jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"])
  logits = hidden @ params["out"]["w"] + params["out"]["b"]
  return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))


@pytest.fixture(scope="module")
def case():
  """A correct gradient and a numerical one, of a network without kinks."""
  keys = jax.random.split(jax.random.key(5), 4)
  normal = jax.random.normal
  params = {
    "hidden": {"w": normal(keys[0], (6, 5)) / 2, "b": jnp.zeros(5)},
    "out": {"w": normal(keys[1], (5, 5)) / 2, "b": jnp.zeros(5)},
  }
  batch = normal(keys[2], (16, 6)), jax.random.randint(keys[3], (16,), 0, 5)
  numerical = jax.jit(numerical_gradient(tanh_net))(params, *batch)
  return jax.grad(tanh_net)(params, *batch), numerical


def places(error, above=1e-2):
  """Names the coordinates that are off."""
  flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(error)])
  return [coordinate_name(error, int(index)) for index in np.flatnonzero(~(flat <= above))]


def test_correct_gradient_of_a_net_without_kinks_is_happy(case):
  analytic, numerical = case
  error = relative_error(analytic, numerical)
  assert verdict(error, kinks=False) is HAPPY
  assert places(error) == []


def replace(tree, edit):
  return tree | {"out": tree["out"] | {"w": edit(tree["out"]["w"])}}


WHOLE_LEAF = [f"['out']['w'][{i}, {j}]" for i in range(5) for j in range(5)]
OFF_DIAGONAL = [name for i, name in enumerate(WHOLE_LEAF) if i // 5 != i % 5]
PLANTED = {
  "sign": (lambda w: -w, WHOLE_LEAF),
  "factor 2": (lambda w: 2 * w, WHOLE_LEAF),
  "one coordinate dropped": (lambda w: w.at[3, 1].set(0), ["['out']['w'][3, 1]"]),
  "one coordinate 2 % off": (lambda w: w.at[0, 4].multiply(1.02), ["['out']['w'][0, 4]"]),
  "transposed": (lambda w: w.T, OFF_DIAGONAL),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bug_is_wrong_and_found_at_its_place(case, bug):
  analytic, numerical = case
  edit, want = PLANTED[bug]
  error = relative_error(replace(analytic, edit), numerical)
  assert verdict(error, kinks=True) is WRONG
  assert places(error) == want


def test_lost_step_is_never_a_pass(case):
  analytic, numerical = case
  error = relative_error(analytic, replace(numerical, lambda w: w.at[2, 2].set(jnp.nan)))
  assert verdict(error, kinks=True) is NOT_FINITE
  assert places(error) == ["['out']['w'][2, 2]"]
