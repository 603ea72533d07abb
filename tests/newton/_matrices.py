"""Matrices of every kind that a Hessian may be, at the scales at which numbers end."""

import numpy as np


def random_orthogonal(rng, n):
  return np.linalg.qr(rng.normal(size=(n, n)))[0]


def with_spectrum(rng, eigenvalues):
  Q = random_orthogonal(rng, len(eigenvalues))
  return (Q * eigenvalues) @ Q.T


def rescaled(rng, n):
  scales = 10.0 ** rng.uniform(-8, 8, n)
  return scales[:, None] * with_spectrum(rng, rng.uniform(0.5, 2, n)) * scales


def poisoned(rng, n, value):
  A = with_spectrum(rng, rng.uniform(0.5, 2, n))
  i, j = rng.integers(n, size=2)
  A[i, j] = A[j, i] = value
  return A


KINDS = {
  "definite": lambda rng, n: with_spectrum(rng, rng.uniform(0.5, 2, n)),
  "ill-conditioned": lambda rng, n: with_spectrum(rng, 10.0 ** rng.uniform(-20, 0, n)),
  "badly scaled": rescaled,
  "indefinite": lambda rng, n: with_spectrum(rng, rng.normal(size=n)),
  "barely indefinite": lambda rng, n: with_spectrum(rng, np.r_[-1e-9, rng.uniform(0.5, 2, n - 1)]),
  "negative": lambda rng, n: with_spectrum(rng, -rng.uniform(0.5, 2, n)),
  "singular": lambda rng, n: with_spectrum(rng, np.r_[0.0, rng.uniform(0.5, 2, n - 1)]),
  "low rank": lambda rng, n: np.outer(*2 * [rng.normal(size=n)]),
  "singular integer": lambda rng, n: np.ones((n, n)),
  "zero diagonal": lambda rng, n: np.ones((n, n)) - np.eye(n),
  "asymmetric": lambda rng, n: rng.normal(size=(n, n)),
  "zero": lambda rng, n: np.zeros((n, n)),
  "one NaN": lambda rng, n: poisoned(rng, n, np.nan),
  "one inf": lambda rng, n: poisoned(rng, n, np.inf),
  "all NaN": lambda rng, n: np.full((n, n), np.nan),
}
SCALES = {  # small and large ends of the dtype, and a subnormal
  np.float32: [1.0, 1e-30, 1e-37, 1e-41, 1e30, 1e38],
  np.float64: [1.0, 1e-30, 1e-300, 1e-310, 1e30, 1e300],
}


def random_problems(n, dtype, draws):
  """Yields (kind, hessian, gradient): each kind at each scale, with a gradient of any size."""
  rng = np.random.default_rng(n)
  for kind, make in KINDS.items():
    for scale in SCALES[dtype]:
      for draw in range(draws):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
          hessian = (make(rng, n) * scale).astype(dtype)
          gradient = (rng.normal(size=n) * SCALES[dtype][draw % 6]).astype(dtype)
        if draw == 6:
          gradient = np.zeros(n, dtype)
        if draw == 7:
          gradient[rng.integers(n)] = rng.choice([np.nan, np.inf, -np.inf])
        yield kind, hessian, gradient
