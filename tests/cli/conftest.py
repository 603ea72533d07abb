import sys

import jax
import numpy as np
import pytest

import kinkopt.data


@pytest.fixture
def write_data(tmp_path):
  """Writes arrays into an archive and gives its path."""

  def write(**arrays):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    return path

  return write


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder of its own to stand in; what is loaded from it is forgotten at the end."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [*sys.path])
  before = set(sys.modules)
  with jax.enable_x64(False):
    yield tmp_path
  for name in set(sys.modules) - before:
    if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
      del sys.modules[name]


@pytest.fixture
def few_digits(write_data):
  """The first hundred digits without the outer pixels: small enough to check and solve quickly."""
  images, labels = kinkopt.data.load_digits()
  inner = images[:100].reshape(-1, 8, 8)[:, 2:6, 2:6]
  return write_data(images=inner, labels=labels[:100].astype(np.int64))
