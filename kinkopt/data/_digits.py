"""Handwritten digits: real, small and in the wheel, so that the main job needs no network.

`ATTRIBUTION.md` beside this file says whose the images are, under which licence, and how
`digits.npz` was made.
"""

import importlib.resources

import numpy as np


def load_digits() -> tuple[np.ndarray, np.ndarray]:
  """Reads the 1,797 handwritten digits that ship with the package.

  Returns:
    `(images, labels)`: uint8 of shape (1797, 64), each pixel of an 8x8 image (row-major) a count of
    ink from 0 to 16, and uint8 of shape (1797,), the digit shown.

  Example:
    >>> from kinkopt.data import load_digits
    >>> images, labels = load_digits()
    >>> images.shape, labels[:10].tolist()
    ((1797, 64), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])

  References:
    Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits" (1998), UCI Machine Learning
    Repository, CC BY 4.0.
  """
  file = importlib.resources.files("kinkopt.data") / "digits.npz"
  with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
    return archive["images"], archive["labels"]
