"""The picture of where a leaf is wrong: the worst of each cell, at its place."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.gradcheck import GradientReport, check_gradient
from kinkopt.gradcheck._pictures import error_map


def test_each_coordinate_of_a_small_leaf_is_a_cell():
  right = np.array([[1.0, 2.0, 0.0], [4.0, 0.0, 6.0]])
  claim = np.array([[1.0, 1.0, 0.0], [4.0, 3.0, -6.0]])
  found = error_map(claim, right)
  assert found.rows == ((0, 0.5, 0), (0, 1, 2))
  assert found.cell == (1, 1)


@pytest.mark.parametrize(
  ("shape", "cells", "cell", "place", "at"),
  [
    ((100, 70), (25, 24), (4, 3), (99, 1), (24, 0)),
    ((5, 7, 33), (18, 17), (2, 2), (4, 6, 32), (17, 16)),
    ((1000,), (1, 63), (1, 16), (999,), (0, 62)),
    ((1, 3), (1, 3), (1, 1), (0, 2), (0, 2)),
  ],
)
def test_the_worst_coordinate_of_a_cell_is_its_error(shape, cells, cell, place, at):
  right = np.ones(shape)
  claim = right.copy()
  claim[place] = 3
  found = error_map(claim, right)
  assert np.shape(found.rows) == cells
  assert found.cell == cell
  assert np.argwhere(found.rows).tolist() == [list(at)]
  assert found.rows[at[0]][at[1]] == 0.67


def test_a_number_alone_has_no_picture():
  assert error_map(np.float64(1.0), np.float64(2.0)) is None
  assert error_map(np.ones((1, 1)), np.zeros((1, 1))) is None


@pytest.mark.parametrize("size", [6, 600])  # swept, and compared with another gradient
def test_a_report_shows_where_a_leaf_is_wrong(size):
  x = {"a": jnp.linspace(0.1, 1.0, size).reshape(3, -1), "b": jnp.ones(2)}
  wrong = {"a": jnp.cos(x["a"]).at[1].multiply(2), "b": jnp.cos(x["b"])}
  report = check_gradient(
    lambda x: jnp.sin(x["a"]).sum() + jnp.sin(x["b"]).sum(), x, gradient=wrong
  )
  a, b = report.leaves
  assert b.errors is None
  off = np.array(a.errors.rows) > 1e-6
  assert off.any(1).tolist() == [False, True, False]
  assert "kinkopt-map" in report._repr_html_()
  read = GradientReport.from_json(report.to_json())
  assert str(dataclasses.asdict(read)) == str(dataclasses.asdict(report))
