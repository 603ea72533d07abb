"""Kinks: who wins each max, abs, select and sort; and the program with its winners frozen."""

from kinkopt.kinks._crossings import Crossing, crossings
from kinkopt.kinks._freeze import Frozen, freeze
from kinkopt.kinks._sites import SiteStatus, sites
from kinkopt.trace._registry import Call, PrimitiveClass, Winner, classify, declare_smooth, register
from kinkopt.trace._replay import in_float64
from kinkopt.trace._site import Site

__all__ = [
  "Call", "Crossing", "Frozen", "PrimitiveClass", "Site", "SiteStatus", "Winner", "classify",
  "crossings", "declare_smooth", "freeze", "in_float64", "register", "sites",
]  # fmt: skip
