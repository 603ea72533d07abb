"""Steps that give up their parameters and state to the next, as contestants of `_timing.race`."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Carry = tuple[Any, Any]  # parameters and state
Step = Callable[..., Carry]  # (params, state, *given)


def compiled(
  step: Step, params: Any, state: Any, *given: Any
) -> tuple[Callable[[int], None], float]:
  """Gives the contestant, with buffers of its own, and the seconds that compiling took."""
  started = time.perf_counter()
  program = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, *given).compile()
  seconds = time.perf_counter() - started
  carry = jax.tree.map(jnp.copy, (params, state))

  def run(steps: int) -> None:
    nonlocal carry
    for _ in range(steps):
      carry = program(*carry, *given)
    jax.block_until_ready(carry)

  return run, seconds


def of_rule(tx: optax.GradientTransformation) -> Step:
  """Makes the step of a rule, which is given the gradient."""

  def step(params: Any, state: Any, grads: Any) -> Carry:
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  return step


def floor(params: Any, state: Any, grads: Any) -> Carry:
  """Touches every byte that a rule must touch, once: reads `grads`, reads and writes the rest."""
  return jax.tree.map(jnp.subtract, params, grads), jax.tree.map(jnp.negative, state)
