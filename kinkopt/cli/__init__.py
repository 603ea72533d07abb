"""The command line; the roof of the house, which may use every wing and is used by none."""

from kinkopt.cli._main import main

__all__ = ["main"]
