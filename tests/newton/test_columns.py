"""The columns of a linear map are its products with the unit vectors, however they are made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kinkopt.newton._columns import columns, unit_products

RNG = np.random.default_rng(0)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape))


A, B, C = normal(4, 3), normal(3, 4), normal(5, 2, 3)


ROWS = normal(6, 3)


def loop(parts):
  return jax.lax.scan(lambda c, row: (c + row @ parts[0], c[:2]), jnp.zeros(3), ROWS)


# Maps of parts of shapes; in each the unit vectors meet something else first.
CASES = {
  "matrix times vector": (lambda p: A @ p[0], [(3,)]),
  "vector times matrix": (lambda p: p[0] @ A, [(4,)]),
  "two products": (lambda p: A @ (B @ p[0]), [(4,)]),
  "matrix from the left": (lambda p: A @ p[0], [(3, 2)]),
  "matrix from the right": (lambda p: p[0] @ A, [(2, 4)]),
  "batched": (lambda p: jnp.einsum("bij,bj->bi", C, p[0]), [(5, 3)]),
  "batched, in another order": (lambda p: jnp.einsum("jkb,bij->kbi", p[0], C), [(3, 4, 5)]),
  "batched, from the left": (lambda p: jnp.einsum("bij,kbi->bjk", C, p[0]), [(7, 5, 2)]),
  "two contractions": (lambda p: jnp.tensordot(C, p[0], 2, precision="highest"), [(2, 3)]),
  "two contractions crossed": (lambda p: jnp.einsum("bij,jib->", C, p[0]), [(3, 2, 5)]),
  "no contraction": (lambda p: jnp.einsum("i,jk->ijk", p[0], A), [(2,)]),
  "inner product": (lambda p: A[0] @ p[0], [(3,)]),
  "affine in two leaves": (lambda p: A @ p[0] + p[1], [(3,), ()]),
  "three leaves": (lambda p: [A @ p[1], p[0].sum(), p[2] @ B], [(2, 2), (3,), (3,)]),
  "used twice": (lambda p: A @ p[0] + jnp.roll(A, 1) @ p[0], [(3,)]),
  "not a product": (lambda p: 3 * p[0][::-1], [(4,)]),
  "the identity": (lambda p: p, [(2,), (1, 2)]),
  "constant": (lambda p: [jnp.zeros(2), p[0]], [(2,)]),
  "inside jit": (jax.jit(lambda p: jnp.dot(A, p[0])), [(3,)]),
  "reshaped first": (lambda p: A @ p[0].reshape(3), [(1, 3)]),
  "loop": (loop, [(3, 3)]),
  "nothing beside": (lambda p: A @ p[0], [(3,), (0,)]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_columns_are_products_with_unit_vectors(name, batch_size):
  fun, shapes = CASES[name]
  like = [normal(*shape) for shape in shapes]
  size = sum(part.size for part in like)
  _, unravel = jax.flatten_util.ravel_pytree(like)
  outputs = lambda v: jax.flatten_util.ravel_pytree(fun(unravel(v)))[0]  # noqa: E731
  expected = jnp.stack([outputs(unit) for unit in jnp.eye(size)])
  found = columns(lambda parts: jax.tree.leaves(fun(parts)), like, batch_size)
  np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["batched", "loop"])
def test_maps_may_have_lanes(name):
  fun, shapes = CASES[name]
  like = [normal(*shape) for shape in shapes]

  def scaled(a):
    return columns(lambda parts: [a * x for x in jax.tree.leaves(fun(parts))], like, None)

  found = jax.jit(jax.vmap(scaled))(jnp.array([1.0, -2.0]))
  np.testing.assert_allclose(found[1], -2 * found[0], rtol=1e-13)


def products_in(fun, *args):
  text = jax.jit(fun).lower(*args).as_text()
  return text.count("stablehlo.dot_general")


def test_a_linear_model_costs_no_product_with_the_identity():
  X = normal(30, 5)
  assert products_in(lambda: columns(lambda p: [X @ p[0]], [normal(5)], None)) == 0
  gradient = jax.grad(lambda w: jnp.sum(jnp.cosh(X @ w)))
  _, hvp = jax.linearize(gradient, normal(5))
  assert products_in(lambda: columns(lambda p: [hvp(p[0])], [normal(5)], None)) == 1


def test_dtypes_are_those_of_the_map():
  X = normal(4, 3).astype(jnp.float32)
  like = [jnp.ones(3, jnp.float32)]
  wide = lambda p: [jnp.dot(X, p[0], preferred_element_type=jnp.float64)]  # noqa: E731
  (rows,) = unit_products(wide, like, None)
  assert rows.dtype == jnp.float64
  assert columns(lambda p: [X @ p[0]], like, None).dtype == jnp.float32
