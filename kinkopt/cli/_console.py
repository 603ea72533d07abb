"""Where a job's report appears while it is being made.

Each block is printed when it is shown, and kept, so that the whole Document can be saved at the
end. On a terminal with rich there are colours and a progress bar; in a pipe, or without rich, plain
text and no bar.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from kinkopt.cli._interrupt import Pause, never
from kinkopt.render import Block, Document, MissingExtraError, Text, Tone, to_rich, to_text
from kinkopt.render._optional import require


class Advance(Protocol):
  """Tells that steps are done; `total` corrects how many there will be."""

  def __call__(self, completed: int, note: str, total: int | None = None) -> None: ...


class Console:
  """Prints blocks on standard output, and remembers them.

  A job that tells how it goes is between two computations: `pause` is called there, and may
  stop it.
  """

  def __init__(self, title: str, quiet: bool) -> None:
    self._title = title
    self.pause: Pause = never
    self._quiet = quiet
    self._blocks: list[Block] = []
    self._rich = _terminal()
    self._has_printed = self._was_note = False

  @property
  def document(self) -> Document:
    """Everything shown so far, without the notes."""
    return Document(self._title, tuple(self._blocks))

  def show(self, *blocks: Block, always: bool = False) -> None:
    """Keeps the blocks, and prints them unless the user wants quiet.

    Args:
      *blocks: what to show, in order, an empty line between any two.
      always: print them even then.
    """
    self._blocks.extend(blocks)
    if always or not self._quiet:
      for block in blocks:
        self._print(block, gap=True)
    self.pause()

  def note(self, text: str, tone: Tone = Tone.PLAIN) -> None:
    """Prints a line that says how things go; it is not kept."""
    if not self._quiet:
      self._print(Text(text, tone), gap=not self._was_note)
      self._was_note = True
    self.pause()

  def _print(self, block: Block, gap: bool) -> None:
    if gap and self._has_printed:
      print()
    if self._rich is None:
      print(to_text(block), flush=True)
    else:
      self._rich.print(to_rich(block))
    self._has_printed, self._was_note = True, False

  @contextlib.contextmanager
  def progress(self, label: str, total: int | None) -> Iterator[Advance]:
    """Shows a bar on a terminal while something runs; elsewhere nothing.

    Args:
      label: what runs.
      total: the number of steps to come; None if nobody can tell, and the bar only moves.

    Yields:
      An `Advance`, to call as steps are done.
    """
    if self._rich is None or self._quiet:
      yield lambda completed, note, total=None: self.pause()
      return
    progress = require("rich.progress", "Progress bars")
    bar = progress.Progress(
      progress.TextColumn("{task.description:<18}"),
      progress.BarColumn(bar_width=30),
      progress.MofNCompleteColumn(),
      progress.TextColumn("{task.fields[note]}"),
      progress.TimeElapsedColumn(),
      console=self._rich,
      transient=True,
    )
    with bar:
      task = bar.add_task(label, total=total, note="compiling")

      def advance(completed: int, note: str, total: int | None = None) -> None:
        bar.update(task, completed=completed, note=note, total=total)
        self.pause()

      yield advance


def _terminal() -> Any:
  """Gives a rich console if there is a terminal to use it on, else None."""
  if not sys.stdout.isatty():
    return None
  try:
    return require("rich.console", "Colours").Console(highlight=False)
  except MissingExtraError:
    return None
