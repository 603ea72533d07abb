"""Ten thousand lanes of a plain `vmap` come to an end.

In a process of its own, because what is tested is that it does not wait for ever: calls of LAPACK
that do not depend on each other must not run at the same time (jaxlib 0.10.2).
"""

import subprocess
import sys

import pytest

PROGRAM = """
import jax, jax.numpy as jnp
from kinkopt.newton import *
def loss(p):
  return jnp.sum(jnp.cos(p["a"])) * jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 4) + jnp.sum(p["a"])
tx = {transform}
p = {{"a": jnp.linspace(-1, 1, 60_000).reshape(12_000, 5), "b": jnp.ones((12_000, 4))}}
step = lambda p: tx.update(jax.grad(loss)(p), tx.init(p), p, value_fn=loss)[0]
print(all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.jit(jax.vmap(step))(p))))
"""


@pytest.mark.parametrize(
  "transform",
  [
    "newton(globalization=TrustRegion())",
    "newton(globalization=CubicRegularization())",
    "newton(curvature=BlockDiagonal())",
    "newton(curvature=BlockDiagonal(), globalization=TrustRegion())",
    "scale_by_newton(curvature=BlockDiagonal())",
  ],
)
def test_ten_thousand_lanes_come_to_an_end(transform):
  program = PROGRAM.format(transform=transform)
  result = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
  )
  assert result.stdout.strip() == "True", result.stderr
