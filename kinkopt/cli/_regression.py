"""The demo's last model: a softmax regression, solved by Newton's method.

With an L2 term on every parameter the loss is strictly convex, so the Hessian can be inverted and
there is one minimum. Near it the number of right digits doubles at each step, which the table of
gradient norms shows; it is done in float64, to see them double often enough.
"""

import functools
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import kinkopt.monitor
import kinkopt.newton
from kinkopt.cli._console import Advance, Console
from kinkopt.cli._data import Data, Split
from kinkopt.cli._network import Params, accuracy, init_regression, loss
from kinkopt.cli._rates import NEWTON
from kinkopt.cli._training import Run
from kinkopt.render import Column, Heading, Table, Text, Tone

PENALTY = 1e-3  # times |params|**2 / 2; strong enough for pure Newton steps from zero
TOLERANCE = 1e-10  # of the gradient's norm; rounding of a float64 loss near 1 allows about 1e-15
MOST_STEPS = 30
MOST_PARAMETERS = 5000  # whose dense float64 Hessian takes 200 MB


def solve(run: Run, data: Data, console: Console) -> list[float]:
  """Takes Newton steps until the gradient's norm is at most `TOLERANCE`.

  Args:
    run: where to write down what happens; what is there stays true if this is interrupted.
    data: what to train and to test on.
    console: shows the steps.

  Returns:
    The gradient's norm at the start and after each step; empty if the model is too large.
  """
  size = (data.num_features + 1) * data.num_classes
  console.show(
    Heading("Newton's method"),
    Text(
      f"A softmax regression on the same images ({size:,} parameters, {PENALTY:g}/2 |x|^2 added), "
      f"in float64 from zero, by steps x -= H^-1 g, damped if they must be, until |g| <= "
      f"{TOLERANCE:g}:"
    ),
  )
  if size > MOST_PARAMETERS:
    run.status = "skipped"
    console.show(
      Text(
        f"Skipped: the dense Hessian of {size:,} parameters takes {size**2 * 8 / 1e6:,.0f} MB; "
        f"the demo goes up to {MOST_PARAMETERS:,}.",
        Tone.WARN,
      )
    )
    return []
  with jax.enable_x64(True), console.progress(NEWTON, total=None) as advance:
    seen, outcome = _iterate(run, data, advance)
  columns = (Column("step"), Column("loss + penalty", ".12f"), Column("|gradient|", ".1e"))
  rows = tuple((step, watched.objective, watched.norm) for step, watched in enumerate(seen))
  console.show(Table(columns, rows), Text(f"Newton says: {outcome.value}"))
  if run.status == "unsolved":
    console.show(
      Text(f"Not solved: |g| is {seen[-1].norm:.1e} after {len(seen) - 1} steps.", Tone.WARN)
    )
  return [watched.norm for watched in seen]


class _Iterate(NamedTuple):
  """Where Newton's method stands."""

  params: Params
  state: optax.OptState
  value: jax.Array
  gradient: Params


class _Watched(NamedTuple):
  """Scalars on the device, and floats once they are recorded."""

  objective: Any
  norm: Any
  train_loss: Any
  test_accuracy: Any


def _objective(params: Params, split: Split) -> jax.Array:
  penalty = 0.5 * PENALTY * optax.tree.norm(params, squared=True)
  return loss(params, split.train_images, split.train_labels) + penalty


def _step(
  tx: optax.GradientTransformationExtraArgs, split: Split, at: _Iterate
) -> tuple[_Iterate, _Watched]:
  updates, state = tx.update(
    at.gradient,
    at.state,
    at.params,
    value=at.value,
    grad=at.gradient,
    value_fn=lambda params: _objective(params, split),
  )
  return _arrive(optax.apply_updates(at.params, updates), state, split)


def _arrive(params: Any, state: optax.OptState, split: Split) -> tuple[_Iterate, _Watched]:
  value, gradient = jax.value_and_grad(_objective)(params, split)
  return _Iterate(params, state, value, gradient), _Watched(
    objective=value,
    norm=optax.tree.norm(gradient),
    train_loss=loss(params, split.train_images, split.train_labels),
    test_accuracy=accuracy(params, split.test_images, split.test_labels),
  )


def _iterate(
  run: Run, data: Data, advance: Advance
) -> tuple[list[_Watched], kinkopt.newton.Outcome]:
  tx = optax.chain(kinkopt.newton.newton(), kinkopt.monitor.update_ratio())
  split = jax.tree.map(jnp.asarray, data.split)
  params = jax.tree.map(jnp.asarray, init_regression(data.num_features, data.num_classes))
  start = time.perf_counter()
  at, watched = jax.jit(_arrive)(params, tx.init(params), split)
  compiled = jax.jit(functools.partial(_step, tx)).lower(split, at).compile()
  run.compile_seconds = time.perf_counter() - start
  seen = [_record(run, watched)]
  while TOLERANCE < seen[-1].norm < math.inf and len(seen) <= MOST_STEPS:
    start = time.perf_counter()
    at, watched = compiled(split, at)
    seen.append(_record(run, watched))
    run.seconds += time.perf_counter() - start
    run.ratios.append(float(kinkopt.monitor.find_update_ratio(at.state).overall))
    advance(len(seen) - 1, f"|gradient| {seen[-1].norm:.1e}")
  is_solved = seen[-1].norm <= TOLERANCE
  run.status = "diverged" if run.diverged else "done" if is_solved else "unsolved"
  return seen, kinkopt.newton.outcome(at.state)


def _record(run: Run, watched: _Watched) -> _Watched:
  watched = _Watched(*map(float, jax.device_get(watched)))
  run.steps.append(len(run.steps))
  run.losses.append(watched.train_loss)
  run.accuracy = watched.test_accuracy
  return watched
