"""The command as a process: what only a shell, a pipe or a terminal shows."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import kinkopt

PACKAGE = pathlib.Path(kinkopt.__file__).parent
COMMAND = [sys.executable, "-m", "kinkopt.cli", "demo", "--rule", "sgd"]


@pytest.fixture
def environment():
  # An uninstalled checkout has no entry point, and must find the package that is under test.
  path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
  names = {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}
  return {k: v for k, v in os.environ.items() if k not in names} | {"PYTHONPATH": path}


def test_the_cli_itself_loads_neither_jax_nor_numpy_nor_rich():
  # With an empty stand-in for the front door, which has its own reasons to load JAX.
  program = f"""
import sys, types
door = types.ModuleType("kinkopt"); door.__path__ = [{str(PACKAGE)!r}]
sys.modules["kinkopt"] = door
from kinkopt.cli import main
assert main(["demo", "--help"]) == 0 and main(["demo", "--rule", "adm"]) == 2
print([name for name in ("jax", "optax", "numpy", "rich") if name in sys.modules])
"""
  result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  assert result.stdout.splitlines()[-1] == "[]"


def test_the_demo_runs_from_end_to_end_in_a_pipe(few_digits, environment):
  words = [*COMMAND, "--data", str(few_digits), "--steps", "20"]
  result = subprocess.run(words, capture_output=True, text=True, env=environment)
  assert (result.returncode, result.stderr) == (0, "")
  assert result.stdout.startswith("kinkopt demo\n------------\n\nData:")
  assert re.search(r"^sgd +\d\.\d{4} .* done$", result.stdout, re.MULTILINE)


def test_ctrl_c_leaves_a_table_and_the_code_of_a_shell(few_digits, environment):
  words = [*COMMAND, "--data", str(few_digits), "--steps", "1000000000"]
  with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    told = iter(process.stdout.readline, "")
    assert any(line.endswith("inside the chain.\n") for line in told)
    time.sleep(0.5)  # now or later makes no difference: it is compiling, or training for hours
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    watchdog.cancel()
  assert process.returncode == 130
  assert re.search(r"^sgd .* stopped$", rest, re.MULTILINE)
  assert rest.endswith("Interrupted, with 0 rules done.\n")


def test_a_reader_that_leaves_is_no_error(environment):
  # The first write, or the flush of the last, finds nobody there.
  program = """
import sys
from kinkopt.cli import _main
_main._main = lambda argv: print("a report") or 0
sys.exit(_main.main())
"""
  read, write = os.pipe()
  os.close(read)
  words = [sys.executable, "-c", program]
  result = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, env=environment)
  os.close(write)
  assert (result.returncode, result.stderr) == (141, "")


def in_a_terminal(words, environment):
  """Runs a command in a terminal of its own; gives its exit code and all that it printed."""
  pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
  environment = environment | {"TERM": "xterm-256color", "COLUMNS": "90", "LINES": "40"}
  parent, child = pty.openpty()
  process = subprocess.Popen(words, stdout=child, stderr=child, env=environment, close_fds=True)
  os.close(child)
  parts = []
  while True:
    try:
      part = os.read(parent, 65536)
    except OSError:  # Linux's way to say that the other end is closed
      break
    if not part:
      break
    parts.append(part)
  os.close(parent)
  return process.wait(), b"".join(parts).decode()


def test_a_terminal_gets_a_bar_and_colours(few_digits, environment):
  words = [*COMMAND, "--data", str(few_digits), "--steps", "40"]
  code, printed = in_a_terminal(words, environment)
  assert code == 0
  assert re.search(r"sgd .*/40 .*(compiling|loss)", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed))
  colours = re.findall(r"\x1b\[(?:\d+;)*(?:3[0-7]|38;5;\d+)m", printed)
  assert colours


def test_a_check_in_a_terminal_has_a_bar_and_then_a_table_in_colour(environment):
  model = PACKAGE.parent / "docs" / "first_check" / "model.py"
  words = [sys.executable, "-m", "kinkopt.cli", "check", f"{model}:loss", "--at", "make_args"]
  code, printed = in_a_terminal(words, environment)
  assert code == 1
  assert re.search(r"checking .*(compiling|evaluations)", printed)
  assert re.search(r"\x1b\[1;31m.*gelu", printed)
  assert printed.rstrip().endswith("seed [0, 0].\x1b[0m")
