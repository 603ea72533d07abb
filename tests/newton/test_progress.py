"""The bar of `minimize`: what it shows, when, and that it ends whatever happens."""

import io
import sys

import jax
import jax.numpy as jnp
import pytest
import rich.console

from kinkopt.newton import ProgressBar, minimize


def quartic(x):
  return jnp.sum(x**4 - x**2)


START = jnp.array([2.0, -3.0])


def a_console(is_terminal: bool) -> rich.console.Console:
  return rich.console.Console(
    file=io.StringIO(), force_terminal=is_terminal, width=100, color_system=None
  )


def test_it_shows_the_last_step_on_a_terminal():
  console = a_console(True)
  with ProgressBar(console=console) as bar:
    found = minimize(quartic, START, callback=bar)
  last = console.file.getvalue().rpartition("step")[2]
  assert bar.step == found.steps > 3
  assert last.startswith(f" {int(found.steps):>5} ")
  assert "loss -0.5" in last
  assert "━" * 30 in last  # full: it converged


@pytest.mark.parametrize("use", [lambda bar: bar.__enter__(), lambda bar: bar])
def test_it_shows_nothing_where_there_is_no_terminal_or_no_with(use):
  console = a_console(False)
  minimize(quartic, START, callback=use(ProgressBar(console=console)))
  jax.effects_barrier()
  assert not console.file.getvalue().strip()


def test_one_object_serves_many_calls_and_compiles_once(compilations):
  bar = ProgressBar(console=a_console(True))
  for scale in (1.0, 2.0):
    with bar:
      found = minimize(quartic, scale * START, callback=bar)
    assert bar.step == found.steps
  assert compilations("_minimize") == 1


def test_it_fills_by_decades_and_never_beyond_its_ends():
  bar = ProgressBar(tol=1e-4, console=a_console(True))
  shares = {}
  with bar:
    for step, size in enumerate((1.0, 1e-1, 1e-2, float("nan"), 10.0, 1e-4, 0.0), 1):
      bar(step, 0.0, size)
      shares[step] = bar._bar.tasks[0].completed
  assert list(shares.values()) == pytest.approx([0, 0.25, 0.5, 0, 0, 1, 1])


def test_problems_under_vmap_take_turns_in_it():
  with ProgressBar(console=a_console(True)) as bar:
    found = jax.vmap(lambda x: minimize(quartic, x, callback=bar))(jnp.stack([START, 2 * START]))
  assert bar.step in found.steps


def test_it_ends_with_the_error_that_ended_the_work():
  console = a_console(True)
  with pytest.raises(TypeError, match="one real number"), ProgressBar(console=console) as bar:
    minimize(lambda x: x, START, callback=bar)
  assert bar._bar is None


def test_without_rich_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "rich.progress", None)
  with pytest.raises(ImportError, match=r"Progress bars need the package `rich`.*kinkopt\[cli\]"):
    ProgressBar()
