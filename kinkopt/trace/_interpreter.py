"""Runs a program on one or two values at once, in float64, and knows which of them matter.

A value that depends on the arguments that move is carried as `Lanes`: at the point and at the moved
point, at two points that are compared, or at one alone. Everything else is carried once, in its own
dtype, so random bits, masks and indices are those of the program. What a winner does with its lanes
is each interpreter's own; equations, programs and records are handled here for all of them. Nothing
is stored, so memory is that of one evaluation a lane.
"""

import abc
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kinkopt import _jax, _places
from kinkopt.trace._policy import Policy
from kinkopt.trace._registry import Call, PrimitiveClass, Winner, looked_up
from kinkopt.trace._site import Site

_WIDE = {
  "float16": "float64",
  "bfloat16": "float64",
  "float32": "float64",
  "complex64": "complex128",
}
# What a primitive was told of its result's dtype, in parameters of these names.
_DTYPES = ("preferred_element_type", "new_dtype", "dtype")


class Lanes(NamedTuple):
  """The values of one variable at the points that a program is run at."""

  values: tuple[Any, ...]


def is_active(value: Any) -> bool:
  """Whether a value depends on the arguments that move."""
  return isinstance(value, Lanes)


def lane(value: Any, index: int) -> Any:
  """Gives one lane of a value; what has no lanes is the same in each."""
  return value.values[index] if isinstance(value, Lanes) else value


def is_inexact(value: Any) -> bool:
  """Whether a value or shape is real or complex floating point."""
  return jnp.issubdtype(value.dtype, jnp.inexact)


@contextlib.contextmanager
def replaying(float64: bool) -> Iterator[None]:
  """Lets float64 values be made, and dtypes and ranks mix; outside nothing changes."""
  wide = jax.enable_x64(True) if float64 else contextlib.nullcontext()
  with wide, jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    yield


class Interpreter(abc.ABC):
  """How a program is run; lists what is opaque and what is cut; records what it was asked to."""

  count: int  # of lanes
  decided_lanes = 1  # that decide for themselves; the others follow the first
  # Whether each lane decides for itself, so that integers and masks have lanes as well.
  is_apart = False
  # What is recorded before anything is run; None: only running a program tells.
  blank: Mapping[Any, Any] | None = None

  def __init__(self, float64: bool, policy: Policy, is_x64: bool):
    """Sets an interpreter up.

    Args:
      float64: whether what moves is computed in float64.
      policy: whose derivative rules stand in what is run.
      is_x64: whether the program was traced with 64 bits; its derivative rules, which are traced
        later, are traced likewise.
    """
    self.float64, self.policy, self.is_x64 = float64, policy, is_x64
    self.opaque: dict[str, None] = {}  # ordered sets
    self.cuts: dict[str, None] = {}
    self.iterated: dict[str, None] = {}
    self.records: dict[Any, Any] = {}
    self.activity: dict[Any, Any] = {}  # of programs' results, once it is known
    self._path: tuple[int, ...] = ()
    # The equations being run, outermost first, and whether each stands in a library's function.
    self._callers: tuple[tuple[Any, bool], ...] = ()

  @abc.abstractmethod
  def run_winner(self, winner: Winner, call: Call, values: list[Any]) -> list[Any]:
    """Runs a winner on values some of which are active."""

  @abc.abstractmethod
  def stop_gradient(self, value: Lanes) -> Any:
    """Gives what `stop_gradient` makes of a value."""

  @abc.abstractmethod
  def alone(self) -> "Interpreter":
    """Gives an interpreter of one lane, which runs what is evaluated and records nothing."""

  def record_parting(self, name: str, decisions: Lanes) -> None:
    """Records where lanes may part: at a branch, or at a trip count."""
    raise NotImplementedError(f"{type(self).__name__} has lanes that part, and must record it.")

  def merge(self, site: Any, record: Any) -> None:
    """Adds a record to what is known of a site."""
    known = self.records.get(site)
    self.records[site] = record if known is None else known.merge(record)

  def merge_all(self, sites: Iterable[Any], records: Iterable[Any]) -> None:
    """Adds the records that came out of a branch or a loop."""
    for site, record in zip(sites, records, strict=True):
      self.merge(site, record)

  def widen(self, value: Any) -> Any:
    """Casts a floating value to the dtype of the replay; leaves integers, masks and keys alone."""
    dtype = self.wide(getattr(value, "dtype", None))
    return (
      value if dtype is None or value.dtype == dtype else jax.lax.convert_element_type(value, dtype)
    )

  def wide(self, dtype: Any) -> Any:
    """Gives the dtype of the replay in the place of `dtype`."""
    return jnp.dtype(_WIDE[str(dtype)]) if self.float64 and str(dtype) in _WIDE else dtype

  def activate(self, value: Any) -> Any:
    """Gives lanes to a value that has none, where its dtype can have any."""
    if is_active(value) or not self.can_be_active(value):
      return value
    return Lanes((self.widen(value),) * self.count)

  def can_be_active(self, value: Any) -> bool:
    """Whether a value or a shape has a dtype that lanes can differ in."""
    return self.is_apart or is_inexact(value)

  def join(self, lanes: Sequence[Any]) -> Any:
    """Makes one value of what was computed for each lane."""
    return Lanes(tuple(lanes)) if self.can_be_active(lanes[0]) else lanes[0]

  def run(self, program: Any, values: Sequence[Any]) -> list[Any]:
    """Runs a program, closed or open, on active and plain values."""
    jaxpr, constants = _jax.closed(program)
    environment = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *values], strict=True))
    outside = self._path, self._callers
    is_library = _jax.is_library(program)

    def read(atom: Any) -> Any:
      if isinstance(atom, _jax.Literal):
        return jnp.asarray(atom.val, getattr(atom.aval, "dtype", None))
      return environment[atom]

    for number, eqn in enumerate(jaxpr.eqns):
      self._path, self._callers = (*outside[0], number), (*outside[1], (eqn, is_library))
      with _jax.under_its_traceback(eqn), eqn.ctx.manager:
        results = self.run_equation(eqn, [read(atom) for atom in eqn.invars])
      environment.update(zip(eqn.outvars, results, strict=True))
    self._path, self._callers = outside
    return [read(atom) for atom in jaxpr.outvars]

  @property
  def place(self) -> _places.Place | None:
    """The user's line that the equation being run comes from.

    In a library's function it is that of the call which led into it.
    """
    found = None
    for eqn, is_library in self._callers:
      found = (found if is_library else None) or _places.place(eqn) or found
    return found

  def site(self, name: str, units: Any) -> Site:
    """Names the equation that is being run."""
    file, line = self.place or _places.Place()
    names = "/".join(filter(None, (_places.name_stack(eqn) for eqn, _ in self._callers)))
    return Site(name, file, line, names, tuple(units.shape), self._path)

  def recorded(self, run: Callable[[], Any]) -> tuple[Any, dict[Any, Any]]:
    """Runs something; gives its result and what was recorded meanwhile, apart from the rest."""
    outside, self.records = self.records, {}
    try:
      return run(), self.records
    finally:
      self.records = outside

  def run_equation(self, eqn: Any, values: list[Any]) -> list[Any]:
    """Runs one equation on active and plain values."""
    if not any(map(is_active, values)):
      return _jax.bind(eqn, values)
    name = _jax.name(eqn)
    kind, rule = looked_up(name)
    if kind is PrimitiveClass.OPAQUE:
      return self.run_opaque(eqn, values)
    if kind is PrimitiveClass.WINNER:
      call = Call(name, eqn.params, lambda operands: self.bind(eqn, list(operands)))
      if rule.applies(call, [lane(value, 0) for value in values]):
        return self.run_winner(rule, call, values)
      rule = None
    return rule(self, eqn, values) if rule else self.run_smooth(eqn, values)

  def run_smooth(self, eqn: Any, values: list[Any]) -> list[Any]:
    """Runs an equation on each lane."""
    lanes = [self.bind(eqn, [lane(v, i) for v in values]) for i in range(self.count)]
    return list(map(self.join, zip(*lanes, strict=True)))

  def bind(self, eqn: Any, operands: list[Any], **changed: Any) -> list[Any]:
    """Runs an equation in the replay's dtypes on operands of one lane."""
    for name in _DTYPES:
      if eqn.params.get(name) is not None:
        changed.setdefault(name, self.wide(eqn.params[name]))
    if self.float64 and "precision" in eqn.params:
      changed["precision"] = None  # an algorithm such as BF16_BF16_F32 would round the operands
    return _jax.bind(eqn, list(map(self.widen, operands)), **changed)

  def run_opaque(self, eqn: Any, values: list[Any]) -> list[Any]:
    """Runs each lane in the program's own dtypes, and says so."""
    self.opaque[_told(eqn.primitive.name, self.place)] = None

    def run(index: int) -> list[Any]:
      operands = [
        jax.lax.convert_element_type(lane(v, index), a.aval.dtype) if is_active(v) else v
        for v, a in zip(values, eqn.invars, strict=True)
      ]
      return list(map(self.widen, _jax.bind(eqn, operands)))

    # What has no result, such as a print, is done once.
    lanes = [run(index) for index in range(self.count if eqn.outvars else 1)]
    return list(map(self.join, zip(*lanes, strict=True)))

  def note_iterated(self) -> None:
    """Lists a loop whose trip count depends on what moves, as one that ends at a tolerance does."""
    self.iterated[_told("while", self.place)] = None

  def note_cut(self, eqn: Any) -> None:
    """Lists a `stop_gradient` of the user's; those within libraries are theirs to answer for."""
    place = _places.cut(eqn)
    if place:
      self.cuts[_told("stop_gradient", place)] = None


def _told(name: str, place: _places.Place | None) -> str:
  return f"{name} ({_places.told(*place)})" if place and place.file else name


def without_derivative(
  run: Callable[[Any, list[Any]], list[Any]], eqn: Any, values: list[Any]
) -> list[Any]:
  """Runs an opaque equation; where JAX has no derivative of it, as if nothing moved in it."""
  try:
    return run(eqn, values)
  except (ValueError, NotImplementedError):
    still = [
      Lanes(tuple(map(jax.lax.stop_gradient, v.values))) if is_active(v) else v for v in values
    ]
    return run(eqn, still)
