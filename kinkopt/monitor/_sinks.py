"""Where measurements go: other people's writers, and a table that stays in its place."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kinkopt.monitor._history import History, Sink
from kinkopt.render import to_rich
from kinkopt.render._optional import require


def tensorboard(writer: Any, prefix: str = "") -> Sink:
  """Sends numbers to TensorBoard.

  Args:
    writer: what writes event files: a `SummaryWriter` of tensorboardX, of
      `torch.utils.tensorboard` (`add_scalar`) or of Flax (`scalar`).
    prefix: put before each name, such as `"monitor/"`.

  Returns:
    A function for `History.send`; see `history`.

  Raises:
    TypeError: if `writer` has neither method.

  Example:
    >>> import kinkopt
    >>> class Writer:
    ...   def add_scalar(self, tag, value, step):
    ...     print(tag, value, step)
    >>> kinkopt.monitor.tensorboard(Writer(), "train/")(7, {"ratio/overall": 0.001})
    train/ratio/overall 0.001 7
  """
  method = getattr(writer, "add_scalar", None) or getattr(writer, "scalar", None)
  if not callable(method):
    raise TypeError(
      f"`tensorboard(writer=...)` must have `add_scalar(tag, value, step)` or `scalar(tag, value, "
      f"step)`, but {type(writer).__name__} has neither. Pass, say, `tensorboardX.SummaryWriter()`."
    )

  def sink(step: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
      method(prefix + name, value, step)

  return sink


def wandb(run: Any, prefix: str = "") -> Sink:
  """Sends numbers to Weights & Biases.

  Args:
    run: what `wandb.init()` returns, or the module `wandb` itself.
    prefix: put before each name, such as `"monitor/"`.

  Returns:
    A function for `History.send`; see `history`. W&B takes steps in ascending order only: send what
    you log of your own at a step before the history that goes beyond it, or in another run.

  Raises:
    TypeError: if `run` has no `log`.

  Example:
    >>> import kinkopt
    >>> class Run:
    ...   def log(self, values, step):
    ...     print(values, step)
    >>> kinkopt.monitor.wandb(Run())(7, {"ratio/overall": 0.001})
    {'ratio/overall': 0.001} 7
  """
  log = getattr(run, "log", None)
  if not callable(log):
    raise TypeError(
      f"`wandb(run=...)` must have `log(values, step)`, but {type(run).__name__} has none. Pass "
      "what `wandb.init()` returns."
    )

  def sink(step: int, values: Mapping[str, float]) -> None:
    log({prefix + name: value for name, value in values.items()}, step=step)

  return sink


@contextlib.contextmanager
def live(console: Any = None) -> Iterator[Callable[[History], None]]:
  """Keeps a table of the last step in its place. Needs `pip install "kinkopt[cli]"`.

  Args:
    console: a `rich.console.Console`; None makes one. Where it is no terminal, the last table is
      printed at the end.

  Returns:
    A context manager that gives a function of what `history` returns.

  Raises:
    MissingExtraError: if rich is not installed.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt, optax
    >>> tx = optax.chain(kinkopt.rules.sgd(1e-3), kinkopt.monitor.update_ratio())
    >>> tx, params = kinkopt.monitor.record(tx, length=100), jnp.ones(3)
    >>> state = tx.init(params)
    >>> with kinkopt.monitor.live() as show:
    ...   for _ in range(3):
    ...     _, state = tx.update(params, state, params)
    ...     show(kinkopt.monitor.history(state, {"w": params}))  # doctest: +ELLIPSIS
    leaf     ratio  parameters  updates  verdict...
    ──...
    ['w']  1.0e-03         1.7   0.0017  healthy...
    <BLANKLINE>
    Step 3; all leaves: 1.0e-03
  """
  table = require("rich.live", "Live tables").Live(console=console, auto_refresh=False)
  with table:
    yield lambda found: table.update(to_rich(found.table()), refresh=True)
