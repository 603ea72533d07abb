"""Blocks of the Hessian, whoever solves with them: as a matrix, or by products alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt import newton

FACTOR = jax.random.normal(jax.random.key(0), (6, 6), jnp.float64)
HESSIAN = FACTOR @ FACTOR.T + jnp.eye(6)
PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([0.5, 0.3, -1.0]), "c": jnp.array(2.0)}
LABELS = {"a": "together", "b": "alone", "c": "together"}


def loss(params):
  x = jnp.concatenate([params["a"], params["b"], params["c"][None]])
  return x @ HESSIAN @ x / 2


def kept(blocks):
  """Gives the Hessian with zeros outside of blocks of coordinates."""
  mask = np.zeros((6, 6))
  for block in blocks:
    mask[np.ix_(block, block)] = 1
  return np.asarray(HESSIAN) * mask


CURVATURES = {
  "leaves": (newton.BlockDiagonal(), kept([[0, 1], [2, 3, 4], [5]])),
  "groups": (newton.BlockDiagonal(lambda p: LABELS), kept([[0, 1, 5], [2, 3, 4]])),
  "diagonal": (newton.DiagonalHessian(), kept([[i] for i in range(6)])),
}
SOLVERS = [
  newton.Cholesky(),
  newton.Eigenvalues(),
  newton.LU(),
  newton.ConjugateGradients(rtol=1e-12, max_steps=50),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("name", CURVATURES)
def test_each_solver_solves_with_the_blocks_alone(name, solver):
  curvature, matrix = CURVATURES[name]
  tx = newton.scale_by_newton(solver=solver, curvature=curvature)
  gradient = jax.grad(loss)(PARAMS)
  updates, _ = tx.update(gradient, tx.init(PARAMS), PARAMS, value_fn=loss)
  flat = np.concatenate([np.ravel(updates[leaf]) for leaf in "abc"])
  right = np.concatenate([np.ravel(gradient[leaf]) for leaf in "abc"])
  np.testing.assert_allclose(flat, np.linalg.solve(matrix, right), rtol=1e-9)
