"""Lets a function see the direction that it is differentiated along.

A tie is decided by how the margin moves, and that is a derivative. Instead of a third lane through
every rule, a program that has to know is run under `jax.jvp`, which carries the derivatives through
loops and branches anyway; where they matter, they are asked for here.
"""

from typing import Any

import jax
import jax.numpy as jnp


@jax.custom_jvp
def _reveal(values: list[Any]) -> tuple[list[Any], list[Any]]:
  return values, list(map(jnp.zeros_like, values))


@_reveal.defjvp
def _reveal_jvp(primals: Any, tangents: Any) -> Any:
  (values,), (rates,) = primals, tangents
  return (values, rates), (rates, list(map(jnp.zeros_like, rates)))


def reveal(values: list[Any]) -> tuple[list[Any], list[Any]]:
  """Gives values and their derivatives along the direction of the surrounding `jax.jvp`.

  Args:
    values: arrays; the rate of an integer or a mask is 0. Outside of `jax.jvp` all rates are 0.
  """
  values = list(map(jnp.asarray, values))
  chosen = [i for i, value in enumerate(values) if jnp.issubdtype(value.dtype, jnp.inexact)]
  rates: list[Any] = list(map(jnp.zeros_like, values))
  seen, moving = _reveal([values[i] for i in chosen])
  for i, value, rate in zip(chosen, seen, moving, strict=True):
    values[i], rates[i] = value, rate
  return values, rates
