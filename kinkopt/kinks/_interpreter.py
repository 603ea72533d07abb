"""Runs a program on two points at once: the one that decides, and the one that follows.

Each value that depends on the moved arguments is a `Pair`: its value at the point, and its value at
the moved point under the point's decisions. Everything else is carried once, in its own dtype.
Integers and masks that come from a pair are decisions, so they are the point's alone. Nothing is
stored, so memory is that of two evaluations.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kinkopt import _jax
from kinkopt.kinks._registry import PrimitiveClass, classify, rule_of

_WIDE = {
  "float16": "float64",
  "bfloat16": "float64",
  "float32": "float64",
  "complex64": "complex128",
}
# What a primitive was told of its result's dtype, in parameters of these names.
_DTYPES = ("preferred_element_type", "new_dtype", "dtype")


class Pair(NamedTuple):
  """A value that depends on the moved arguments."""

  point: Any
  moved: Any


def is_pair(value: Any) -> bool:
  """Whether a value depends on the moved arguments."""
  return isinstance(value, Pair)


def at_point(value: Any) -> Any:
  """Gives what decides: the point's half of a pair, or the value that has no halves."""
  return value.point if isinstance(value, Pair) else value


def at_moved(value: Any) -> Any:
  """Gives what follows."""
  return value.moved if isinstance(value, Pair) else value


def is_inexact(value: Any) -> bool:
  """Whether a value or shape is real or complex floating point."""
  return jnp.issubdtype(value.dtype, jnp.inexact)


@dataclasses.dataclass
class Interpreter:
  """How a program is run; lists what it could not see into."""

  float64: bool
  through_stop_gradient: bool
  opaque: dict[str, None] = dataclasses.field(default_factory=dict)  # an ordered set

  def widen(self, value: Any) -> Any:
    """Casts a floating value to the dtype of the replay; leaves integers, masks and keys alone."""
    dtype = self.wide(getattr(value, "dtype", None))
    return (
      value if dtype is None or value.dtype == dtype else jax.lax.convert_element_type(value, dtype)
    )

  def wide(self, dtype: Any) -> Any:
    """Gives the dtype of the replay in the place of `dtype`."""
    return jnp.dtype(_WIDE[str(dtype)]) if self.float64 and str(dtype) in _WIDE else dtype

  def pair(self, value: Any) -> Any:
    """Makes a pair of a floating value that has no halves; leaves everything else alone."""
    if is_pair(value) or not is_inexact(value):
      return value
    return Pair(self.widen(value), self.widen(value))

  def run(self, program: Any, values: Sequence[Any]) -> list[Any]:
    """Runs a program, closed or open, on pairs and plain values."""
    jaxpr, constants = _jax.closed(program)
    environment = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *values], strict=True))

    def read(atom: Any) -> Any:
      if isinstance(atom, _jax.Literal):
        return jnp.asarray(atom.val, getattr(atom.aval, "dtype", None))
      return environment[atom]

    for eqn in jaxpr.eqns:
      results = self._run_equation(eqn, [read(atom) for atom in eqn.invars])
      environment.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def _run_equation(self, eqn: Any, values: list[Any]) -> list[Any]:
    if not any(map(is_pair, values)):
      return _jax.bind(eqn, values)
    rule, kind = rule_of(eqn.primitive.name), classify(eqn.primitive)
    if kind is PrimitiveClass.OPAQUE:
      return self._run_opaque(eqn, values)
    if kind is not PrimitiveClass.STRUCTURAL and not any(map(is_inexact, _avals(eqn.outvars))):
      return self.bind(eqn, list(map(at_point, values)))
    return rule(self, eqn, values) if rule else self.run_smooth(eqn, values)

  def run_smooth(self, eqn: Any, values: list[Any]) -> list[Any]:
    """Runs an equation on each half."""
    point = self.bind(eqn, list(map(at_point, values)))
    moved = self.bind(eqn, list(map(at_moved, values)))
    return [Pair(p, m) if is_inexact(p) else p for p, m in zip(point, moved, strict=True)]

  def bind(self, eqn: Any, operands: list[Any], **changed: Any) -> list[Any]:
    """Runs an equation in the replay's dtypes on operands without halves."""
    for name in _DTYPES:
      if eqn.params.get(name) is not None:
        changed.setdefault(name, self.wide(eqn.params[name]))
    return _jax.bind(eqn, list(map(self.widen, operands)), **changed)

  def _run_opaque(self, eqn: Any, values: list[Any]) -> list[Any]:
    """Runs each half in the program's own dtypes, and says so."""
    self.opaque[_jax.source(eqn)] = None

    def run(half: Any) -> list[Any]:
      operands = [
        jax.lax.convert_element_type(half(value), aval.dtype) if is_pair(value) else value
        for value, aval in zip(values, _avals(eqn.invars), strict=True)
      ]
      return _jax.bind(eqn, operands)

    return [
      Pair(self.widen(p), self.widen(m)) if is_inexact(p) else p
      for p, m in zip(run(at_point), run(at_moved), strict=True)
    ]


def _avals(atoms: Sequence[Any]) -> list[Any]:
  return [atom.aval for atom in atoms]
