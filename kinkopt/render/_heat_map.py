"""A HeatMap as an inline picture, for the HTML printer.

A cell is as opaque as the logarithm of its error: nothing at 1e-6, all at 1. Numbers are told to
who points at a cell, and the worst one to who cannot see.
"""

import html
import math

from kinkopt.render._document import HeatMap

_SMALLEST = 1e-6
_SIDE = 14  # pixels of a cell


def to_heat_map(heat_map: HeatMap, title: str) -> str:
  """Draws a heat map as a `<figure>` with an inline `<svg>`; `title` is HTML already."""
  down, right = heat_map.cell
  height, width = (n * _SIDE for n in (len(heat_map.rows), len(heat_map.rows[0])))
  cells = [
    _cell(i, j, error, f"[{i * down}, {j * right}]" if len(heat_map.rows) > 1 else f"[{j * right}]")
    for i, row in enumerate(heat_map.rows)
    for j, error in enumerate(row)
    if not error < _SMALLEST
  ]
  worst = max((e for row in heat_map.rows for e in row if math.isfinite(e)), default=math.nan)
  told = html.escape(f"{len(cells)} of {len(heat_map.rows[0]) * len(heat_map.rows)} cells are off")
  return "\n".join(
    [
      '<figure data-tone="bad">',
      f'<figcaption class="kinkopt-title">{title}</figcaption>',
      '<div class="kinkopt-scroll" tabindex="0" role="region" aria-label="Heat map">',
      f'<svg class="kinkopt-map" width="{width + 2}" height="{height + 2}" '
      f'viewBox="-1 -1 {width + 2} {height + 2}" role="img" '
      f'aria-label="{told}, the worst by {worst:.1e}">',
      f'<rect class="kinkopt-frame" width="{width}" height="{height}" />',
      *cells,
      "</svg>",
      "</div>",
      "<figcaption>Blank: below 1e-6. Full colour: 1. Point at a cell to read it.</figcaption>",
      "</figure>",
    ]
  )


def _cell(i: int, j: int, error: float, place: str) -> str:
  share = 1 - math.log10(min(error, 1.0)) / math.log10(_SMALLEST) if math.isfinite(error) else 1.0
  return (
    f'<rect x="{j * _SIDE}" y="{i * _SIDE}" width="{_SIDE}" height="{_SIDE}" '
    f'fill-opacity="{max(share, 0.05):.2f}"><title>{place}: {error:.1e}</title></rect>'
  )
