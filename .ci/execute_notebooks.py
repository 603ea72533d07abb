"""Executes notebooks from top to bottom, and fails on the first cell that raises.

Nothing is written: the outputs in the repository are those that their author looked at.
"""

import os
import pathlib
import sys
import time

# The kernel of this environment, whatever kernels the user's home has.
os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"

import nbclient
import nbformat


def main(paths: list[str]) -> int:
  """Executes the notebooks at `paths`; returns the number of those that failed."""
  failures = 0
  for path in map(pathlib.Path, paths):
    started = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
      notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    )
    try:
      client.execute()
    except nbclient.exceptions.CellExecutionError as error:
      failures += 1
      print(f"{path}: FAILED\n{error}")
    else:
      print(f"{path}: {time.perf_counter() - started:.0f} s")
  return failures


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
