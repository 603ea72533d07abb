"""Where a NaN or an infinity comes from: the first equation that made it of finite numbers.

The function is run, and then its gradient, which is a program like any other. Both keep the lines
of the user's code, so that what is found is a place to go to.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kinkopt import _jax
from kinkopt._places import Place, told
from kinkopt.gradcheck._arguments import is_inexact
from kinkopt.trace._interpreter import is_active, lane, replaying
from kinkopt.trace._policy import Policy
from kinkopt.trace._program import Program
from kinkopt.trace._replay import Replay


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Made:
  """How many numbers that are not finite an equation made of finite ones."""

  count: jax.Array

  def empty(self) -> "_Made":
    return _Made(jnp.zeros_like(self.count))

  def merge(self, other: "_Made") -> "_Made":
    return _Made(self.count + other.count)

  def only_if(self, holds: jax.Array) -> "_Made":
    return _Made(jnp.where(holds, self.count, 0))


class _Watch(Replay):
  """Runs a program by its own rules' functions, and notes where finite numbers end."""

  blank = None

  def __init__(self, is_x64: bool):
    super().__init__(float64=True, policy=Policy(), is_x64=is_x64)

  def run_equation(self, eqn: Any, values: list[Any]) -> list[Any]:
    results = super().run_equation(eqn, values)
    if any(map(is_active, values)) and not _jax.has_programs(eqn):
      operands, found = ([lane(v, 0) for v in row] for row in (values, results))
      were_finite = jnp.all(jnp.stack([_is_finite(x) for x in operands if is_inexact(x)]))
      lost = [jnp.sum(~jnp.isfinite(x), dtype=jnp.int32) for x in found if is_inexact(x)]
      if lost:
        made = jnp.where(were_finite, sum(lost), 0)
        units = jax.ShapeDtypeStruct((), jnp.int32)
        self.merge(self.site(_jax.name(eqn), units), _Made(made))
    return results

  def alone(self) -> Replay:
    return Replay.within(self)


def _is_finite(value: Any) -> jax.Array:
  return jnp.all(jnp.isfinite(value))


class Maker(NamedTuple):
  """An equation, and where it is."""

  name: str
  place: Place


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Origins:
  """What is not finite, forwards and backwards."""

  is_value_finite: jax.Array
  forwards: list[jax.Array]  # of each equation of the function, the count of what it made
  backwards: list[jax.Array]  # of each equation of the gradient
  places: tuple[tuple[Maker, ...], tuple[Maker, ...]] = dataclasses.field(metadata={"static": True})

  def first(self) -> tuple[Maker | None, Maker | None]:
    """Gives the first equation that made such numbers in the function, and in its gradient."""
    forward, backward = (
      next((place for place, count in zip(places, counts) if int(count)), None)
      for places, counts in zip(self.places, (self.forwards, self.backwards))
    )
    return forward, backward

  def sentence(self) -> str:
    """Says why the gradient is not finite; the end of a sentence, empty where nobody knows."""
    forward, backward = self.first()
    if forward and not bool(self.is_value_finite):
      return f"the value itself is not finite: {_told(forward)} made it of finite numbers"
    if forward:
      return (
        f"{_told(forward)} is not finite in a branch that `where` did not take, and 0 times "
        "that is NaN on the way back: put a second `where` around its operand, so that the branch "
        "is finite everywhere"
      )
    if backward:
      return (
        f"its slope is infinite on the way back, at {_told(backward)}; where a `where` or a "
        "factor of 0 is to hide that, 0 times infinity is NaN: put a second `where` around the "
        "operand there, so that the slope is finite everywhere"
      )
    return ""


def _told(maker: Maker) -> str:
  return f"`{maker.name}`" + (f" ({told(*maker.place)})" if maker.place.file else "")


def find_origins(program: Program, gradient: Program) -> Origins:
  """Counts where a function and its gradient lose finite numbers, at the arguments of both."""
  counts, places, values = [], [], []
  for code in (program, gradient):
    watch = _Watch(code.is_x64)
    with replaying(float64=True):
      values.append(code.run(watch, [code.args]))
    counts.append([made.count for made in watch.records.values()])
    places.append(tuple(Maker(s.primitive, Place(s.file, s.line)) for s in watch.records))
  outputs = [leaf for leaf in jax.tree.leaves(values[0]) if is_inexact(leaf)]
  is_value_finite = jnp.all(jnp.stack([_is_finite(leaf) for leaf in outputs]))
  return Origins(is_value_finite, counts[0], counts[1], (places[0], places[1]))
