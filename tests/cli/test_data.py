import numpy as np
import pytest

from kinkopt.cli import main
from kinkopt.cli._data import load
from kinkopt.cli._errors import UsageError

ROWS, LABELS = np.ones((6, 3)), np.array([0, 1, 0, 1, 0, 1])
OBJECTS = np.array([{}, {}], dtype=object)


def _with(value) -> np.ndarray:
  rows = ROWS.astype(np.result_type(value))
  rows[2, 1] = value
  return rows


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({}, r"no array `images` and no array `labels`; it holds no arrays at all"),
    ({"images": ROWS}, r"has no array `labels`; it holds `images`\. Write it with `np\.savez"),
    ({"X": ROWS, "labels": LABELS}, r"has no array `images`; it holds `X`, `labels`"),
    ({"images": ROWS[:0], "labels": LABELS[:0]}, r"is empty: .* \(0, 3\) and `labels` \(0,\)"),
    ({"images": ROWS[:, :0], "labels": LABELS}, r"is empty: `images` has shape \(6, 0\)"),
    ({"images": ROWS, "labels": LABELS[:4]}, r"has 6 images but 4 labels\. Give one label"),
    ({"images": ROWS[0], "labels": LABELS}, r"`images` has shape \(3,\) and `labels` \(6,\), but"),
    ({"images": ROWS, "labels": ROWS}, r"`labels` \(6, 3\), but they must be \(n, features\)"),
    ({"images": ROWS.astype(str), "labels": LABELS}, r"`images` is <U32, but pixels must be real"),
    ({"images": _with(np.nan), "labels": LABELS}, r"`images` \(float64\) holds NaN, infinite"),
    ({"images": _with(np.inf), "labels": LABELS}, r"`images` \(float64\) holds NaN, infinite"),
    ({"images": _with(1j), "labels": LABELS}, r"`images` \(complex128\) holds .* complex pixels"),
    ({"images": ROWS, "labels": LABELS / 2}, r"`labels` is float64, but .*labels\.astype\(int\)"),
    ({"images": ROWS, "labels": LABELS * 0}, r"has 6 images of 1 class; at least 5 images and 2"),
    ({"images": ROWS[:4], "labels": LABELS[:4]}, r"has 4 images of 2 classes; at least 5 images"),
    ({"images": OBJECTS, "labels": LABELS}, r"cannot be read as an \.npz file \(Object arrays"),
  ],
)
def test_arrays_that_cannot_be_trained_on_are_refused_with_the_reason(arrays, message, write_data):
  with pytest.raises(UsageError, match=message):
    load(write_data(**arrays), seed=0)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", r"cannot be read as an \.npz file \(No data left in file\)"),
    (b"images,labels\n", r"cannot be read as an \.npz file"),
    (b"PK\x03\x04 but no more", r"cannot be read as an \.npz file \(File is not a zip file\)"),
  ],
)
def test_a_file_that_is_no_archive_is_refused(content, message, tmp_path):
  path = tmp_path / "file.npz"
  path.write_bytes(content)
  with pytest.raises(UsageError, match=message):
    load(path, seed=0)


def test_a_single_array_is_no_archive(tmp_path):
  np.save(tmp_path / "array.npy", ROWS)
  with pytest.raises(UsageError, match=r"cannot be read as an \.npz file .* `np\.savez\(file"):
    load(tmp_path / "array.npy", seed=0)


def test_a_folder_is_no_archive(tmp_path):
  with pytest.raises(UsageError, match=r"cannot be read as an \.npz file \(.*Is a directory"):
    load(tmp_path, seed=0)


def test_a_missing_file_ends_the_command_with_2_and_no_report(tmp_path, capsys):
  assert main(["demo", "--data", str(tmp_path / "nowhere.npz")]) == 2
  printed = capsys.readouterr()
  assert printed.out == ""
  assert printed.err.startswith("kinkopt: error: there is no file `")
  assert "nowhere.npz`. Give `--data` the path of an .npz file." in printed.err


def test_images_are_scaled_flattened_and_split_without_loss(write_data):
  images = np.arange(-40.0, 40.0).reshape(10, 2, 4)
  labels = np.arange(10) % 2 * 7 - 3  # any two whole numbers name two classes
  data = load(write_data(images=images, labels=labels), seed=1)
  split = data.split
  assert (data.num_features, data.num_classes) == (8, 2)
  assert split.train_images.shape == (8, 8)
  assert split.test_images.shape == (2, 8)
  both = np.concatenate([split.train_images, split.test_images])
  order = np.argsort(both[:, 0])
  np.testing.assert_array_equal(both[order] * 40, images.reshape(10, 8))
  classes = np.concatenate([split.train_labels, split.test_labels])[order]
  np.testing.assert_array_equal(classes, np.arange(10) % 2)


def test_the_seed_alone_decides_the_split():
  first, same, other = load(None, 0), load(None, 0), load(None, 1)
  np.testing.assert_array_equal(first.split.test_labels, same.split.test_labels)
  assert (first.split.test_labels != other.split.test_labels).any()
  assert len(first.split.train_images) + len(first.split.test_images) == 1797


def test_black_images_are_not_divided_by_zero(write_data):
  data = load(write_data(images=ROWS * 0, labels=LABELS), seed=0)
  np.testing.assert_array_equal(data.split.train_images, 0)
