"""The demo's data: from the package or from the user's file, checked, scaled and split.

What is wrong with a file is said before anything is computed from it. The split is a permutation
that depends on the seed alone, four fifths for training and the rest for testing.
"""

import dataclasses
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kinkopt.cli._errors import UsageError
from kinkopt.data import load_digits

_TRAIN_SHARE = 0.8
_FEWEST = 5  # below it, one of the two parts would be empty


class Split(NamedTuple):
  """Images as rows scaled into [-1, 1], and labels as classes 0, 1, 2 ...; a tree of arrays."""

  train_images: Any
  train_labels: Any
  test_images: Any
  test_labels: Any


@dataclasses.dataclass(frozen=True)
class Data:
  """The split, in float64 and int32 on the host, and what is to be said of it."""

  split: Split
  num_classes: int
  source: str

  @property
  def num_features(self) -> int:
    """The number of pixels of an image."""
    return self.split.train_images.shape[1]


def load(path: Path | None, seed: int) -> Data:
  """Reads, checks, scales and splits the data.

  Args:
    path: an `.npz` file with `images` and `labels`; None for the digits that ship with the package.
    seed: decides the split.

  Returns:
    The two parts. Images are divided by the largest magnitude among all pixels.

  Raises:
    UsageError: if the file cannot be read or its arrays cannot be trained on.
  """
  images, labels = load_digits() if path is None else _read(path)
  source = "Optical Recognition of Handwritten Digits (UCI)" if path is None else str(path)
  images = np.asarray(images, np.float64).reshape(len(images), -1)
  classes, labels = np.unique(labels, return_inverse=True)
  scale = np.abs(images).max()
  images = images / (scale if scale > 0 else 1.0)
  order = np.random.default_rng(seed).permutation(len(images))
  train, test = np.split(order, [round(_TRAIN_SHARE * len(images))])
  labels = labels.astype(np.int32)
  split = Split(images[train], labels[train], images[test], labels[test])
  return Data(split, len(classes), source)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
  advice = "Write it with `np.savez(file, images=images, labels=labels)`."
  try:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
      missing = [name for name in ("images", "labels") if name not in archive.files]
      if missing:
        found = ", ".join(f"`{name}`" for name in archive.files) or "no arrays at all"
        raise UsageError(
          f"`{path}` has no array {' and no array '.join(f'`{name}`' for name in missing)}; it "
          f"holds {found}. {advice}"
        )
      images, labels = archive["images"], archive["labels"]
  except FileNotFoundError:
    raise UsageError(
      f"there is no file `{path}`. Give `--data` the path of an .npz file."
    ) from None
  except (OSError, EOFError, zipfile.BadZipFile, ValueError, AttributeError, TypeError) as error:
    # NumPy raises any of these for what is not an archive: a folder, an empty file, text, a bare
    # .npy array (which is no context manager), or pickled objects.
    raise UsageError(f"`{path}` cannot be read as an .npz file ({error}). {advice}") from None
  _check(path, images, labels)
  return images, labels


def _check(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
  if images.ndim < 2 or labels.ndim != 1:
    raise UsageError(
      f"`{path}`: `images` has shape {images.shape} and `labels` {labels.shape}, but they must be "
      "(n, features) and (n,): one row and one label for each image."
    )
  if images.size == 0 or labels.size == 0:
    raise UsageError(
      f"`{path}` is empty: `images` has shape {images.shape} and `labels` {labels.shape}. There is "
      "nothing to train on."
    )
  if len(images) != len(labels):
    raise UsageError(
      f"`{path}` has {len(images)} images but {len(labels)} labels. Give one label for each image, "
      "in the same order."
    )
  if not np.issubdtype(images.dtype, np.number) and images.dtype != bool:
    raise UsageError(f"`{path}`: `images` is {images.dtype}, but pixels must be real numbers.")
  if np.iscomplexobj(images) or not np.isfinite(images).all():
    raise UsageError(
      f"`{path}`: `images` ({images.dtype}) holds NaN, infinite or complex pixels. Clean it first; "
      "one such pixel would make every loss NaN."
    )
  if not np.issubdtype(labels.dtype, np.integer):
    raise UsageError(
      f"`{path}`: `labels` is {labels.dtype}, but each label must be a whole number that names the "
      "class. Convert it with `labels.astype(int)`."
    )
  num_classes = len(np.unique(labels))
  if len(images) < _FEWEST or num_classes < 2:
    raise UsageError(
      f"`{path}` has {len(images)} images of {num_classes} class{'es' * (num_classes != 1)}; at "
      f"least {_FEWEST} images and 2 classes are needed to train and to test."
    )
