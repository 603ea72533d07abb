"""Where in a leaf its gradient is off, as a picture of at most a thousand cells."""

import dataclasses
import math

import numpy as np

from kinkopt.render import HeatMap

# Cells along each side; of a vector, in its only row.
_MOST_CELLS = 32
_MOST_IN_A_ROW = 64
# Below, it is the rounding of a gradient that was handed in as float32.
_LEAST = 1e-6


@dataclasses.dataclass(frozen=True)
class ErrorMap:
  """Relative errors of the coordinates of one leaf, the worst of each cell; 0 for those below 1e-6.

  The last axis of the leaf goes to the right, all others down.
  """

  rows: tuple[tuple[float, ...], ...]
  cell: tuple[int, int]  # coordinates in each, down and to the right

  def to_block(self, name: str) -> HeatMap:
    """Gives the picture as a block of a Document."""
    down, right = self.cell
    each = f" Each cell is the worst of {down} x {right}." if down * right > 1 else ""
    return HeatMap(f"Relative error of the coordinates of `{name}`.{each}", self.rows, self.cell)


def error_map(claim: np.ndarray, right: np.ndarray) -> ErrorMap | None:
  """Compares two gradients of one leaf, coordinate by coordinate; None for fewer than two of them.

  Args:
    claim: the gradient under test, in the leaf's shape.
    right: what it should be.
  """
  if claim.size < 2:
    return None
  width = claim.shape[-1]
  gap, size = np.abs(claim - right), np.maximum(np.abs(claim), np.abs(right))
  error = np.where(size > 0, gap / np.where(size > 0, size, 1), 0.0).reshape(-1, width)
  most = (_MOST_CELLS, _MOST_CELLS) if len(error) > 1 else (1, _MOST_IN_A_ROW)
  cell = tuple(math.ceil(n / m) for n, m in zip(error.shape, most))
  padded = np.pad(error, [(0, -n % c) for n, c in zip(error.shape, cell)], constant_values=0)
  blocks = padded.reshape(padded.shape[0] // cell[0], cell[0], -1, cell[1])
  worst = blocks.max((1, 3))
  rows = np.where(worst < _LEAST, 0.0, worst).tolist()
  return ErrorMap(tuple(tuple(float(f"{x:.2g}") for x in row) for row in rows), (cell[0], cell[1]))
