"""Is my gradient right, is my step right, is its size right?

The front door: it hands on the wings, each when it is first asked for, and computes nothing.
"""

from typing import TYPE_CHECKING

from kinkopt._door import __dir__ as __dir__
from kinkopt._door import __getattr__ as __getattr__
from kinkopt._version import __version__

if TYPE_CHECKING:
  from kinkopt import flat, gradcheck, kinks, monitor, newton, rules, schedules
  from kinkopt.gradcheck import check_gradient
  from kinkopt.newton import minimize

__all__ = [
  "__version__", "check_gradient", "flat", "gradcheck", "kinks", "minimize", "monitor", "newton",
  "rules", "schedules",
]  # fmt: skip
