"""Gradient checks as assertions, for a test-suite.

What fails says by itself where the error is: the message is the whole report. Both functions return
it, so that a test may ask for more. As the assertions of chex, both take `custom_message`,
`include_default_message` and `exception_type`.
"""

from collections.abc import Callable
from typing import Any

import jax

from kinkopt._typing import PyTree
from kinkopt.gradcheck import GradientReport, check_gradient

__all__ = ["assert_gradient", "assert_rule"]


def assert_gradient(
  fun: Callable[..., PyTree],
  *args: PyTree,
  custom_message: str | None = None,
  include_default_message: bool = True,
  exception_type: type[Exception] = AssertionError,
  **options: Any,
) -> GradientReport:
  """Asserts that a gradient is right.

  Args:
    fun: as for `check_gradient`.
    *args: the point.
    custom_message: stands before the report, where the assertion fails.
    include_default_message: whether the report is in the message.
    exception_type: what is raised.
    **options: all that `check_gradient` takes by name, such as `argnums` and `gradient`.

  Returns:
    The report.

  Raises:
    AssertionError: or `exception_type`, unless every leaf passed; what is undecided did not.
    TypeError, ValueError: as `check_gradient`.

  Example:
    >>> import jax.numpy as jnp
    >>> from kinkopt.testing import assert_gradient
    >>> report = assert_gradient(lambda w: jnp.sum(jnp.abs(w)), jnp.array([-1.0, 0.0, 2.0]))
    >>> print(report.verdict.name)
    HAPPY

  References:
    See `check_gradient`.
  """
  __tracebackhide__ = True
  report = check_gradient(fun, *args, **options)
  if not report.ok:
    parts = [custom_message, str(report) if include_default_message else None]
    raise exception_type("\n\n".join(filter(None, parts)))
  return report


def assert_rule(rule: Callable[..., PyTree], *args: PyTree, **options: Any) -> GradientReport:
  """Asserts that one custom derivative rule is right, in every argument and mode that it has.

  Each floating argument is checked, against random cotangents; a `custom_jvp` forwards as well, and
  each rule to second order, since whoever uses it may differentiate twice.

  Args:
    rule: a function with a rule by `jax.custom_jvp` or `jax.custom_vjp`.
    *args: its arguments, positional all of them.
    **options: what `assert_gradient` takes by name; `order=1` leaves the second order out.

  Returns:
    The report of the last order that was checked.

  Raises:
    AssertionError: with the report of the first order that is wrong.
    TypeError: if no argument is floating point, or `rule` has no derivative rule.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from kinkopt.testing import assert_rule
    >>> @jax.custom_jvp
    ... def cube(x):
    ...   return x**3
    >>> @cube.defjvp
    ... def slope(primals, tangents):
    ...   return cube(*primals), 3 * primals[0] ** 2 * tangents[0]
    >>> print(assert_rule(cube, jnp.array([0.5, -2.0])).ok)
    True

  References:
    See `check_gradient`.
  """
  __tracebackhide__ = True
  if not isinstance(rule, jax.custom_jvp | jax.custom_vjp):
    raise TypeError(
      f"`assert_rule` checks a function with a derivative rule of its own, but was given "
      f"`{getattr(rule, '__name__', rule)}` of type `{type(rule).__name__}`. Decorate it with "
      "`jax.custom_jvp` or `jax.custom_vjp`; for any other function call `assert_gradient`."
    )
  order = options.pop("order", 2)
  options.setdefault("argnums", _floating(rule, args))
  options.setdefault("mode", "both" if isinstance(rule, jax.custom_jvp) else "rev")
  report = assert_gradient(rule, *args, **options)
  return assert_gradient(rule, *args, order=2, **options) if order == 2 else report


def _floating(rule: Any, args: tuple[PyTree, ...]) -> tuple[int, ...]:
  """Gives the arguments that a rule differentiates."""
  return tuple(i for i in range(len(args)) if i not in getattr(rule, "nondiff_argnums", ()))
