"""Kinks: who wins each max, abs, select and sort; and the program with its winners frozen."""

from kinkopt.kinks._freeze import Frozen, freeze
from kinkopt.kinks._registry import PrimitiveClass, Winner, classify, declare_smooth, register
from kinkopt.kinks._replay import in_float64

__all__ = [
  "Frozen",
  "PrimitiveClass",
  "Winner",
  "classify",
  "declare_smooth",
  "freeze",
  "in_float64",
  "register",
]
