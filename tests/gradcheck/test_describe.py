"""Each known mistake is called by its name."""

import numpy as np
import pytest

from kinkopt.gradcheck._explain import describe

RIGHT = np.random.default_rng(0).normal(size=(5, 5))
ROW = RIGHT.copy()
ROW[2] *= 1.5
COLUMN = RIGHT.copy()
COLUMN[:, 1] += 1
ONE = RIGHT.copy()
ONE[3, 4] = 7
MANY = RIGHT.copy()
MANY[:2] += np.arange(10.0).reshape(2, 5) + 1
COMPLEX = RIGHT + 1j * RIGHT.T

CASES = {
  "zero": (0 * RIGHT, RIGHT, "is 0 everywhere"),
  "sign": (-RIGHT, RIGHT, "has the wrong sign"),
  "two": (2 * RIGHT, RIGHT, "is the right one times 2"),
  "batch": (32 * RIGHT, RIGHT, "is the right one times 32, an axis's length"),
  "mean": (RIGHT / 32, RIGHT, "is the right one times 1/32, an axis's length"),
  "percent": (1.01 * RIGHT, RIGHT, "is the right one times 1.01"),
  "phase": (1j * COMPLEX, COMPLEX, "is the right one times 0+1j"),
  "transpose": (RIGHT.T, RIGHT, "is the transpose of the right one"),
  "conj": (COMPLEX.conj(), COMPLEX, "is the complex conjugate of the right one"),
  "flip": (RIGHT[:, ::-1], RIGHT, "is the right one backwards along axis 1"),
  "roll": (np.roll(RIGHT, 1, 0), RIGHT, "is the right one shifted by 1 along axis 0"),
  "row": (ROW, RIGHT, "is wrong in `w[2, :]` alone, at 5 coordinates"),
  "column": (COLUMN, RIGHT, "is wrong in `w[:, 1]` alone, at 5 coordinates"),
  "one": (ONE, RIGHT, f"is wrong at 1 of 25 coordinates: `w[3, 4]` 7 for {RIGHT[3, 4]:.6g}"),
  "many": (MANY, RIGHT, "is wrong at 10 of 25 coordinates; the worst is `w[1, 4]`"),
  "scalar": (np.array(1.0), np.array(0.0), "is wrong at 1 of 1 coordinates: `w` 1 for 0"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_mistake_is_named(name):
  claim, right, words = CASES[name]
  assert describe(claim, right, "w", {32, 5}).startswith(words)


def test_what_is_nearly_right_is_no_multiple_of_it():
  right = np.arange(1.0, 10_001.0).reshape(100, 100)
  claim = right.copy()
  claim[0, 3] *= 1.01
  assert describe(claim, right, "w", set()).startswith(
    "is wrong at 1 of 10,000 coordinates: `w[0, 3]`"
  )
  symmetric = right + right.T
  claim = symmetric.copy()
  claim[0, 3] *= 1.0001
  assert "`w[0, 3]`" in describe(claim, symmetric, "w", set())


def test_what_is_nearly_a_multiple_is_none():
  right = np.arange(1.0, 26.0).reshape(5, 5)
  claim = 2 * right
  claim[0, 3] += 0.1  # little of the difference, much of what rounding explains
  assert describe(claim, right, "w", set()).startswith("is wrong at 25 of 25 coordinates")


@pytest.mark.parametrize(("size", "is_told"), [(2, False), (3, True)])
def test_a_factor_is_taken_for_a_length_from_three_on(size, is_told):
  found = describe(size * RIGHT, RIGHT, "w", {size})
  assert found.startswith(f"is the right one times {size}")
  assert ("an axis's length" in found) is is_told
