"""Ctrl-C is held back until the job asks, and is never lost."""

import os
import signal
import threading

import pytest

from kinkopt.cli._console import Console
from kinkopt.cli._interrupt import held_back


@pytest.fixture(autouse=True)
def python_answers():
  # A job in the background of a shell is born deaf to SIGINT, and so are its children.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


def _press():
  os.kill(os.getpid(), signal.SIGINT)


def test_the_first_interrupt_waits_for_a_pause():
  reached = []

  def job():
    with held_back() as pause:
      pause()
      _press()
      reached.append("the end of the computation")
      pause()
      reached.append("beyond the pause")

  with pytest.raises(KeyboardInterrupt):
    job()
  assert reached == ["the end of the computation"]


def test_an_interrupt_that_nobody_asks_for_strikes_at_the_end():
  with pytest.raises(KeyboardInterrupt), held_back():
    _press()


def test_the_second_interrupt_strikes_at_once():
  reached = []

  def job():
    with held_back():
      _press()
      reached.append("the first is held back")
      _press()
      reached.append("the second is not")

  with pytest.raises(KeyboardInterrupt):
    job()
  assert reached == ["the first is held back"]


def test_the_handler_is_put_back_whatever_happens():
  before = signal.getsignal(signal.SIGINT)
  with held_back():
    assert signal.getsignal(signal.SIGINT) is not before
  assert signal.getsignal(signal.SIGINT) is before
  with pytest.raises(ZeroDivisionError), held_back():
    raise ZeroDivisionError
  assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_handles_no_signals():
  before, outcome = signal.getsignal(signal.SIGINT), []

  def job():
    with held_back() as pause:
      pause()
      outcome.append(signal.getsignal(signal.SIGINT))

  thread = threading.Thread(target=job)
  thread.start()
  thread.join()
  assert outcome == [before]


@pytest.mark.parametrize("tell", ["show", "note", "progress"])
def test_whatever_a_job_tells_is_a_place_to_stop(tell):
  console = Console("", quiet=True)
  told = []
  console.pause = lambda: told.append(tell)
  if tell == "progress":
    with console.progress("", total=1) as advance:
      advance(1, "")
  elif tell == "show":
    console.show()
  else:
    console.note("")
  assert told == [tell]
