"""Trains the network by one rule, a jitted `lax.scan` of minibatches at a time.

The rule is taken as a user would take it: chained with a decaying rate before it and the watch on
the update ratio behind it. Each scan hands back what the bar and the curves need, so the host waits
once in many steps; every rule starts from the same weights and sees the same minibatches.
"""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import kinkopt.monitor
import kinkopt.rules
import kinkopt.schedules
from kinkopt.cli._console import Console
from kinkopt.cli._data import Split
from kinkopt.cli._network import Params, accuracy, loss
from kinkopt.cli._rates import LEARNING_RATES

BATCH = 64
DECAY = 3.0  # the rate ends at exp(-3), a twentieth of where it began
_CHUNKS = 40  # scans in a run: often enough for a moving bar, and a point of each curve
_LONGEST = 1000  # steps in a scan, some 0.1 s: Ctrl-C is answered between two of them


@dataclasses.dataclass
class Run:
  """What is known of one rule's training; it grows while the rule trains."""

  rule: str
  steps: list[int] = dataclasses.field(default_factory=list)
  losses: list[float] = dataclasses.field(default_factory=list)
  ratios: list[float] = dataclasses.field(default_factory=list)
  accuracy: float = math.nan
  compile_seconds: float = 0.0
  seconds: float = 0.0
  status: str = "stopped"

  @property
  def diverged(self) -> bool:
    """Whether the training loss has left the finite numbers."""
    return bool(self.losses) and not math.isfinite(self.losses[-1])

  @property
  def median_ratio(self) -> float:
    """The median over all steps of |update| / |parameters|, of all leaves together."""
    return float(np.median(self.ratios)) if self.ratios else math.nan


class _Watched(NamedTuple):
  train_loss: jax.Array
  test_accuracy: jax.Array
  ratios: jax.Array


def optimizer(rule: str, steps: int) -> optax.GradientTransformationExtraArgs:
  """Chains a rule, its rate decaying from the table's to a twentieth of it, and the watch."""
  schedule = kinkopt.schedules.exponential_decay(LEARNING_RATES[rule], DECAY / steps)
  return optax.chain(getattr(kinkopt.rules, rule)(schedule), kinkopt.monitor.update_ratio())


def minibatches(num_images: int, seed: int) -> Iterator[np.ndarray]:
  """Draws the images of one step after another, without end: int32 of shape (batch,).

  Each epoch is a fresh permutation, less the few images that do not fill a batch.
  """
  rng = np.random.default_rng(seed)
  size = min(BATCH, num_images)
  while True:
    order = rng.permutation(num_images).astype(np.int32)
    yield from order[: num_images // size * size].reshape(-1, size)


def train(run: Run, params: Params, split: Split, steps: int, seed: int, console: Console) -> None:
  """Trains until `steps` are done or the loss is no longer finite.

  Args:
    run: where to write down what happens; what is there stays true if this is interrupted.
    params: where to start; computed with in float32.
    split: what to train and to test on.
    steps: the number of minibatches.
    seed: decides the minibatches.
    console: shows the bar.
  """
  tx = optimizer(run.rule, steps)
  params, split = jax.tree.map(_narrow, (params, split))
  batches = minibatches(len(split.train_images), seed)
  length = min(-(-steps // _CHUNKS), _LONGEST)
  first = np.stack([*itertools.islice(batches, length)])
  carry = (params, tx.init(params))
  with console.progress(run.rule, steps) as advance:
    start = time.perf_counter()
    _record(run, 0, jax.jit(_watch)(params, split, jnp.zeros(0)))
    # The images are an argument, not a constant of the program, which XLA would try to fold.
    chunk = jax.jit(functools.partial(_scan, run.rule, tx))
    compiled = chunk.lower(split, carry, first).compile()
    run.compile_seconds = time.perf_counter() - start
    for done in range(0, steps, length):
      count = min(length, steps - done)
      indices = first if done == 0 else np.stack([*itertools.islice(batches, count)])
      start = time.perf_counter()
      # The last scan may be shorter, and is then compiled for its own length.
      carry, watched = (compiled if count == length else chunk)(split, carry, indices)
      _record(run, done + count, watched)
      run.seconds += time.perf_counter() - start
      advance(run.steps[-1], f"loss {run.losses[-1]:.3f}  ratio {run.ratios[-1]:.1e}")
      if run.diverged:
        break
  run.status = "diverged" if run.diverged else "done"


def _narrow(x: np.ndarray) -> jax.Array:
  return jnp.asarray(x, jnp.float32 if np.issubdtype(x.dtype, np.floating) else jnp.int32)


def _scan(
  rule: str,
  tx: optax.GradientTransformationExtraArgs,
  split: Split,
  carry: tuple[Params, optax.OptState],
  indices: jax.Array,
) -> tuple[tuple[Params, optax.OptState], _Watched]:
  def step(carry: tuple[Params, optax.OptState], index: jax.Array) -> tuple[Any, jax.Array]:
    params, state = carry
    here = kinkopt.rules.lookahead_params(params, state) if rule == "nesterov_lookahead" else params
    gradient = jax.grad(loss)(here, split.train_images[index], split.train_labels[index])
    updates, state = tx.update(gradient, state, params)
    ratio = kinkopt.monitor.find_update_ratio(state).overall
    return (optax.apply_updates(params, updates), state), ratio

  carry, ratios = jax.lax.scan(step, carry, indices)
  return carry, _watch(carry[0], split, ratios)


def _watch(params: Params, split: Split, ratios: jax.Array) -> _Watched:
  return _Watched(
    train_loss=loss(params, split.train_images, split.train_labels),
    test_accuracy=accuracy(params, split.test_images, split.test_labels),
    ratios=ratios,
  )


def _record(run: Run, step: int, watched: _Watched) -> None:
  watched = jax.device_get(watched)
  run.steps.append(step)
  run.losses.append(float(watched.train_loss))
  run.ratios.extend(map(float, watched.ratios))
  run.accuracy = float(watched.test_accuracy)
