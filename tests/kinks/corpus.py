"""A corpus of functions that people differentiate, on which frozen differences must be right.

Each member is a function and a way to draw its arguments. The families, a file each, are the parts
of JAX and of its ecosystem that the functions come from. `exceptions.py` names those members where
the difference of what is evaluated is not the derivative that JAX takes, each with the reason.
"""

import contextlib
import dataclasses
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


def _drawn(draw: Callable[[tuple[int, ...]], np.ndarray], like: Any) -> Any:
  """Draws numbers in the shapes of a tree: real and imaginary parts, and 0 for integers."""

  def leaf(shape: Any) -> np.ndarray:
    if not jnp.issubdtype(shape.dtype, jnp.inexact):
      return np.zeros(())
    is_complex = jnp.issubdtype(shape.dtype, jnp.complexfloating)
    return draw(shape.shape) + 1j * draw(shape.shape) if is_complex else draw(shape.shape)

  return jax.tree.map(leaf, like)


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


def _is_moved(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _along(x: Any, h: Any, direction: Any) -> Any:
  return jax.tree.map(lambda a, v: a + h * v if _is_moved(a) else a, x, direction)


def _tangent(x: Any, direction: Any) -> Any:
  float0 = jax.dtypes.float0
  return jax.tree.map(lambda a, v: v if _is_moved(a) else np.zeros(a.shape, float0), x, direction)


def _program(member: Member) -> Callable[..., Any]:
  """Writes the measurement of a member, in the program's own dtypes.

  It is of the member's arguments, a weight for each number of its results, and the directions.
  """
  argnums = (member.argnums,) if isinstance(member.argnums, int) else member.argnums

  def run(args: tuple[Any, ...], cotangent: Any, directions: Any) -> Any:
    frozen = freeze(member.fun, *args, argnums=argnums)
    replay = in_float64(member.fun, like=args, argnums=argnums)
    with jax.enable_x64(True):
      point = jax.tree.map(_wide, tuple(args[i] for i in argnums))

      def evaluated(moved: Any) -> Any:
        given = dict(zip(argnums, moved))
        return _product(cotangent, replay(*(given.get(i, a) for i, a in enumerate(args))))

      def probe(which: Any) -> Any:
        direction = jax.tree.map(lambda v: v[which[1].astype(int)], directions)
        return _product(cotangent, frozen(*_along(point, which[0], direction)))

      steps = np.array([[s * 2.0**-k for s in (1, -1)] for k in HALVINGS])
      grid = np.stack(np.broadcast_arrays(steps[None], np.arange(DIRECTIONS)[:, None, None]), -1)
      rows = np.concatenate([np.zeros((1, 2)), grid.reshape(-1, 2)])  # the point itself comes first
      start, *probes = jnp.split(jax.lax.map(probe, jnp.asarray(rows)), [1])
      probes = probes[0].reshape(grid.shape[:-1])
      ways = [jax.tree.map(lambda v, i=i: v[i], directions) for i in range(DIRECTIONS)]
      if member.is_forward:
        rates = [jax.jvp(evaluated, (point,), (_tangent(point, v),))[1] for v in ways]
        value, size = evaluated(point), jnp.abs(jnp.stack(rates))
      else:
        value, gradient = jax.value_and_grad(evaluated, allow_int=True)(point)
        rates = [_product(v, gradient) for v in ways]
        size = jnp.sqrt(_product(jax.tree.map(jnp.conj, gradient), gradient)) * jnp.ones(DIRECTIONS)
      return probes, jnp.stack(rates), size, value, start[0]

  return run


def measure(member: Member, keys: Sequence[jax.Array]) -> list[Measured]:
  """Differences and differentiates a member at a point for each key.

  The program is traced in the mode of its author, most of the time without 64 bits, and compiled
  once.
  """
  found = []
  random = np.random.default_rng(0)
  argnums = (member.argnums,) if isinstance(member.argnums, int) else member.argnums
  with member.mode():
    drawn = [member.arguments(key) for key in keys]
    weights = _drawn(random.standard_normal, jax.eval_shape(member.fun, *drawn[0]))
    moved = tuple(drawn[0][i] for i in argnums)
    ways = [
      _drawn(lambda shape: random.choice([-1.0, 1.0], shape), moved) for _ in range(DIRECTIONS)
    ]
    given = weights, jax.tree.map(lambda *v: np.stack(v), *ways)
  with jax.enable_x64(True):
    given = jax.tree.map(jnp.asarray, given)
  with member.mode():
    traced = jax.jit(_program(member)).trace(drawn[0], *given)
  # JAX lowers some special functions of float64 only where 64 bits are on.
  with jax.enable_x64(True):
    compiled = traced.lower().compile(_HASTE)
  for args in drawn:
    probes, rates, size, value, start = compiled(args, *given)
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
