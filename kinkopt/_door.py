"""Opens a wing when it is first asked for.

`import kinkopt` alone loads no JAX: so the command line answers `--help` at once, and whoever only
asks for the version does not pay for the rest.
"""

import importlib
from types import ModuleType

WINGS = ("gradcheck", "kinks", "monitor", "newton", "rules", "schedules")


def __getattr__(name: str) -> ModuleType:
  if name in WINGS:
    return importlib.import_module(f"kinkopt.{name}")
  raise AttributeError(f"module 'kinkopt' has no attribute {name!r}")


def __dir__() -> list[str]:
  return ["__version__", *WINGS]
