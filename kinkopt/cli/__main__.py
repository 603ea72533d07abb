"""Runs the command as `python -m kinkopt.cli`."""

import sys

from kinkopt.cli import main

sys.exit(main())
