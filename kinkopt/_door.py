"""Opens a wing when it is first asked for.

`import kinkopt` alone loads no JAX: so the command line answers `--help` at once, and whoever only
asks for the version does not pay for the rest.
"""

import importlib
from typing import Any

WINGS = ("flat", "gradcheck", "kinks", "monitor", "newton", "rules", "schedules")
# What is used most, and the wing that it belongs to.
VERBS = {"check_gradient": "gradcheck", "minimize": "newton"}


def __getattr__(name: str) -> Any:
  if name in WINGS:
    return importlib.import_module(f"kinkopt.{name}")
  if name in VERBS:
    return getattr(importlib.import_module(f"kinkopt.{VERBS[name]}"), name)
  raise AttributeError(f"module 'kinkopt' has no attribute {name!r}")


def __dir__() -> list[str]:
  return ["__version__", *WINGS, *VERBS]
