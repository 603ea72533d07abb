"""Measuring every k-th step, and paying for it then only.

Inside one program a step that is not measured is not free: `lax.cond` costs the donation of the
parameters. Two programs, between which the host chooses, cost nothing.
"""

import math
from collections.abc import Callable
from typing import Any

from kinkopt._checks import Interval, check_integer


class Every:
  """A training step that is one of two programs; made by `every`."""

  def __init__(self, k: int, measured: Callable[..., Any], plain: Callable[..., Any], start: int):
    self._k, self._measured, self._plain = k, measured, plain
    self.count = start

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    """Makes one step, and measures the k-th, the 2k-th, ..."""
    self.count += 1
    return (self._measured if self.is_measured else self._plain)(*args, **kwargs)

  @property
  def is_measured(self) -> bool:
    """Whether the last step was one that is measured."""
    return self.count > 0 and self.count % self._k == 0


def every(k: int, make_step: Callable[[bool], Callable[..., Any]], *, start: int = 0) -> Every:
  """Chooses between a training step that measures and one that does not, on the host.

  Args:
    k: which steps are measured: the k-th, the 2k-th, ...; >= 1.
    make_step: from `True` or `False`, whether it measures, to a step, jitted as you like. Both must
      take and give the same state: hand the flag on to the links, as in `update_ratio(measure)`.
    start: how many steps have been made, where training goes on from a checkpoint; >= 0.

  Returns:
    A function that is called as the steps are. Its `is_measured` says whether the last call was
    measured, its `count` how many steps there have been.

  Raises:
    ValueError: if `k` or `start` is out of range.
    TypeError: if either is no integer, or `make_step` gives no function.

  Numerics:
    Each program is compiled when it is first needed. In a `lax.scan` the host cannot choose: scan
    over rounds of `k - 1` plain steps, themselves a scan, and a measured one.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import kinkopt, optax
    >>> def make_step(measure):
    ...   tx = optax.chain(optax.sgd(0.5), kinkopt.monitor.update_ratio(measure))
    ...   def step(params, state):
    ...     updates, state = tx.update(params, state, params)
    ...     return optax.apply_updates(params, updates), state
    ...   return jax.jit(step, donate_argnums=(0, 1))
    >>> step = kinkopt.monitor.every(2, make_step)
    >>> params = jnp.ones(3)
    >>> state = optax.chain(optax.sgd(0.5), kinkopt.monitor.update_ratio()).init(params)
    >>> for _ in range(4):
    ...   params, state = step(params, state)
    ...   if step.is_measured:
    ...     print(step.count, kinkopt.monitor.find_update_ratio(state).param_scale)
    2 [0.8660254]
    4 [0.21650635]
  """
  check_integer("every", "k", k, Interval(1, math.inf), "Every k-th step is measured.")
  check_integer("every", "start", start, Interval(0, math.inf), "It counts the steps made before.")
  measured, plain = make_step(True), make_step(False)
  for step in (measured, plain):
    if not callable(step):
      raise TypeError(
        "`every(make_step=...)` must give a function that makes a step, but gave a "
        f"{type(step).__name__}. Return the step itself, jitted, from `make_step(measure)`."
      )
  return Every(int(k), measured, plain, int(start))
