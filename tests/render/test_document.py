import math

import pytest

from kinkopt.render import Column, Series, Table, Tone


@pytest.mark.parametrize(
  ("cell", "shown"),
  [
    (None, "-"),
    ("as it is", "as it is"),
    (True, "yes"),
    (False, "no"),
    (1234, "1.23e+03"),
    (0.5, "0.5"),
    (math.nan, "nan"),
    (-math.inf, "-inf"),
  ],
)
def test_a_cell_is_shown_by_its_columns_format(cell, shown):
  assert Column("x", ".3g").show(cell) == shown


def test_a_column_of_numbers_may_have_gaps_but_neither_words_nor_truths():
  rows = ((1, 1, True, None), (None, "one", False, None))
  table = Table(tuple(map(Column, "abcd")), rows)
  assert [table.is_number(index) for index in range(4)] == [True, False, False, False]


def test_a_row_of_another_length_is_refused():
  with pytest.raises(ValueError, match=r"`Table` row 1 has 1 cells, but there are 2 columns"):
    Table((Column("a"), Column("b")), ((1, 2), (1,)))


def test_tones_are_for_each_row_or_for_none():
  with pytest.raises(ValueError, match=r"`Table` has 1 tones for 2 rows"):
    Table((Column("a"),), ((1,), (2,)), tones=(Tone.GOOD,))


def test_a_curve_has_one_y_for_each_x():
  with pytest.raises(ValueError, match=r"`Series` `sgd` has 2 x and 1 y"):
    Series("sgd", (0.0, 1.0), (2.0,))
