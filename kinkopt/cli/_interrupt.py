"""Answers Ctrl-C where a job can stop.

An interrupt that strikes while XLA computes leaves a computation behind that Python does not wait
for: the process may then crash at its end, table or no table. So the signal is held back until the
job asks for it, between two computations.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

Pause = Callable[[], None]


def never() -> None:
  """Does not stop: the pause of a job that nobody holds interrupts back for."""


@contextlib.contextmanager
def held_back() -> Iterator[Pause]:
  """Holds the first Ctrl-C back; a second one strikes at once.

  Only the main thread may handle signals: elsewhere this does nothing.

  Yields:
    A function to call where the job can stop; it raises KeyboardInterrupt if Ctrl-C was pressed.
    It is called once more at the end.
  """
  if threading.current_thread() is not threading.main_thread():
    yield never
    return
  was_pressed = False

  def press(number: int, frame: object) -> None:
    nonlocal was_pressed
    was_pressed = True
    signal.signal(signal.SIGINT, before)

  def pause() -> None:
    nonlocal was_pressed
    if was_pressed:
      was_pressed = False
      raise KeyboardInterrupt

  before = signal.signal(signal.SIGINT, press)
  try:
    yield pause
    pause()
  finally:
    signal.signal(signal.SIGINT, before)
