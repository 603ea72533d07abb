"""From the words on the command line to a job, and from its end to an exit code.

Only the standard library is imported here, so that `--help` and a mistyped option are answered at
once; JAX is loaded when a job starts.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from kinkopt.cli._arguments import parse
from kinkopt.cli._errors import INTERRUPTED, READER_LEFT, USAGE, UsageError


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line.

  Args:
    argv: the words after `kinkopt`; None for those of the process.

  Returns:
    The exit code: 0 for success, 1 for a job that found something wrong, 2 for a command line or
    data that cannot be used, 3 for a check that could not decide, 130 for a job that was
    interrupted.
  """
  try:
    code = _main(argv)
    sys.stdout.flush()  # here, where a pipe that was closed can still be told from a fault
    return code
  except KeyboardInterrupt:
    print("kinkopt: interrupted before there was anything to show", file=sys.stderr)
    return INTERRUPTED
  except BrokenPipeError:
    # The reader has left (`kinkopt demo | head`). Python would complain once more at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return READER_LEFT


def _main(argv: Sequence[str] | None) -> int:
  try:
    command, options = parse(argv)
    # Named, not imported above: a job imports JAX, which takes a second.
    return importlib.import_module(f"kinkopt.cli._{command}").run(options)
  except SystemExit as stop:  # how argparse ends after --help, --version and mistakes
    return stop.code if isinstance(stop.code, int) else USAGE
  except UsageError as error:
    print(f"kinkopt: error: {error}", file=sys.stderr)
    return USAGE
