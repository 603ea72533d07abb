"""The one window on JAX's insides.

Programs as JAX writes them down: equations, their parameters, how control flow divides its
operands, and the derivative rules that users attach. These shapes move from release to release;
whoever needs them asks here, in words that do not move.
"""

import contextlib
import functools
import inspect
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

# Not from `jax.extend.core`, which takes 30 ms to import: it loads Pallas.
from jax._src import core, source_info_util, util
from jax._src.core import Literal, get_opaque_trace_state, jaxpr_as_fun

__all__ = [
  "OURS",
  "RULES",
  "ClosedJaxpr",
  "JvpRule",
  "Literal",
  "RootRule",
  "VjpRule",
  "bind",
  "closed",
  "context",
  "depends",
  "evaluate",
  "expanded",
  "has_narrow_floats",
  "is_file_of_library",
  "is_library",
  "is_traced",
  "jvp_rule",
  "kept",
  "light_compilation",
  "name",
  "program",
  "programs_in",
  "root_rule",
  "scan_lengths",
  "shapes_backward",
  "trace",
  "under_its_traceback",
  "vjp_rule",
]


# From JAX 0.12 on, a program with constants is no class of its own.
ClosedJaxpr: Any = getattr(core, "ClosedJaxpr", core.Jaxpr)


def is_traced() -> bool:
  """Whether the caller is being traced, by `jit`, `vmap`, `grad` or any other transformation."""
  return get_opaque_trace_state() != _UNTRACED


_UNTRACED = get_opaque_trace_state()  # if this is imported in a trace, all is said to be traced


def trace(fun: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
  """Writes a function down as a program.

  Args:
    fun: a function of pytrees.
    *args: arguments, or shapes and dtypes in their place.

  Returns:
    The closed program, and the pytree of its results' shapes and dtypes.
  """
  # `make_jaxpr` keeps what it traced by the function, and would not see that a value which the
  # function closes over has changed: a function of its own is traced each time.
  return jax.make_jaxpr(lambda *args: fun(*args), return_shape=True)(*args)


def closed(program: Any) -> tuple[Any, Sequence[Any]]:
  """Divides a program, closed or open, into its equations' owner and its constants."""
  # From JAX 0.12 on, an open program carries its constants itself.
  return getattr(program, "jaxpr", program), getattr(program, "consts", ())


def evaluate(code: Any, constants: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
  """Runs a program on other constants and operands."""
  return jaxpr_as_fun(ClosedJaxpr(code, list(constants)))(*operands)


def bind(eqn: Any, operands: Sequence[Any], **changed: Any) -> list[Any]:
  """Runs one equation on other operands, some of its parameters changed."""
  parameters = eqn.primitive.get_bind_params({**eqn.params, **changed})
  if isinstance(parameters, tuple):  # before JAX 0.9.2
    functions, parameters = parameters
    operands = (*functions, *operands)
  results = eqn.primitive.bind(*operands, **parameters)
  return list(results) if eqn.primitive.multiple_results else [results]


def name(eqn: Any) -> str:
  """Gives the primitive's name; of functions on the bits of numbers, which JAX wraps, their own."""
  primitive = eqn.primitive.name
  if primitive == "call_hi_primitive":
    own = type(eqn.params["_prim"]).__name__
  elif primitive == "custom_jvp_call" and is_library(eqn.params["call_jaxpr"]):
    own = closed(eqn.params["call_jaxpr"])[0].debug_info.func_name
  else:
    return primitive
  return {"Frexp": "frexp", "_frexp": "frexp", "Ldexp": "ldexp"}.get(own, primitive)


def scan_lengths(eqn: Any) -> tuple[int, int]:
  """Says how many operands of a `scan` are constants, and how many are carried."""
  if "num_consts" in eqn.params:
    return eqn.params["num_consts"], eqn.params["num_carry"]
  # From JAX 0.12 on, a tree of the operands says so.
  constants, carried, _ = eqn.params["ft_in"].update(range(len(eqn.invars))).unpack()
  return len(list(constants)), len(list(carried))


# The primitives that bring a derivative of their own.
RULES = ("custom_jvp_call", "custom_vjp_call")


def depends(program: Any, moves: Sequence[bool]) -> bool:
  """Whether any result of a program depends on those of its operands that move."""
  jaxpr, _ = closed(program)
  reached = {var for var, flag in zip(jaxpr.invars, moves, strict=True) if flag}
  for eqn in jaxpr.eqns:
    if any(not isinstance(atom, Literal) and atom in reached for atom in eqn.invars):
      reached.update(eqn.outvars)
  return any(not isinstance(atom, Literal) and atom in reached for atom in jaxpr.outvars)


_PROGRAM = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")


def program(eqn: Any) -> Any:
  """Gives the program that a call calls."""
  return next(eqn.params[name] for name in _PROGRAM if name in eqn.params)


def under_its_traceback(eqn: Any) -> contextlib.AbstractContextManager[None]:
  """Enters the user's traceback and scopes of an equation, as JAX's own interpreters do.

  So what is made of it leads to the same line. Its settings are entered by `eqn.ctx.manager`.
  """
  stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
  return source_info_util.user_context(eqn.source_info.traceback, name_stack=stack)


class JvpRule(NamedTuple):
  """A `custom_jvp` function: its program, and the program of its rule."""

  program: Any
  takes_symbolic_zeros: bool
  # For each operand, whether its tangent is a symbolic zero -> the program of (primals, the other
  # tangents), and for each result whether its tangent is zero and left out.
  derivative: Callable[[Sequence[bool]], tuple[Any, Sequence[bool]]]
  num_consts: int


def jvp_rule(eqn: Any) -> JvpRule:
  """Reads the rule of a `custom_jvp_call`."""
  p = eqn.params

  def derivative(zeros: Sequence[bool]) -> tuple[Any, Sequence[bool]]:
    program, constants, out_zeros = p["jvp_jaxpr_fun"].call_wrapped(*zeros[p["num_consts"] :])
    return ClosedJaxpr(program, constants), out_zeros

  return JvpRule(p["call_jaxpr"], p["symbolic_zeros"], derivative, p["num_consts"])


class VjpRule(NamedTuple):
  """A `custom_vjp` function: its program, and the programs of its rule."""

  program: Any
  num_consts: int
  # For each operand, whether it is differentiated -> the program that gives residuals and results,
  # and for each residual the operand that it is, or None where the program gives it.
  forward: Callable[[Sequence[bool]], tuple[Any, Sequence[int | None]]]
  # (shapes of residuals, shapes of cotangents) -> the program of both, and for each operand that is
  # no constant whether its cotangent is zero and left out.
  backward: Callable[[Sequence[Any], Sequence[Any]], tuple[Any, Sequence[bool]]]


def vjp_rule(eqn: Any) -> VjpRule:
  """Reads the rule of a `custom_vjp_call`."""
  p = eqn.params

  def forward(moves: Sequence[bool]) -> tuple[Any, Sequence[int | None]]:
    program, constants = p["fwd_jaxpr_thunk"].call_wrapped(*moves[p["num_consts"] :])
    return ClosedJaxpr(program, constants), p["out_trees"]()[2]

  def backward(residuals: Sequence[Any], cotangents: Sequence[Any]) -> tuple[Any, Sequence[bool]]:
    is_zero: list[bool] = []
    shapes = [*residuals, *cotangents]
    traced = [shape.dtype != jax.dtypes.float0 for shape in shapes]

    def rule(*operands: Any) -> list[Any]:
      given = iter(operands)
      answer = p["bwd"].call_wrapped(
        *(next(given) if t else np.zeros(s.shape, s.dtype) for t, s in zip(traced, shapes))
      )
      # From JAX 0.12 on, with a log beside the cotangents.
      found = answer[0] if isinstance(answer, tuple) and len(answer) == 2 else answer
      is_zero[:] = [not hasattr(ct, "dtype") or type(ct).__name__ == "Zero" for ct in found]
      return [ct for ct, zero in zip(found, is_zero) if not zero]

    return trace(rule, *(s for t, s in zip(traced, shapes) if t))[0], is_zero

  return VjpRule(p["call_jaxpr"], p["num_consts"], forward, backward)


def shapes_backward(
  eqn: Any, forward: Any, origins: Sequence[int | None]
) -> tuple[list[Any], list[Any]]:
  """Gives what a `custom_vjp`'s backward rule takes: shapes of residuals, and of cotangents."""
  given = iter(closed(forward)[0].outvars)
  variables = [next(given) if origin is None else eqn.invars[origin] for origin in origins]
  residuals = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in variables]
  outs = [(atom.aval.shape, atom.aval.dtype) for atom in eqn.outvars]
  is_float = [jax.dtypes.issubdtype(dtype, np.inexact) for _, dtype in outs]
  cotangents = [
    jax.ShapeDtypeStruct(shape, dtype if flag else jax.dtypes.float0)
    for (shape, dtype), flag in zip(outs, is_float)
  ]
  return residuals, cotangents


def context(eqn: Any) -> Any:
  """Gives the settings that an equation was traced in, to compare."""
  names = "compute_type", "threefry_partitionable", "cur_abstract_mesh"
  metadata = getattr(eqn.ctx, "xla_metadata", None)
  return (*(getattr(eqn.ctx, name, None) for name in names), str(metadata))


def kept(most: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
  """Keeps what a function of hashable arguments gave, for each setting of JAX.

  The most recent ones, until `jax.clear_caches()`.
  """
  # From JAX 0.12 on, a cache is in parts, each of which keeps its share of `most` alone.
  options: dict[str, Any] = {"max_size": most, "trace_context_in_key": True}
  if "num_shards" in inspect.signature(util.cache).parameters:
    options["num_shards"] = 1
  return util.cache(**options)


@functools.cache
def light_compilation() -> dict[str, bool | str]:
  """Gives options of XLA for a program that is run a few times only; none but on a CPU.

  Measured on JAX 0.10.2 and 0.12: level 0 of LLVM halves the compilation, and the older emitters of
  fused loops, which JAX 0.12 no longer has, halve the rest.
  """
  options: dict[str, bool | str] = {}
  if jax.default_backend() == "cpu":
    nothing = jax.jit(lambda: None).lower()
    wished = {"xla_backend_optimization_level": "0", "xla_cpu_use_fusion_emitters": False}
    for name, value in wished.items():
      with contextlib.suppress(jax.errors.JaxRuntimeError):
        nothing.compile({name: value})
        options[name] = value
  return options


def programs_in(eqn: Any) -> list[Any]:
  """Gives the programs that an equation holds: of a call, of branches, of loops."""
  held = [p if isinstance(p, tuple | list) else (p,) for p in eqn.params.values()]
  return [x for group in held for x in group if hasattr(x, "eqns") or hasattr(x, "jaxpr")]


def has_narrow_floats(program: Any) -> bool:
  """Whether anything in a program is floating point of less than 64 bits."""
  jaxpr, _ = closed(program)

  def is_narrow(var: Any) -> bool:
    dtype = getattr(var.aval, "dtype", None)
    if dtype is None or not jax.dtypes.issubdtype(dtype, np.inexact):
      return False
    return jax.numpy.finfo(dtype).bits < 64

  if any(map(is_narrow, [*jaxpr.invars, *jaxpr.constvars])):
    return True
  return any(
    any(map(is_narrow, eqn.outvars)) or any(map(has_narrow_floats, programs_in(eqn)))
    for eqn in jaxpr.eqns
  )


def expanded(eqn: Any) -> Any:
  """Writes down what a high-level primitive of JAX 0.12 does, such as `custom_root`."""
  primitive = eqn.params["_prim"]

  def run(*operands: Any) -> list[Any]:
    return jax.tree.leaves(primitive.expand(*jax.tree.unflatten(primitive.in_tree, operands)))

  return trace(run, *(atom.aval for atom in eqn.invars))[0]


class RootRule(NamedTuple):
  """What JAX 0.12 keeps of a `custom_root`."""

  # Of the operands: for the solver, the guess, the function, the tangent's solver.
  lengths: list[int]
  size: int  # of the root; more results are auxiliary
  function: Any  # the program of (its operands, a root)
  # The program that solves for the root's tangent: of (operands, a root, a right side).
  tangent: Any


def root_rule(eqn: Any) -> RootRule | None:
  """Reads the rule of a `custom_root` of JAX 0.12; None for other high-level primitives."""
  primitive = eqn.params["_prim"]
  if not all(hasattr(primitive, name) for name in ("f", "tangent_solve", "has_aux")):
    return None
  groups = list(primitive.in_avals)
  root = primitive.out_aval[0] if primitive.has_aux else primitive.out_aval

  def flat(function: Callable[..., Any], *avals: Any) -> Any:
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), avals)
    return trace(function, *shapes)[0]

  return RootRule(
    [len(jax.tree.leaves(group)) for group in groups],
    len(jax.tree.leaves(root)),
    flat(primitive.f, groups[2], root),
    flat(primitive.tangent_solve, groups[3], root, root),
  )


_LIBRARIES = re.compile(r"/(site|dist)-packages/|/lib/python3\.\d+/|^<")
OURS = tuple(os.path.dirname(os.path.abspath(path)) + os.sep for path in (__file__, jax.__file__))


def is_library(program: Any) -> bool:
  """Whether a program is the body of a library's function: its lines then say nothing to a user.

  JAX traces such a body once and reuses it, so its lines also lead to the first caller alone.
  """
  owner, _ = closed(program)
  written = getattr(owner.debug_info, "func_src_info", None) or ""
  file = written.rpartition(" at ")[2].rpartition(":")[0]
  return not file or is_file_of_library(file)


def is_file_of_library(file: str) -> bool:
  """Whether a file is JAX's, kinkopt's or a library's, or none at all."""
  return file.startswith(OURS) or bool(_LIBRARIES.search(file))
