"""Is my gradient right, is my step right, is its size right?

The front door: it hands on the wings and computes nothing.
"""

from kinkopt import gradcheck, monitor, newton, rules, schedules
from kinkopt._version import __version__

__all__ = ["__version__", "gradcheck", "monitor", "newton", "rules", "schedules"]
