"""Excerpts of a user's file, a function or a line among its neighbours; names of operands."""

from types import SimpleNamespace

import pytest

from kinkopt._places import Place, argument, excerpt

WRITTEN = """y = max(a, b)
z = y

@decorated
def f(x):
  return x

w = z
"""


@pytest.mark.parametrize(
  ("line", "first", "shown", "marked"),
  [
    (1, 1, ("y = max(a, b)", "z = y"), 1),  # the first line of a file is no function
    (2, 1, ("y = max(a, b)", "z = y", "", "@decorated"), 2),
    (4, 4, ("@decorated", "def f(x):", "  return x"), None),
    (5, 5, ("def f(x):", "  return x"), None),
    (8, 6, ("  return x", "", "w = z"), 8),
  ],
)
def test_an_excerpt_says_which_line_is_meant(tmp_path, line, first, shown, marked):
  path = tmp_path / "model.py"
  path.write_text(WRITTEN)
  found = excerpt(Place(str(path), line))
  assert (found.line, found.first, found.lines, found.marked) == (line, first, shown, marked)


@pytest.mark.parametrize("line", [0, 9])
def test_what_cannot_be_read_has_no_excerpt(tmp_path, line):
  path = tmp_path / "model.py"
  path.write_text(WRITTEN)
  assert excerpt(Place(str(path), line)) is None
  assert excerpt(Place(str(tmp_path / "gone.py"), 1)) is None


@pytest.mark.parametrize(
  ("names", "number", "told"),
  [
    (("x", "y"), 0, "a value that it closes over"),
    (("x", "y"), 2, "`y`"),
    (("x", "y"), 3, "argument 2"),
    (("x", ""), 2, "argument 1"),
    (None, 1, "argument 0"),
  ],
)
def test_an_operand_without_a_name_is_told_by_its_number(names, number, told):
  forward = SimpleNamespace(debug_info=SimpleNamespace(arg_names=names))
  call = SimpleNamespace(params={"num_consts": 1, "fwd_jaxpr_thunk": forward})
  assert argument(call, number) == told
