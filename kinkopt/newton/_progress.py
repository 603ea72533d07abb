"""A line on the terminal that says how far a minimisation has come."""

import contextlib
import math
from types import TracebackType
from typing import Any, Self

import jax

from kinkopt.render._optional import require


class ProgressBar:
  """Shows step, loss and gradient of the `minimize` at work. Needs `pip install "kinkopt[cli]"`.

  The bar fills by decades: from the first gradient's size to `tol`, on a logarithmic axis, so that
  Newton's last steps move it most.

  Args:
    tol: where it is full; the `tol` of `minimize`.
    console: a `rich.console.Console`; None makes one. Where it is no terminal, nothing is shown.

  Keep the object if you call often: `minimize` compiles its loop once for each callback. Used
  without `with`, it shows nothing. Problems under `jax.vmap` take turns in it.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt
    >>> loss = lambda x: jnp.sum(x**4 - x**2)
    >>> with kinkopt.newton.ProgressBar() as bar:
    ...   found = kinkopt.minimize(loss, jnp.array([2.0, -3.0]), callback=bar)
    >>> print(bar.step == found.steps, abs(found.params).round(3))
    True [0.707 0.707]
  """

  def __init__(self, tol: float = 1e-8, console: Any = None) -> None:
    # One that is asked for and cannot be shown is told before the work, not after.
    self._rich, self._console = require("rich.progress", "Progress bars"), console
    self.tol, self.step, self._first = tol, 0, 0.0
    self._bar: Any = None

  def __enter__(self) -> Self:
    rich, console = self._rich, self._console or require("rich.console", "Progress bars").Console()
    self.step, self._first = 0, 0.0
    self._bar = rich.Progress(
      rich.SpinnerColumn(),
      rich.TextColumn("step {task.fields[step]:>5}"),
      rich.BarColumn(bar_width=30),
      rich.TextColumn("loss {task.fields[loss]:<13.6g} gradient {task.fields[size]:.1e}"),
      rich.TimeElapsedColumn(),
      console=console,
      disable=not console.is_terminal,
    )
    self._task = self._bar.add_task("", total=1.0, step=0, loss=float("nan"), size=float("nan"))
    self._bar.start()
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    with contextlib.suppress(Exception):  # what failed on the device is raised where it is used
      jax.effects_barrier()  # steps may be under way after `minimize` has returned
    self._bar.stop()
    self._bar = None

  def __call__(self, step: int, loss: float, size: float) -> None:
    """Shows a step; what `minimize(callback=...)` calls."""
    self.step, size = int(step), float(size)
    self._first = max(self._first, size)
    if self._bar is not None:
      self._bar.update(
        self._task, completed=self._filled(size), step=self.step, loss=float(loss), size=size
      )

  def _filled(self, size: float) -> float:
    """Gives the share of the decades from the largest gradient to `tol` that lie behind."""
    if not self.tol < size < self._first:
      return float(size <= self.tol)
    return math.log(self._first / size) / math.log(self._first / self.tol)
