"""Problems on which minimisers have been tried for decades, as sums of squares.

`MGH` are the 35 problems of Moré, Garbow and Hillstrom (1981), three of them in two dimensions,
each from its published start and from 10 and 100 times that; `NIST` are the 27 nonlinear
regressions of the Statistical Reference Datasets, each from its two starts. `cases` names every
pair of a problem and a start, to run over in a test or a benchmark.
"""

import numpy as np

from tests.newton import _mgh_variable, _nist
from tests.newton._problem import Problem

__all__ = ["MGH", "NIST", "PROBLEMS", "Problem", "cases"]

MGH: tuple[Problem, ...] = tuple(_mgh_variable.PROBLEMS)
NIST: tuple[Problem, ...] = tuple(_nist.PROBLEMS)
PROBLEMS: tuple[Problem, ...] = MGH + NIST


def cases(problems=PROBLEMS) -> dict[str, tuple[Problem, np.ndarray]]:
  """Gives {"rosenbrock, 10x": (problem, start), ..., "Bennett5, start 2": (problem, start)}."""
  return {
    f"{problem.name}, {name}": (problem, start)
    for problem in problems
    for name, start in zip(problem.start_names, problem.starts, strict=True)
  }
