"""The rules of winners and of control flow, one file a family; importing them fills the table."""

from kinkopt.trace._rules import (
  bits,
  control,
  derivatives,
  elementwise,
  loops,
  matrices,
  ordering,
  reductions,
  sheets,
  smooth,
  solves,
  windows,
)

__all__ = [
  "bits",
  "control",
  "derivatives",
  "elementwise",
  "loops",
  "matrices",
  "ordering",
  "reductions",
  "sheets",
  "smooth",
  "solves",
  "windows",
]
