"""A corpus of functions that people differentiate, on which frozen differences must be right.

Each member is a function and a way to draw its arguments. The families, a file each, are the parts
of JAX and of its ecosystem that the functions come from. `exceptions.py` names those members where
the difference of what is evaluated is not the derivative that JAX takes, each with the reason.
"""

import contextlib
import dataclasses
import functools
import importlib
import itertools
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt.kinks import freeze, in_float64

HALVINGS = range(4, 14)  # the steps are 2^-k
DIRECTIONS = 2
_HASTE = {"xla_backend_optimization_level": 0}  # each program runs three times


@dataclasses.dataclass(frozen=True)
class Member:
  """One function of the corpus."""

  name: str
  fun: Callable[..., Any]
  draw: Callable[[jax.Array], tuple[Any, ...]]  # arguments from a random key
  argnums: int | tuple[int, ...] = 0
  is_forward: bool = False  # JAX cannot differentiate it backwards, as a `while`
  # Written for 64 bits: in float32 a series sums constants whose rounding XLA decides.
  is_x64: bool = False

  def arguments(self, key: jax.Array) -> tuple[Any, ...]:
    """Draws the arguments; call it, and the function, in the member's own mode."""
    drawn = self.draw(key)
    return jax.tree.map(_wide, drawn) if self.is_x64 else drawn

  def mode(self) -> contextlib.ExitStack:
    """Enters what the author of such a program has set."""
    stack = contextlib.ExitStack()
    stack.enter_context(jax.enable_x64(self.is_x64))
    stack.enter_context(jax.numpy_dtype_promotion("standard"))
    return stack


@dataclasses.dataclass(frozen=True)
class Measured:
  """One direction at one point: the derivative by JAX, and by frozen differences alone."""

  derivative: float
  estimate: float
  scale: float  # the norm of the gradient: the size of a derivative along a direction of signs
  values: tuple[float, float]  # at the point: of the replay, and of the frozen program

  @property
  def error(self) -> float:
    """The relative error of the estimate; where the gradient is 0, the error itself."""
    return abs(self.estimate - self.derivative) / (self.scale or 1.0)


def normal(*shapes: tuple[int, ...], dtype: Any = jnp.float32) -> Callable[..., Any]:
  """Draws an array of each shape from the normal distribution."""

  def draw(key: jax.Array) -> tuple[Any, ...]:
    keys = jax.random.split(key, len(shapes))
    return tuple(jax.random.normal(k, shape, dtype) for k, shape in zip(keys, shapes, strict=True))

  return draw


def uniform(low: float, high: float, *shapes: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
  """Draws an array of each shape between two numbers."""

  def draw(key: jax.Array) -> tuple[Any, ...]:
    keys = jax.random.split(key, len(shapes))
    return tuple(jax.random.uniform(k, shape, dtype, low, high) for k, shape in zip(keys, shapes))

  return draw


def vmapped(member: Member, size: int = 3) -> Member:
  """Maps a function over a batch of its arguments."""

  def draw(key: jax.Array) -> tuple[Any, ...]:
    drawn = [member.draw(k) for k in jax.random.split(key, size)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)

  return dataclasses.replace(
    member, name=f"vmap of {member.name}", fun=jax.vmap(member.fun), draw=draw
  )


def members() -> list[Member]:
  """Gathers the families."""
  families = importlib.import_module("tests.kinks.families")
  modules = sorted(module.name for module in pkgutil.iter_modules(families.__path__))
  loaded = [importlib.import_module(f"tests.kinks.families.{name}") for name in modules]
  return list(itertools.chain.from_iterable(module.MEMBERS for module in loaded))


def _drawn(draw: Callable[..., jax.Array], key: jax.Array, like: Any) -> Any:
  """Draws a number for each of a tree's: its real and its imaginary part."""
  leaves, tree = jax.tree.flatten(like)
  keys = jax.random.split(key, max(len(leaves), 1))
  return tree.unflatten([_leaf(draw, k, leaf) for k, leaf in zip(keys, leaves)])


def _leaf(draw: Callable[..., jax.Array], key: jax.Array, leaf: Any) -> Any:
  if not jnp.issubdtype(leaf.dtype, jnp.inexact):
    return np.zeros(leaf.shape, jax.dtypes.float0)
  numbers = draw(key, (2, *leaf.shape), jnp.float64)
  is_complex = jnp.issubdtype(leaf.dtype, jnp.complexfloating)
  return jax.lax.complex(*numbers) if is_complex else numbers[0]


_signs = functools.partial(_drawn, jax.random.rademacher)


def _product(a: Any, b: Any) -> jax.Array:
  """Sums the real part of the products, over floating leaves."""
  pairs = [
    (x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    if x.dtype != jax.dtypes.float0 and jnp.issubdtype(y.dtype, jnp.inexact)
  ]
  return sum((jnp.sum(jnp.real(x * y)) for x, y in pairs), jnp.float64(0))


def _wide(leaf: Any) -> Any:
  if not jnp.issubdtype(leaf.dtype, jnp.inexact):
    return leaf
  is_complex = jnp.issubdtype(leaf.dtype, jnp.complexfloating)
  return leaf.astype(jnp.complex128 if is_complex else jnp.float64)


def _along(x: Any, h: Any, direction: Any) -> Any:
  return jax.tree.map(lambda a, v: a if v.dtype == jax.dtypes.float0 else a + h * v, x, direction)


def _program(member: Member) -> Callable[..., Any]:
  """Writes the measurement of a member: of (key, its arguments), in the program's own dtypes."""
  argnums = (member.argnums,) if isinstance(member.argnums, int) else member.argnums

  def run(key: jax.Array, args: tuple[Any, ...]) -> Any:
    frozen = freeze(member.fun, *args, argnums=argnums)
    replay = in_float64(member.fun, like=args, argnums=argnums)
    with jax.enable_x64(True):
      point = jax.tree.map(_wide, tuple(args[i] for i in argnums))
      cotangent = _drawn(jax.random.normal, key, jax.eval_shape(frozen, *point))

      def evaluated(moved: Any) -> Any:
        given = dict(zip(argnums, moved))
        return _product(cotangent, replay(*(given.get(i, a) for i, a in enumerate(args))))

      def probe(which: Any) -> Any:
        direction = _signs(jax.random.fold_in(key, which[1].astype(int)), point)
        return _product(cotangent, frozen(*_along(point, which[0], direction)))

      steps = np.array([[s * 2.0**-k for s in (1, -1)] for k in HALVINGS])
      grid = np.stack(np.broadcast_arrays(steps[None], np.arange(DIRECTIONS)[:, None, None]), -1)
      rows = np.concatenate([np.zeros((1, 2)), grid.reshape(-1, 2)])  # the point itself comes first
      start, *probes = jnp.split(jax.lax.map(probe, jnp.asarray(rows)), [1])
      probes = probes[0].reshape(grid.shape[:-1])
      directions = [_signs(jax.random.fold_in(key, i), point) for i in range(DIRECTIONS)]
      if member.is_forward:
        rates = [jax.jvp(evaluated, (point,), (v,))[1] for v in directions]
        value, size = evaluated(point), jnp.abs(jnp.stack(rates))
      else:
        value, gradient = jax.value_and_grad(evaluated, allow_int=True)(point)
        rates = [_product(v, gradient) for v in directions]
        size = jnp.sqrt(_product(jax.tree.map(jnp.conj, gradient), gradient)) * jnp.ones(DIRECTIONS)
      return probes, jnp.stack(rates), size, value, start[0]

  return run


def measure(member: Member, keys: Sequence[jax.Array]) -> list[Measured]:
  """Differences and differentiates a member at a point for each key.

  The program is traced in the mode of its author, most of the time without 64 bits, and compiled
  once.
  """
  found = []
  with member.mode():
    drawn = [member.arguments(key) for key in keys]
    traced = jax.jit(_program(member)).trace(keys[0], drawn[0])
  # JAX lowers some special functions of float64 only where 64 bits are on.
  with jax.enable_x64(True):
    compiled = traced.lower().compile(_HASTE)
  for key, args in zip(keys, drawn):
    probes, rates, size, value, start = compiled(key, args)
    for i in range(DIRECTIONS):
      estimate = extrapolated(np.asarray(probes[i]))
      scale = float(max(size[i], abs(rates[i])))
      found.append(Measured(float(rates[i]), estimate, scale, (float(value), float(start))))
  return found


def extrapolated(probes: np.ndarray) -> float:
  """Gives the best of Richardson's tableau, chosen by its own differences, without the truth."""
  steps = 2.0 ** -np.array(HALVINGS)
  row = list((probes[:, 0] - probes[:, 1]) / (2 * steps))
  rounding = np.finfo(float).eps * np.nanmax(np.abs(probes))
  best, least = np.nan, np.inf
  for power in range(1, len(row)):
    finer = [(4**power * b - a) / (4**power - 1) for a, b in itertools.pairwise(row)]
    for k, (new, old) in enumerate(zip(finer, row[1:])):
      doubt = abs(new - old) + rounding / steps[k + power]
      if doubt < least:
        best, least = new, doubt
    row = finer
  return float(best)
