"""All of `jax.nn` that has a derivative."""

import jax
import jax.numpy as jnp

from tests.kinks.corpus import Member, normal

_VECTOR = normal((7,))
MEMBERS = [
  Member("nn.relu", jax.nn.relu, _VECTOR),
  Member("nn.gelu", jax.nn.gelu, _VECTOR),
  Member("nn.softmax", jax.nn.softmax, _VECTOR),
  Member(
    "while",
    lambda x: jax.lax.while_loop(lambda s: jnp.sum(s**2) < 50, lambda s: 1.5 * s, x),
    _VECTOR,
    is_forward=True,
  ),
  Member("complex", lambda z: jnp.abs(jnp.fft.fft(z)), normal((7,), dtype=jnp.complex64)),
]
