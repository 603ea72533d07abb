"""`jax.numpy.linalg` and `jax.scipy.linalg`, on well-conditioned matrices with distinct spectra."""

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl

from tests.kinks.corpus import Member, normal

_SPECTRUM = jnp.array([1.0, 2.2, 3.5, 5.1], jnp.float32)
_WHO = jnp.array([[0, 1, 2], [2, 0, 1]], jnp.int32)


def _square(key):
  """Draws a matrix near a diagonal one with distinct entries, and a right side."""
  a, b = normal((4, 4), (4, 2))(key)
  return jnp.diag(_SPECTRUM) + 0.2 * a, b


def _tall(key):
  a, b = normal((5, 3), (5,))(key)
  return jnp.eye(5, 3) * _SPECTRUM[:3] + 0.15 * a, b


def _complex(key):
  a, b = normal((4, 4), (4,), dtype=jnp.complex64)(key)
  return jnp.diag(_SPECTRUM * jnp.array([1, 1j, -1, 1 + 1j])) + 0.15 * a, b


def _symmetric(a):
  return a + jnp.swapaxes(a, -1, -2)


def _hermitian(a):
  return a + jnp.conj(a.T)


def _positive(a):
  return a @ a.T


def _projected(vectors, part=slice(None)):
  """Projects onto the span of some columns: the signs of eigenvectors drop out."""
  return vectors[:, part] @ jnp.conj(vectors[:, part]).T


def _symmetric_powers(values):
  """Makes complex eigenvalues, whose order is open, into what has none."""
  return jnp.stack([jnp.sum(values), jnp.sum(values**2), jnp.prod(values)])


_NORMS = {
  f"norm {order}, {axis}": lambda a, b, order=order, axis=axis: jnp.linalg.norm(a, order, axis)
  for axis, orders in {
    None: (None, "fro", "nuc", jnp.inf, -jnp.inf, 1, -1, 2, -2),
    1: (0.5, 1, 2, 3, jnp.inf, -jnp.inf),
  }.items()
  for order in orders
}
_OF_SQUARE = {
  "solve": jnp.linalg.solve,
  "solve of a vector": lambda a, b: jnp.linalg.solve(a, jnp.abs(b[:, 0])),
  "inv": lambda a, b: jnp.linalg.inv(a),
  "det": lambda a, b: jnp.linalg.det(a),
  "det of 3 by 3": lambda a, b: jnp.linalg.det(a[1:, 1:]),
  "slogdet": lambda a, b: jnp.linalg.slogdet(a - 2 * jnp.eye(4)[0] * jnp.eye(4)),
  "cholesky": lambda a, b: jnp.linalg.cholesky(_positive(a)),
  "qr": lambda a, b: jnp.linalg.qr(a),
  "svd values": lambda a, b: jnp.linalg.svdvals(a),
  "svd": lambda a, b: jnp.abs(jnp.linalg.svd(a)[0]) @ jnp.abs(jnp.linalg.svd(a)[2]),
  "low rank of svd": lambda a, b: (lambda u, s, v: (u[:, :2] * s[:2]) @ v[:2])(*jnp.linalg.svd(a)),
  "eigvalsh": lambda a, b: jnp.linalg.eigvalsh(_symmetric(a)),
  "eigh": lambda a, b: _projected(jnp.linalg.eigh(_symmetric(a))[1], slice(2)),
  "eigh as a function of a matrix": lambda a, b: (lambda w, v: (v * jnp.abs(w - 3)) @ v.T)(
    *jnp.linalg.eigh(_symmetric(a))
  ),
  "eigvals": lambda a, b: _symmetric_powers(jnp.linalg.eigvals(a)),
  "eig": lambda a, b: (lambda w, v: ((v * jnp.exp(-w)) @ jnp.linalg.inv(v)).real)(
    *jax.lax.linalg.eig(a, compute_left_eigenvectors=False, enable_eigvec_derivs=True)
  ),
  "spectral radius": lambda a, b: jnp.max(jnp.abs(jnp.linalg.eigvals(a))),
  "pinv": lambda a, b: jnp.linalg.pinv(a),
  "pinv, hermitian": lambda a, b: jnp.linalg.pinv(_symmetric(a), hermitian=True),
  "cond": lambda a, b: jnp.stack([jnp.linalg.cond(a, p) for p in (None, 1, jnp.inf, "fro")]),
  "matrix_power": lambda a, b: [jnp.linalg.matrix_power(a, n) for n in (3, -2)],
  "multi_dot": lambda a, b: jnp.linalg.multi_dot([a, b, b.T, a[:, 0]]),
  "tensorsolve": lambda a, b: jnp.linalg.tensorsolve(a.reshape(2, 2, 2, 2), b[:, 0].reshape(2, 2)),
  "tensorinv": lambda a, b: jnp.linalg.tensorinv(a.reshape(4, 2, 2), ind=1),
  "matrix_rank": lambda a, b: a * jnp.linalg.matrix_rank(b @ b.T),
  "cross": lambda a, b: jnp.linalg.cross(a[:, :3], a[:, 1:]),
  "vecdot and outer": lambda a, b: jnp.linalg.vecdot(a, jnp.linalg.outer(b[:, 0], b[:, 1])),
  "batched solve": lambda a, b: jnp.linalg.solve(jnp.stack([a, a.T]), jnp.stack([b, jnp.abs(b)])),
  "batched det": lambda a, b: jnp.linalg.det(a[_WHO[:, :, None], _WHO[:, None]]),
}
_OF_SCIPY = {
  "lu": lambda a, b: jsl.lu(a),
  "lu, permuted": lambda a, b: jsl.lu(a[::-1], permute_l=True),
  "lu_solve": lambda a, b: [jsl.lu_solve(jsl.lu_factor(a[::-1]), b, trans) for trans in (0, 1)],
  "cho_solve": lambda a, b: jsl.cho_solve(jsl.cho_factor(_positive(a)), b),
  "solve of positive": lambda a, b: jsl.solve(_positive(a), b, assume_a="pos"),
  "inv and det": lambda a, b: (jsl.inv(a), jsl.det(a)),
  "solve_triangular": lambda a, b: [
    jsl.solve_triangular(a, b, trans, lower, unit)
    for trans, lower, unit in ((0, False, False), (1, True, False), (0, True, True))
  ],
  "expm": lambda a, b: jsl.expm(a),
  "expm of small": lambda a, b: jsl.expm(0.01 * a),
  "expm_frechet": lambda a, b: jsl.expm_frechet(a / 2, b @ b.T),
  "polar": lambda a, b: jsl.polar(a, method="svd"),
  "qr": lambda a, b: jsl.qr(a, mode="economic"),
  "qr, pivoted": lambda a, b: jsl.qr(a, pivoting=True),
  "svdvals": lambda a, b: jsl.svd(a, compute_uv=False),
  "eigh": lambda a, b: _projected(jsl.eigh(_symmetric(a))[1], slice(1, 3)),
  "block_diag": lambda a, b: jsl.block_diag(a[:2, :2], b**2),
  "toeplitz": lambda a, b: jnp.linalg.solve(jsl.toeplitz(jnp.diagonal(a) * _SPECTRUM[::-1]), b),
  "khatri_rao": lambda a, b: jnp.kron(a, b)[:3] ** 2,
}
_ITERATED = {  # JAX has no transpose of these
  "polar by iteration": lambda a, b: jsl.polar(a, method="qdwh"),
  "eigh_tridiagonal": lambda a, b: jsl.eigh_tridiagonal(
    jnp.diagonal(a), 0.5 + jnp.diagonal(a, 1), eigvals_only=True
  ),
}
_OF_TALL = {
  "lstsq": lambda a, b: jnp.linalg.lstsq(a, b)[0],
  "lstsq residual": lambda a, b: jnp.linalg.lstsq(a, b)[1],
  "qr of tall": lambda a, b: jnp.linalg.qr(a)[1],
  "svd of tall": lambda a, b: _projected(jnp.linalg.svd(a, full_matrices=False)[0], slice(2)),
  "pinv of tall": lambda a, b: jnp.linalg.pinv(a) @ b,
  "slogdet of Gram": lambda a, b: jnp.linalg.slogdet(a.T @ a)[1],
}
_OF_COMPLEX = {
  "solve": jnp.linalg.solve,
  "slogdet": lambda a, b: jnp.linalg.slogdet(a),
  "cholesky": lambda a, b: jnp.linalg.cholesky(a @ jnp.conj(a.T)),
  "svd values": lambda a, b: jnp.linalg.svdvals(a),
  "eigh": lambda a, b: _projected(jnp.linalg.eigh(_hermitian(a))[1], slice(2)),
  "eigvals": lambda a, b: _symmetric_powers(jnp.linalg.eigvals(a)),
  "norm": lambda a, b: jnp.linalg.norm(a, jnp.inf),
  "expm": lambda a, b: jsl.expm(a / 4),
}

MEMBERS = [
  *(Member(f"linalg.{name}", fun, _square) for name, fun in _NORMS.items()),
  *(Member(f"linalg.{name}", fun, _square, (0, 1)) for name, fun in _OF_SQUARE.items()),
  *(Member(f"scipy.linalg.{name}", fun, _square, (0, 1)) for name, fun in _OF_SCIPY.items()),
  *(
    Member(f"scipy.linalg.{name}", fun, _square, (0, 1), is_forward=True)
    for name, fun in _ITERATED.items()
  ),
  *(Member(f"linalg.{name}", fun, _tall, (0, 1)) for name, fun in _OF_TALL.items()),
  *(Member(f"linalg.complex {name}", fun, _complex, (0, 1)) for name, fun in _OF_COMPLEX.items()),
]
