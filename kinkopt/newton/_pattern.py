"""Which entries of a matrix are not zero, and in which products with vectors each shows.

All on the host, once for each pattern; nothing here is traced.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# Above this many entries in a row, a pattern is not worth its name: each costs a product.
MOST_IN_A_ROW = 300


class CrowdedError(ValueError):
  """A row holds more entries than `MOST_IN_A_ROW`."""


class Layout(NamedTuple):
  """How a symmetric pattern is measured, and how it becomes a band."""

  colours: np.ndarray  # int32[n]: columns of one colour share no row
  order: np.ndarray  # int32[n]: the coordinate that is the k-th of the band
  place: np.ndarray  # int32[n], its inverse
  rows: np.ndarray  # int32[m], of the entries of the band's lower half, as coordinates
  columns: np.ndarray  # int32[m]

  @property
  def width(self) -> int:
    """How far from the diagonal an entry of the band lies."""
    return int(max(self.place[self.rows] - self.place[self.columns], default=0))


def layout(pattern: Any) -> Layout:
  """Colours a symmetric `scipy.sparse.csr_array` and puts it into the order of Cuthill and McKee.

  Raises:
    CrowdedError: if one row meets too many others.
  """
  from scipy.sparse.csgraph import reverse_cuthill_mckee

  order = np.asarray(reverse_cuthill_mckee(pattern, symmetric_mode=True), np.int32)
  place = np.empty_like(order)
  place[order] = np.arange(len(order), dtype=np.int32)
  entries = pattern.tocoo()
  lower = place[entries.row] >= place[entries.col]
  rows, columns = entries.row[lower], entries.col[lower]
  return Layout(colour(pattern), order, place, rows.astype(np.int32), columns.astype(np.int32))


def colour(pattern: Any) -> np.ndarray:
  """Gives columns that share a row different colours, the least that is free to each in turn.

  Args:
    pattern: a `scipy.sparse.csr_array` of any shape.

  Returns:
    `int32`, one for each column, from 0 on.

  Raises:
    CrowdedError: if one row has too many entries.
  """
  crowd = np.diff(pattern.indptr).max(initial=0)
  if crowd > MOST_IN_A_ROW:
    raise CrowdedError(f"a coordinate meets {crowd:,} others or more")
  ones = pattern.astype(np.int32)
  sharing = (ones.T @ ones).tocsr()
  starts, others = sharing.indptr.tolist(), sharing.indices
  colours = np.full(pattern.shape[1], -1, np.int32)
  for column in range(pattern.shape[1]):
    taken = set(colours[others[starts[column] : starts[column + 1]]].tolist())
    free = 0
    while free in taken:
      free += 1
    colours[column] = free
  return colours


def detect(products: Callable[[np.ndarray], np.ndarray], n: int, rng: np.random.Generator) -> Any:
  """Finds the entries of a symmetric matrix that are not zero from its products with vectors.

  Intervals of columns that some row meets are halved until they are single columns; those that no
  row has in common are multiplied at once, so that a band of any length takes `log n` times some
  multiple of its width.

  Args:
    products: multiplies a vector of length `n`; what is not exactly zero counts.
    n: the number of coordinates, 1 or more.
    rng: draws the entries of the vectors, so that none cancels another.

  Returns:
    A symmetric `scipy.sparse.csr_array` of ones, with the whole diagonal.

  Raises:
    CrowdedError: if one row meets too many columns.
  """
  from scipy.sparse import coo_array, eye_array

  entries = rng.uniform(0.5, 1, n) * rng.choice([-1, 1], n)
  size = 1 << (n - 1).bit_length()
  # Row i meets the g-th interval of `size` columns. All rows may meet the first, which is all.
  rows, intervals = np.arange(n), np.zeros(n, int)
  while size > 1:
    size //= 2
    rows = np.repeat(rows, 2)
    intervals = (2 * intervals[:, None] + [0, 1]).ravel()
    count = -(-n // size)
    rows, intervals = rows[intervals < count], intervals[intervals < count]
    may = coo_array((np.ones(len(rows), bool), (rows, intervals)), (n, count)).tocsr()
    colours = colour(may)
    met = np.zeros(len(rows), bool)
    of_column = colours[np.arange(n) // size]
    for each in range(colours.max() + 1):
      product = products(np.where(of_column == each, entries, 0))
      met |= (colours[intervals] == each) & (product[rows] != 0)
    rows, intervals = rows[met], intervals[met]
  found = coo_array((np.ones(len(rows), bool), (rows, intervals)), (n, n)).tocsr()
  return (found + found.T + eye_array(n, dtype=bool)).tocsr()
