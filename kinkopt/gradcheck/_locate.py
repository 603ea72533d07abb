"""Which coordinates are wrong, from differences alone.

What a gradient is off by along a direction is a sum over coordinates. So half of them show half of
the sum, the other half the rest: one wrong coordinate of n is found by log2(n) further looks, and a
few by a few times as many. Where more are wrong than can be listed, the search ends.
"""

from collections.abc import Callable, Sequence

import numpy as np

# More wrong coordinates than this are no longer listed.
_MOST = 4


def locate(
  gaps: Callable[[Sequence[tuple[int, int]]], np.ndarray], size: int, whole: float, least: float
) -> list[int] | None:
  """Finds the coordinates that an error stands in.

  Args:
    gaps: gives, for stretches `[low, high)` of coordinates, what the gradient is off by there along
      one direction, signed.
    size: the number of coordinates.
    whole: what it is off by along all of them.
    least: the smallest size that is more than rounding.

  Returns:
    Their numbers, row-major; None where they are too many.
  """
  stretches = [(0, size, whole)]
  while stretches and any(high - low > 1 for low, high, _ in stretches):
    long = [s for s in stretches if s[1] - s[0] > 1]
    found = gaps([(low, (low + high) // 2) for low, high, _ in long])
    stretches = [s for s in stretches if s[1] - s[0] == 1]
    for (low, high, total), first in zip(long, found):
      halves = ((low, (low + high) // 2, first), ((low + high) // 2, high, total - first))
      stretches += [half for half in halves if not abs(half[2]) <= least]
    if len(stretches) > _MOST:
      return None
  return sorted(low for low, _, _ in stretches)
