"""The globalisation: how far the quadratic model is trusted, and what a trial teaches about that.

A globalisation keeps a memory between updates: the damping on the diagonal, the radius of a trust
region, or the weight of a cubic term. It poses the model at a point, once for all trials of an
update; gives a step for what it remembers; and learns from the ratio of the decrease of the loss to
that of the model.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt.newton._curvature import Linearization
from kinkopt.newton._point import Parts, Point
from kinkopt.newton._region import Model

# A ratio above GOOD makes the next step bolder, one below POOR makes it more cautious (Conn, Gould
# and Toint, "Trust-Region Methods", 2000, section 6.1).
GOOD, POOR = 0.75, 0.25


@dataclasses.dataclass(frozen=True)
class Problem:
  """The quadratic model at one point."""

  memory: Any  # what was remembered, fitted to this point
  step: Callable[[Any], Model]  # from a memory
  code: jax.Array  # int32[], of an `Outcome`: what is wrong with the model, or `NEWTON`


class Globalization(abc.ABC):
  """How far a step may go."""

  @abc.abstractmethod
  def init(self, parts: Parts) -> Any:
    """Gives the first memory, a tree of arrays that keeps its structure and dtypes."""

  @abc.abstractmethod
  def pose(
    self, curvature: Linearization, point: Point, gradient: Parts, memory: Any, is_first: jax.Array
  ) -> Problem:
    """Makes the model, once for all trials of an update."""

  @abc.abstractmethod
  def learn(self, memory: Any, ratio: jax.Array, model: Model) -> Any:
    """Gives the memory after a trial; the ratio is -inf or NaN where there is no new loss."""


def next_radius(radius: jax.Array, ratio: jax.Array, taken: jax.Array) -> jax.Array:
  """Gives the radius after a step of a length."""
  taken = jnp.where(taken > 0, taken, radius)
  shorter = jnp.where(ratio > -1, 0.25, 0.1) * taken  # NaN: the shorter
  longer = jnp.where(taken > 0.8 * radius, jnp.maximum(radius, 2.5 * taken), radius)
  return jnp.select([ratio >= GOOD, ratio >= POOR], [longer, radius], shorter)
