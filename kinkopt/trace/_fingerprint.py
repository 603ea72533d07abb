"""What makes two programs the same: their text, with the derivative rules that stand in them.

Programs with equal fingerprints can share what was compiled: constants are compared by shape and
dtype, since they are operands, and the lines that equations come from not at all. The rules of
`custom_jvp` and `custom_vjp` are traced and compared as programs, because JAX holds them as
functions alone, and a function that is the same may by now do something else.
"""

import functools
import hashlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt import _jax, _places
from kinkopt.trace._program import Program

# What a program is called, and says of itself, makes no difference.
_LEFT_OUT = frozenset({"debug_info", "ctx_mesh", "name"})
_RULE_PARAMETERS = frozenset({"jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "out_trees"})


class NotComparable(Exception):  # noqa: N818, nothing went wrong
  """Raised where a program holds what cannot be compared: it is kept for nobody."""


def fingerprint(program: Program) -> Hashable:
  """Gives a key that is equal for equal programs.

  Raises:
    NotComparable: if a rule cannot be traced by itself, or holds values of a trace.
  """
  code, constants = _jax.closed(program.code)
  with jax.enable_x64(program.is_x64):
    return _Reader().code(code), tuple(map(_shaped, constants)), program.argnums, program.is_x64


def places_of(arrays: Sequence[Any]) -> Hashable:
  """Gives what a compiled program has to know of operands: their types, and where they lie."""
  puts = (isinstance(array, jax.Array) and array.committed for array in arrays)
  return tuple((_shaped(x), x.sharding if is_put else None) for x, is_put in zip(arrays, puts))


def _shaped(array: Any) -> Hashable:
  # As it is, and not as the setting of 64 bits would have it.
  dtype = array.dtype if hasattr(array, "dtype") else np.result_type(array)
  return np.shape(array), str(dtype), bool(getattr(array, "weak_type", False))


class _Reader:
  """Reads programs; knows whose rules it stands in, since a rule may call its own function."""

  def __init__(self) -> None:
    self.owners: list[_places.Function] = []

  def code(self, code: Any) -> Hashable:
    numbers: dict[Any, int] = {}

    def named(variables: Iterable[Any]) -> tuple[Hashable, ...]:
      return tuple(self.number(numbers, variable) for variable in variables)

    heads = named([*code.constvars, *code.invars])
    body = tuple(
      (e.primitive, named(e.invars), named(e.outvars), _jax.context(e), self.parameters(e))
      for e in code.eqns
    )
    return heads, body, named(code.outvars)

  def number(self, numbers: dict[Any, int], variable: Any) -> Hashable:
    if isinstance(variable, _jax.Literal):
      return self.value(variable.val), variable.aval
    known = numbers.get(variable)
    if known is None:
      known = numbers[variable] = len(numbers)
      return known, variable.aval
    return known

  def parameters(self, eqn: Any) -> Hashable:
    left_out = _LEFT_OUT
    rule: Hashable = ()
    if eqn.primitive.name in _jax.RULES:
      left_out, rule = _LEFT_OUT | _RULE_PARAMETERS, self.rule(eqn)
    chosen = ((name, value) for name, value in sorted(eqn.params.items()) if name not in left_out)
    return rule, tuple((name, self.value(value)) for name, value in chosen)

  def value(self, value: Any) -> Hashable:
    if isinstance(value, jax.core.Tracer):
      raise NotComparable
    if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
      code, constants = _jax.closed(value)
      return self.code(code), tuple(map(self.value, constants))
    if isinstance(value, tuple | list):
      return type(value), tuple(map(self.value, value))
    if isinstance(value, dict):
      return tuple((key, self.value(item)) for key, item in value.items())
    if isinstance(value, jax.Array | np.ndarray | np.generic):
      return _shaped(value), _content(value)
    if isinstance(value, float):  # 0.0 and -0.0 are equal, and NaN is not
      return float, value.hex()
    if isinstance(value, bool | int | complex):
      return type(value), repr(value)
    if isinstance(value, functools.partial):
      return value.func, self.value(value.args), self.value(value.keywords)
    try:
      hash(value)
    except TypeError as error:
      raise NotComparable from error
    return value

  def rule(self, eqn: Any) -> Hashable:
    owner = _places.function(eqn.params["call_jaxpr"])
    if owner in self.owners:
      return owner
    moves = [jnp.issubdtype(atom.aval.dtype, jnp.inexact) for atom in eqn.invars]
    self.owners.append(owner)
    try:
      if eqn.primitive.name == "custom_jvp_call":
        program, is_zero = _jax.jvp_rule(eqn).derivative([False] * len(moves))
        return self.value(program), tuple(is_zero)
      rule = _jax.vjp_rule(eqn)
      forward, origins = rule.forward(moves)
      backward, is_zero = rule.backward(*_jax.shapes_backward(eqn, forward, origins))
      return self.value(forward), tuple(origins), self.value(backward), tuple(is_zero)
    except Exception as error:  # whatever a rule of anybody's raises when it stands alone
      raise NotComparable from error
    finally:
      self.owners.pop()


def _content(array: Any) -> Hashable:
  if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.extended):
    array = jax.random.key_data(array)
  return hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()


def fingerprints(programs: Sequence[Program | None]) -> Hashable | None:
  """Gives one key for several programs; None where one of them cannot be compared."""
  try:
    return tuple(None if program is None else fingerprint(program) for program in programs)
  except NotComparable:
    return None
