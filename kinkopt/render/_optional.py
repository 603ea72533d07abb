"""The door to packages that may be absent: rich and matplotlib.

`import kinkopt.render` must work, and be quick, without them, so a printer asks for its package
when it is called; a plain `import` at that place would leave the user with no way out.
"""

import importlib
from typing import Any


class MissingExtraError(ImportError):
  """A printer needs a package that only `kinkopt[cli]` brings."""


def require(module: str, purpose: str) -> Any:
  """Imports `module`, or says what it is wanted for and how to get it.

  Args:
    module: the dotted name.
    purpose: what cannot be done without it, as the subject of "need(s)".

  Raises:
    MissingExtraError: if the package is not installed.
  """
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    package = module.partition(".")[0]
    # A module missing inside an installed package is another fault, and not ours to explain.
    if error.name is None or error.name.partition(".")[0] != package:
      raise
    raise MissingExtraError(
      f'{purpose} need the package `{package}`, which is not installed. Run `pip install "kinkopt'
      '[cli]"`.',
      name=package,
    ) from error
