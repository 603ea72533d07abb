import contextlib
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt._numerics import machine_eps
from kinkopt.cli import _rates
from kinkopt.cli._console import Console
from kinkopt.cli._data import load
from kinkopt.cli._network import init_network, loss
from kinkopt.cli._training import BATCH, DECAY, Run, minibatches, train


@pytest.fixture
def data(few_digits):
  return load(few_digits, seed=0)


def _train(rule, data, steps, console=None) -> Run:
  run = Run(rule)
  start = init_network(data.num_features, data.num_classes, seed=0)
  train(run, start, data.split, steps, seed=0, console=console or Console("", quiet=True))
  return run


def test_an_epoch_shows_each_image_once_and_the_next_in_another_order():
  batches = np.stack([*itertools.islice(minibatches(3 * BATCH + 5, seed=0), 6)])
  assert batches.shape == (6, BATCH)
  first, second = batches[:3].ravel(), batches[3:].ravel()
  assert len(set(first)) == len(set(second)) == 3 * BATCH
  assert (first != second).any()


def test_few_images_make_one_smaller_batch():
  assert sorted(next(minibatches(5, seed=0))) == [0, 1, 2, 3, 4]


def test_a_run_is_the_plain_loop_of_the_notes(data):
  steps = 43  # 40 scans of 2 do not divide it: the last one is shorter
  run = _train("sgd", data, steps)

  split = jax.tree.map(jnp.asarray, data.split)
  params = init_network(data.num_features, data.num_classes, seed=0)
  ratios = []
  for step, index in zip(range(steps), minibatches(len(split.train_images), seed=0)):
    gradient = jax.grad(loss)(params, split.train_images[index], split.train_labels[index])
    rate = _rates.LEARNING_RATES["sgd"] * math.exp(-DECAY * step / steps)
    update = jax.tree.map(lambda g, rate=rate: -rate * g, gradient)
    norms = [jnp.linalg.norm(jax.flatten_util.ravel_pytree(t)[0]) for t in (update, params)]
    ratios.append(float(norms[0] / norms[1]))
    params = jax.tree.map(jnp.add, params, update)

  # float32 against float64: some tens of roundings, amplified by the steps.
  tolerance = 1000 * machine_eps(np.float32)
  np.testing.assert_allclose(run.ratios, ratios, rtol=tolerance)
  expected = loss(params, split.train_images, split.train_labels)
  np.testing.assert_allclose(run.losses[-1], expected, rtol=tolerance)
  assert run.steps[-1] == steps
  assert run.median_ratio == np.median(run.ratios)
  assert run.status == "done"


def test_lookahead_takes_its_gradient_ahead(data):
  # With the gradient at `params` it would be `momentum`, bit for bit.
  runs = {rule: _train(rule, data, 30) for rule in ("nesterov", "nesterov_lookahead", "momentum")}
  assert runs["nesterov_lookahead"].losses[-1] != runs["momentum"].losses[-1]
  # The rewritten form is a velocity ahead, which the decayed rate has made small.
  np.testing.assert_allclose(
    runs["nesterov_lookahead"].losses[-1], runs["nesterov"].losses[-1], rtol=0.05
  )


@pytest.mark.parametrize("rule", ["adagrad", "rmsprop", "adam"])
def test_the_adaptive_rules_learn(rule, data):
  run = _train(rule, data, 60)
  assert run.losses[-1] < run.losses[0] / 2
  assert len(run.ratios) == 60
  assert 0 < run.median_ratio < 0.1


def test_a_rule_that_diverges_stops_early_and_says_so(data, monkeypatch):
  monkeypatch.setitem(_rates.LEARNING_RATES, "sgd", 1e30)
  run = _train("sgd", data, 100_000)
  assert run.status == "diverged"
  assert run.diverged
  assert not math.isfinite(run.losses[-1])
  assert run.steps[-1] == 1000, "one scan of the longest length"


def test_an_interrupted_run_keeps_what_it_knows(data):
  class Interrupting(Console):
    def progress(self, label, total):
      def advance(completed, note):
        if completed >= 4:
          raise KeyboardInterrupt

      return contextlib.nullcontext(advance)

  run = Run("sgd")
  start = init_network(data.num_features, data.num_classes, seed=0)
  with pytest.raises(KeyboardInterrupt):
    train(run, start, data.split, 80, seed=0, console=Interrupting("", quiet=True))
  assert (run.status, run.steps, len(run.ratios)) == ("stopped", [0, 2, 4], 4)
