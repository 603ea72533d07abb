"""What a check asks, and what it hears: the words between its host and its programs."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from kinkopt._typing import PyTree
from kinkopt.gradcheck._arguments import of_shown


@dataclasses.dataclass(frozen=True)
class Question:
  """What is asked, all but the arrays."""

  fun: Callable[..., PyTree]
  argnums: tuple[int, ...]
  is_single: bool  # whether `argnums` was an integer
  gradient: Callable[..., PyTree] | None = None  # the function that was handed in
  is_handed: bool = False  # as a function or as arrays
  has_aux: bool = False
  is_forward: bool = False
  order: int = 1
  through_stop_gradient: bool = False
  intended: tuple[str, ...] = ()
  batch_size: int = 1
  trusts_libraries: bool = False
  is_x64: bool = False  # whether 64 bits are on

  @property
  def value(self) -> Callable[..., PyTree]:
    """What is evaluated, on arguments whose leaves are arrays."""
    fun = of_shown(self.fun)
    return (lambda *args: fun(*args)[0]) if self.has_aux else fun

  @property
  def is_fixed(self) -> bool:
    """Whether the functions are jitted, so that JAX itself would not look at them again."""
    functions = [self.fun] if self.gradient is None else [self.fun, self.gradient]
    return all(isinstance(function, jax.stages.Wrapped) for function in functions)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Claim:
  """The gradient under test; beside it, static, what tracing told of the program."""

  leaves: list[jax.Array] | None  # float64; None in forward mode
  value: jax.Array  # of the function, its outputs weighed
  weight: jax.Array  # of the only output, if that is a scalar; else 1
  norms: jax.Array  # [leaves]; in forward mode NaN
  units: jax.Array  # [leaves], to measure steps in
  losses: jax.Array  # [leaves], the relative error of the program's own precision; NaN: not known
  names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
  shapes: tuple[tuple[int, ...], ...] = dataclasses.field(metadata={"static": True})
  opaque: tuple[str, ...] = dataclasses.field(metadata={"static": True})
  cuts: tuple[str, ...] = dataclasses.field(metadata={"static": True})
  iterated: tuple[str, ...] = dataclasses.field(metadata={"static": True})
  rules: tuple[str, ...] = dataclasses.field(metadata={"static": True})

  @property
  def sizes(self) -> list[int]:
    """The number of coordinates of each leaf."""
    return list(map(math.prod, self.shapes))


class Row(NamedTuple):
  """One pair of values to look at, on the host."""

  leaf: int
  draw: int
  low: int
  high: int
  step: float  # in the leaf's unit
  is_upward: bool = False


class Seen(NamedTuple):
  """What was seen along rows; each `[rows]`."""

  right: np.ndarray
  left: np.ndarray
  steps: np.ndarray
  claim: np.ndarray
  length: np.ndarray
  size: np.ndarray

  @classmethod
  def nothing(cls, count: int) -> "Seen":
    """What is seen along rows that were not looked at: a claim of 0, and values not known."""
    return cls(*(np.full(count, x) for x in (np.nan, np.nan, 1.0, 0.0, 1.0, 0.0)))


class StopCheck(Exception):  # noqa: N818, as `StopIteration`: it is no error
  """Raised by a `progress` of `check_gradient`: the check ends, and reports what it has seen."""


class Watch:
  """Tells how far a check is, and hears whether it is to end."""

  def __init__(self, progress: Callable[[int, int], None] | None):
    self._progress = progress
    self.is_stopped = False

  def tell(self, done: int, planned: int) -> None:
    """Tells how many evaluations are done, and how many of those are known to be needed."""
    if self._progress is not None and not self.is_stopped:
      try:
        self._progress(done, planned)
      except StopCheck:
        self.is_stopped = True
