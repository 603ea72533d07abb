"""Kinks: who wins each max, abs, select and sort; and the program with its winners frozen."""

from kinkopt.kinks._freeze import Frozen, freeze
from kinkopt.kinks._registry import PrimitiveClass, classify, declare_smooth

__all__ = ["Frozen", "PrimitiveClass", "classify", "declare_smooth", "freeze"]
