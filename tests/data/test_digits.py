import importlib.resources

import numpy as np
from sklearn.datasets import load_digits as load_reference

import kinkopt.data


def test_the_digits_are_those_of_the_uci_test_set_bit_for_bit():
  images, labels = kinkopt.data.load_digits()
  reference_images, reference_labels = load_reference(return_X_y=True)
  assert images.dtype == labels.dtype == np.uint8
  np.testing.assert_array_equal(images, reference_images)
  np.testing.assert_array_equal(labels, reference_labels)


def test_the_file_is_small_and_its_authors_and_licence_lie_beside_it():
  folder = importlib.resources.files("kinkopt.data")
  assert len((folder / "digits.npz").read_bytes()) < 200_000
  attribution = (folder / "ATTRIBUTION.md").read_text(encoding="utf-8")
  for what in ("Alpaydin", "Kaynak", "1998", "UCI", "CC BY 4.0", "Changes"):
    assert what in attribution
