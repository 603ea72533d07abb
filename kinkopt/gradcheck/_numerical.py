"""The textbook gradient: move one coordinate, see how far the value moves.

A function of trees goes in, a function that gives its gradient comes out, as with `jax.grad`; but
nothing is differentiated. All the values that the quotients need come out of one loop over probe
numbers: so the function is traced once, all its values are rounded by the same compiled code (what
a coordinate does not touch cancels exactly), and memory does not grow with the number of probes.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kinkopt._checks import (
  POSITIVE,
  Interval,
  check_floating,
  check_integer,
  check_number,
  dtype_of,
)
from kinkopt._numerics import compute_dtype, exact_step

Scheme = Literal["centered", "forward", "backward"]

# A scheme is the quotient of f between two ends, counted in steps from the point; 0 is the point.
_ENDS: dict[str, tuple[int, int]] = {"centered": (1, -1), "forward": (1, 0), "backward": (0, -1)}

# What the helpers below know of `f`: real arrays in, its value and its `aux` out.
_Evaluate = Callable[[list[jax.Array]], tuple[jax.Array, Any]]


def numerical_gradient(
  f: Callable[..., Any],
  argnums: int | Sequence[int] = 0,
  *,
  scheme: Scheme = "centered",
  step: ArrayLike = 1e-5,
  batch_size: int | None = None,
  has_aux: bool = False,
) -> Callable[..., Any]:
  """Makes the function that gives the gradient of `f` by finite differences.

  The class notes write::

      df(x)/dx = (f(x + h) - f(x)) / h          # "forward": not good
      df(x)/dx = (f(x + h) - f(x - h)) / (2*h)  # "centered": instead

  and do so for one coordinate at a time. The error of the first is proportional to `h`, that of the
  second to `h**2`.

  Args:
    f: a function whose value is a real scalar, as for `jax.grad`.
    argnums: which positional arguments to move: a number, or a sequence of numbers. They may be
      pytrees of real or complex floating-point arrays of any shapes.
    scheme: "centered", "forward" or "backward".
    step: `h`, in the unit of the coordinates; > 0; may be traced.
    batch_size: how many probes to evaluate side by side, by `jax.vmap`; None for one after the
      other, without `vmap`. The working memory is that of this many evaluations of `f`. On a CPU,
      batches were up to twice as fast for 100 coordinates and slower for 16,000; on an accelerator
      they should pay.
    has_aux: whether `f` returns a pair `(value, aux)`.

  Returns:
    A function of the arguments of `f`. Like `jax.grad(f, argnums)`, it returns a tree with the
    structure, shapes and dtypes of the chosen argument (a tuple of trees for a sequence of
    `argnums`), or `(gradient, aux)`; for a complex coordinate x + iy it returns df/dx - i df/dy. It
    can be jitted and vmapped; without `jax.jit` it is compiled anew at each call. For `n` real
    coordinates it evaluates `f` 2n times, or n + 1 times if one-sided.

  Raises:
    ValueError: if `scheme` is unknown, `step` not positive, `batch_size` less than 1, or `argnums`
      names an argument twice.
    TypeError: when called, if `argnums` names a missing argument, a coordinate is not floating
      point, or the value of `f` is not a real scalar.

  Numerics:
    The difference is divided by the distance between the two points as they were rounded, not by
    `h` or `2*h`. Differences and quotients are formed in float32 or wider. A coordinate at which
    the step is lost in rounding gets NaN, "I no longer know": with `step=1e-5`, from 256 upwards in
    float32, from 1/32 in float16, from 1/256 in bfloat16. Rounding in `f` costs about
    `machine_eps * |f| / h`: with `step=1e-5`, 1e-2 of `|f|` in float32 and 2e-11 in float64.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> def f(params):
    ...   return params["slope"] * 3.0 + jnp.sum(params["w"] ** 2)
    >>> params = {"slope": 1.0, "w": jnp.array([1.0, -2.0])}
    >>> gradient = kinkopt.gradcheck.numerical_gradient(f, step=2**-7)(params)
    >>> print(gradient["slope"], gradient["w"])
    3.0 [ 2. -4.]

  References:
    CS231n notes, "Gradient checks"; Press et al., "Numerical Recipes", section 5.7.
  """
  _check_options(f, scheme, step, batch_size)
  is_single = not isinstance(argnums, Sequence)
  numbers = [operator.index(number) for number in ([argnums] if is_single else argnums)]

  @functools.wraps(f)
  def gradient(*args: Any, **kwargs: Any) -> Any:
    places = _places(numbers, len(args))
    for place in places:
      check_floating(_call(place), args[place], "coordinates", "hold the others fixed.")
    leaves, treedef = jax.tree.flatten([args[place] for place in places])
    leaves = [jnp.asarray(leaf) for leaf in leaves]

    # `jit` for its cache of traces: the loop and `has_aux` both evaluate f.
    @jax.jit
    def evaluate(parts: list[jax.Array]) -> tuple[jax.Array, Any]:
      moved = list(args)
      for place, tree in zip(places, jax.tree.unflatten(treedef, _join(parts, leaves))):
        moved[place] = tree
      return _split_output(f(*moved, **kwargs), has_aux)

    point = _split(leaves)
    quotients = _quotients(evaluate, point, _ENDS[scheme], step, batch_size or 1)
    conjugate = map(jnp.conj, _join(quotients, leaves))  # as `jax.grad`: df/dx - i df/dy
    trees = jax.tree.unflatten(treedef, conjugate)
    result = trees[0] if is_single else tuple(trees)
    return (result, evaluate(point)[1]) if has_aux else result

  return gradient


def _check_options(f: Any, scheme: str, step: ArrayLike, batch_size: int | None) -> None:
  if not callable(f):
    raise TypeError(
      f"`numerical_gradient` needs a function, but `f` is {f!r}. Pass the loss itself, not its "
      "value: `numerical_gradient(loss)(params)`."
    )
  if scheme not in _ENDS:
    raise ValueError(
      f"`numerical_gradient(scheme={scheme!r})` is unknown: `scheme` must be one of "
      f"{', '.join(map(repr, _ENDS))}. Take 'centered', whose error is of second order."
    )
  advice = "It is the distance to each probe, in the unit of the coordinates: write `step=1e-5`."
  check_number("numerical_gradient", "step", step, POSITIVE, advice)
  if batch_size is not None:
    advice = "It is the number of probes evaluated side by side; None takes them one by one."
    check_integer("numerical_gradient", "batch_size", batch_size, Interval(1, 2**31), advice)


def _call(place: int) -> str:
  return f"numerical_gradient(..., argnums={place})"


def _places(numbers: list[int], length: int) -> list[int]:
  """Turns argument numbers, which may count from the end, into positions."""
  for number in numbers:
    if not -length <= number < length:
      raise TypeError(
        f"`{_call(number)}` has no argument to move: the function was called with {length} "
        "positional arguments. Arguments are counted from 0, and those passed by keyword are held "
        "fixed: pass it by position."
      )
  places = [number % length for number in numbers]
  if len(set(places)) < len(places):
    raise ValueError(
      f"`numerical_gradient(..., argnums={tuple(numbers)})` names an argument twice in a call with "
      f"{length} positional arguments. Name each once, and take its gradient twice."
    )
  return places


def _split(leaves: list[jax.Array]) -> list[jax.Array]:
  """Takes complex leaves apart into two real ones."""
  pairs = [(leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,) for leaf in leaves]
  return [part for pair in pairs for part in pair]


def _join(parts: list[jax.Array], like: list[jax.Array]) -> list[jax.Array]:
  rest = iter(parts)
  return [
    jax.lax.complex(next(rest), next(rest)) if jnp.iscomplexobj(leaf) else next(rest)
    for leaf in like
  ]


def _split_output(output: Any, has_aux: bool) -> tuple[jax.Array, Any]:
  """Checks what `f` returned, and gives it as `(value, aux)`."""
  if has_aux and not (isinstance(output, tuple) and len(output) == 2):
    raise TypeError(
      f"`numerical_gradient(has_aux=True)` needs `f` to return a pair `(value, aux)`, but it "
      f"returned {_described(output)}. Return a pair, or leave `has_aux` out."
    )
  pair: tuple[Any, Any] = output if has_aux else (output, None)
  value, aux = pair
  dtype = dtype_of(value)
  if dtype is None or jnp.shape(value) != ():
    raise TypeError(
      f"`numerical_gradient` needs a function with a scalar value, but `f` returned "
      f"{_described(value)}. A gradient belongs to one number: reduce it, for example with "
      "`jnp.sum`; if `f` returns `(value, aux)`, say `has_aux=True`."
    )
  if not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(
      f"`numerical_gradient` needs a function with a real floating-point value, but `f` returned "
      f"{_described(value)}. Take the real part, the modulus, or `.astype(float)`."
    )
  return jnp.asarray(value), aux


def _described(output: Any) -> str:
  dtype = dtype_of(output)
  return f"a {type(output).__name__}" if dtype is None else f"{dtype} of shape {jnp.shape(output)}"


def _quotients(
  evaluate: _Evaluate,
  point: list[jax.Array],
  ends: tuple[int, int],
  step: ArrayLike,
  batch_size: int,
) -> list[jax.Array]:
  """Forms the difference quotient of every coordinate of `point`."""
  moved = {end: [exact_step(part, end * step)[0] for part in point] for end in ends if end}
  flat = _values(evaluate, point, list(moved.values()), 0 in ends, batch_size)
  values = {end: _shaped(flat, point, order) for order, end in enumerate(moved)}
  high, low = (
    zip(moved[end], values[end]) if end else zip(point, [flat[-1]] * len(point)) for end in ends
  )
  quotients = []
  for part, (high_part, high_value), (low_part, low_value) in zip(point, high, low):
    wide = compute_dtype(part.dtype, flat.dtype)
    rise = high_value.astype(wide) - low_value.astype(wide)
    run = high_part.astype(wide) - low_part.astype(wide)
    # A step lost on one side only would make a centered difference one-sided in silence.
    is_lost = (ends[0] != 0) & (high_part == part) | (ends[1] != 0) & (low_part == part)
    quotients.append(jnp.where(is_lost, jnp.nan, rise / run).astype(part.dtype))
  return quotients


def _values(
  evaluate: _Evaluate,
  point: list[jax.Array],
  moved: list[list[jax.Array]],
  has_point: bool,
  batch_size: int,
) -> jax.Array:
  """Evaluates `f` with each coordinate in turn at each of its `moved` places.

  Probe number i moves coordinate i, counted through all parts of all of `moved`; numbers past the
  last move nothing. So the point itself, which comes last if `has_point`, is a probe too, and so is
  what fills the last batch.
  """
  count = len(moved) * sum(part.size for part in point) + has_point

  def probe(number: jax.Array) -> jax.Array:
    parts, first = list(point), 0
    for end in moved:
      for index, part in enumerate(end):
        is_moved = jnp.arange(first, first + part.size).reshape(part.shape) == number
        parts[index] = jnp.where(is_moved, part, parts[index])
        first += part.size
    return evaluate(parts)[0]

  if batch_size == 1:
    return jax.lax.map(probe, jnp.arange(count))
  batch_size = min(batch_size, max(count, 1))
  numbers = jnp.arange(-(-count // batch_size) * batch_size).reshape(-1, batch_size)
  return jax.lax.map(jax.vmap(probe), numbers).ravel()[:count]


def _shaped(flat: jax.Array, like: list[jax.Array], order: int) -> list[jax.Array]:
  """Cuts the `order`-th stretch out of `flat`, and cuts it into the shapes of `like`."""
  first, pieces = order * sum(part.size for part in like), []
  for part in like:
    pieces.append(flat[first : first + part.size].reshape(part.shape))
    first += part.size
  return pieces
