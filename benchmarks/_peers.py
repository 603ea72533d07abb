"""The peers, each asked as its documentation shows, with its own tolerances.

`scipy.optimize.check_grad` and numdifftools give numbers and no verdict; they are held to the
tolerances of `jax.test_util.check_grads`, relative to the norm of the gradient, or of its leaf.
None is asked what it does not offer: that is n/a, with the reason.
"""

import importlib
import re
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import scipy.optimize
from _cases import Case
from _checkers import CHECKERS, PASSED, REJECTED, NotApplicableError, Outcome
from jax.flatten_util import ravel_pytree
from jax.tree_util import keystr, tree_leaves_with_path

_TOLERANCE = {"float32": 2e-3, "float64": 1e-5}
# Coordinates that are swept one by one in sensible time; above, SciPy takes a random direction.
_SWEPT = 200
_TORCH_SWEPT = 2000
_NOT_SMALL = f"more than {_SWEPT} coordinates"
# PyTorch's slow mode takes a minute and more for 80,000 coordinates: these, at one seed.
_LARGE_SEEDS = 1
_LARGE_BUGS = ("leaf 0.1 % off", "one coordinate doubled", "mean division missing")
_LETTERS = 500  # of a message that may hold whole Jacobians


def _asserted(check: Callable[[], Any]) -> Outcome:
  """Runs what raises an AssertionError if a gradient is wrong."""
  try:
    check()
  except AssertionError as error:
    return Outcome(REJECTED, text=str(error).strip()[:_LETTERS])
  return Outcome(PASSED)


def _program(case: Case, side: str, data: tuple[Any, ...], fun: Any) -> Callable[[Any], Any]:
  """Gives a function of the parameters, to which a gradient that is handed in is tied as a rule."""
  if case.gradients[side] is None:
    return lambda params: fun(params, *data)
  handed = jax.custom_vjp(lambda params: fun(params, *data))
  handed.defvjp(
    lambda params: (fun(params, *data), params),
    lambda params, ct: (jax.tree.map(lambda g: ct * g, case.gradients[side](params, *data)),),
  )
  return handed


def _check_grads(mode: str) -> Callable[..., Outcome]:
  def checker(case: Case, side: str, seed: int, params: Any, data: tuple[Any, ...]) -> Outcome:
    fun = _program(case, side, data, case.funs[side])
    order = case.bug.options.get("order", 1)
    return _asserted(lambda: jax.test_util.check_grads(fun, (params,), order, modes=[mode]))

  return checker


def chex_(case: Case, side: str, seed: int, params: Any, data: tuple[Any, ...]) -> Outcome:
  """Asks chex, which takes arrays, and whose mock of `stop_gradient` needs what is not compiled."""
  leaves, tree = jax.tree.flatten(params)
  program = _program(case, side, data, case.raw[side])

  def fun(*leaves):
    return program(jax.tree.unflatten(tree, leaves))

  order = case.bug.options.get("order", 1)
  return _asserted(lambda: chex.assert_numerical_grads(fun, leaves, order, modes=("rev",)))


def _flat(case: Case, side: str, params: Any, data: tuple[Any, ...]) -> tuple[Any, Any, Any]:
  """Gives value and gradient as functions of one real vector, and the vector."""
  if case.bug.options.get("order", 1) > 1:
    raise NotApplicableError("first order only")
  if any(map(jnp.iscomplexobj, jax.tree.leaves(params))):
    raise NotApplicableError("real parameters only")
  start, unravel = ravel_pytree(params)

  def at(x: Any) -> Any:
    return unravel(jnp.asarray(x, start.dtype))

  def value(x: Any) -> float:
    return float(case.weighed[side](at(x), *data))

  def gradient(x: Any) -> np.ndarray:
    found = case.weighed_gradients[side](at(x), *data)
    return np.asarray(ravel_pytree(found)[0], np.float64)

  return value, gradient, np.asarray(start, np.float64)


def scipy_(case: Case, side: str, seed: int, params: Any, data: tuple[Any, ...]) -> Outcome:
  """Asks SciPy; its step is the root of the dtype's machine epsilon, as it is for float64."""
  value, gradient, start = _flat(case, side, params, data)
  step = float(np.finfo(case.dtype).eps ** 0.5)
  direction = "all" if start.size <= _SWEPT else "random"
  error = scipy.optimize.check_grad(
    value, gradient, start, epsilon=step, direction=direction, seed=np.random.default_rng(seed)
  )
  relative = float(error) / np.linalg.norm(gradient(start))
  is_right = relative <= _TOLERANCE[case.dtype]  # NaN is not
  return Outcome(PASSED if is_right else REJECTED, text=f"error {relative:.1e} of the gradient")


def numdifftools_(case: Case, side: str, seed: int, params: Any, data: tuple[Any, ...]) -> Outcome:
  """Compares with numdifftools, coordinate by coordinate."""
  value, gradient, start = _flat(case, side, params, data)
  if start.size > _SWEPT:
    raise NotApplicableError(_NOT_SMALL)
  numdifftools = _imported("numdifftools")
  estimate = np.atleast_1d(numdifftools.Gradient(value)(start))
  claim, offset, leaves, places = gradient(start), 0, set(), set()
  for path, leaf in tree_leaves_with_path(params):
    part = slice(offset, offset + leaf.size)
    gap = np.abs(claim[part] - estimate[part])
    bad = ~(gap <= _TOLERANCE[case.dtype] * np.abs(claim[part]).max())
    name = keystr(path)
    if bad.any():
      leaves.add(name)
      at = np.argwhere(bad.reshape(leaf.shape))
      places |= {f"{name}[{', '.join(map(str, index))}]" for index in at}
    offset += leaf.size
  verdict = REJECTED if leaves else PASSED
  return Outcome(verdict, frozenset(leaves), frozenset(places), text=f"wrong in {sorted(leaves)}")


def _imported(name: str) -> Any:
  try:
    return importlib.import_module(name)
  except ImportError:
    raise NotApplicableError(f"{name} is not installed") from None


def _torch(fast_mode: bool) -> Callable[..., Outcome]:
  def checker(case: Case, side: str, seed: int, params: Any, data: tuple[Any, ...]) -> Outcome:
    if case.dtype != "float64":
      raise NotApplicableError("its tolerances ask for double precision")
    _imported("torch")
    found = importlib.import_module("_torch_models").program(case, side, params, data)
    if found is None:
      raise NotApplicableError("not written in PyTorch here")
    fun, leaves, names, check = found
    size = sum(leaf.numel() for leaf in leaves)
    is_chosen = seed < _LARGE_SEEDS and case.bug.name in _LARGE_BUGS
    if not fast_mode and size > _TORCH_SWEPT and not is_chosen:
      raise NotApplicableError(
        f"{size:,} coordinates: asked at {_LARGE_SEEDS} seed of {len(_LARGE_BUGS)} bugs only"
      )
    outcome = _asserted(lambda: check(fun, leaves, fast_mode=fast_mode))
    blamed = re.search(r"with respect to input (\d+)", outcome.text)
    named = frozenset({names[int(blamed[1])]} if blamed else ())
    return Outcome(outcome.verdict, named, text=outcome.text)

  return checker


CHECKERS |= {
  "check_grads rev": _check_grads("rev"),
  "check_grads fwd": _check_grads("fwd"),
  "chex": chex_,
  "scipy": scipy_,
  "numdifftools": numdifftools_,
  "torch fast": _torch(True),
  "torch slow": _torch(False),
}
