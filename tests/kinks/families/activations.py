"""All of `jax.nn` that has a derivative, and its initializers in what they are scaled by."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import nn
from jax.nn import initializers

from tests.kinks.corpus import Member, normal, uniform

_MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]], bool)
_LABELS = np.array([2, 7, 0, -1])  # two of them outside: no class is hot

# Public names of `jax.nn` that no member can have, each with the reason.
WITHOUT_DERIVATIVE = {
  "get_scaled_dot_general_config": "makes a configuration",
  "initializers": "a module, of which there are members",
  "scaled_dot_general": "quantizes to 8 bits, on Blackwell GPUs alone",
  "scaled_matmul": "multiplies arrays of 8 bits, on Blackwell GPUs alone",
}

_ELEMENTWISE = {
  "celu": nn.celu,
  "celu with alpha": lambda x: nn.celu(x, alpha=0.4),
  "elu": nn.elu,
  "elu with alpha": lambda x: nn.elu(x, alpha=0.4),
  "gelu": nn.gelu,
  "gelu of erf": lambda x: nn.gelu(x, approximate=False),
  "glu": nn.glu,
  "hard_sigmoid": nn.hard_sigmoid,
  "hard_silu": nn.hard_silu,
  "hard_swish": nn.hard_swish,
  "hard_tanh": nn.hard_tanh,
  "identity": nn.identity,
  "leaky_relu": nn.leaky_relu,
  "leaky_relu with slope": lambda x: nn.leaky_relu(x, negative_slope=0.3),
  "log_sigmoid": nn.log_sigmoid,
  "mish": nn.mish,
  "relu": nn.relu,
  "relu6": lambda x: nn.relu6(4 * x),
  "selu": nn.selu,
  "sigmoid": nn.sigmoid,
  "silu": nn.silu,
  "soft_sign": nn.soft_sign,
  "softplus": nn.softplus,
  "sparse_plus": nn.sparse_plus,
  "sparse_sigmoid": nn.sparse_sigmoid,
  "squareplus": nn.squareplus,
  "swish": nn.swish,
  "tanh": nn.tanh,
}

_IN_A_PARAMETER = {
  "celu in alpha": nn.celu,
  "elu in alpha": nn.elu,
  "leaky_relu in the slope": nn.leaky_relu,
  "squareplus in b": nn.squareplus,
}

# Of an array of 3 by 5.
_REDUCING = {
  "log_softmax": nn.log_softmax,
  "log_softmax of some": lambda x: nn.log_softmax(x, where=_MASK)[_MASK],
  "logmeanexp": nn.logmeanexp,
  "logmeanexp of some": lambda x: nn.logmeanexp(x, axis=0, where=_MASK),
  "logsumexp": nn.logsumexp,
  "logsumexp of an axis": lambda x: nn.logsumexp(x, axis=1, keepdims=True),
  "logsumexp with weights": lambda x: nn.logsumexp(x, axis=1, b=np.arange(1.0, 6.0)),
  "logsumexp in the weights": lambda x: nn.logsumexp(x, axis=0, b=x**2 + 1),
  "logsumexp with a sign": lambda x: nn.logsumexp(x, b=_MASK - 0.4, return_sign=True),
  "logsumexp of some": lambda x: nn.logsumexp(x, axis=1, where=_MASK),
  "logsumexp of minus infinity": lambda x: nn.logsumexp(jnp.where(_MASK, x, -jnp.inf), axis=1),
  "softmax": nn.softmax,
  "softmax of two axes": lambda x: nn.softmax(x, axis=(0, 1)),
  "softmax of some": lambda x: nn.softmax(x, where=_MASK),
  "standardize": nn.standardize,
  "standardize of some": lambda x: nn.standardize(x, where=_MASK),
  "standardize by given moments": lambda x: nn.standardize(x, mean=x[0], variance=x[1] ** 2 + 0.3),
  "one_hot times x": lambda x: nn.one_hot(_LABELS, 5) @ x.T,
  "one_hot of an argmax": lambda x: nn.one_hot(jnp.argmax(x, axis=1), 5) * x,
}
if hasattr(nn, "log1mexp"):
  _REDUCING["log1mexp"] = lambda x: nn.log1mexp(0.2 + x**2)

_LENGTHS = np.array([3, 4], np.int32)
_ATTENDED = np.tril(np.ones((4, 4), bool)) ^ (np.arange(4) == 1)[:, None]

# Of a query, a key and a value of (batch, length, heads, features).
_ATTENTION = {
  "": {},
  " scaled": {"scale": 0.3},
  " causal": {"is_causal": True},
  " masked": {"mask": _ATTENDED[None, None] | np.eye(4, dtype=bool)},
  " of unlike lengths": {"query_seq_lengths": _LENGTHS[::-1], "key_value_seq_lengths": _LENGTHS},
  " in a window": {"local_window_size": (1, 0)},
  " with its residual": {"return_residual": True},
}


def _attend_grouped(q, k, v):
  return nn.dot_product_attention(q, k[:, :, :1], v[:, :, :1])


def _attend_biased(q, k, v, bias):
  return nn.dot_product_attention(q, k, v, bias, is_causal=True)


# Drawn inside the program: with a key, of a shape, in the scale of what is drawn.
_SCALED = {
  "constant": initializers.constant,
  "normal": lambda s: initializers.normal(stddev=s),
  "uniform": lambda s: initializers.uniform(scale=s),
  "truncated_normal": lambda s: initializers.truncated_normal(stddev=s, lower=-1.0, upper=1.5),
  "variance_scaling": lambda s: initializers.variance_scaling(s, "fan_avg", "uniform"),
  "orthogonal": lambda s: initializers.orthogonal(scale=s),
}
_PLAIN = {
  name: getattr(initializers, name)()
  for name in ("glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal")
}


def _drawn_in_scale(initializer, scale, key):
  return jnp.tanh(initializer(scale)(key, (5, 3), jnp.float32))


def _drawn_layer(initializer, x, key):
  return nn.relu(x @ initializer(key, (7, 3), jnp.float32))


def _with_key(draw):
  return lambda key: (*draw(key), jax.random.fold_in(key, 1))


_QKV = (2, 4, 2, 3)
MEMBERS = [
  *(Member(f"nn.{name}", f, normal((8,))) for name, f in _ELEMENTWISE.items()),
  *(
    Member(f"nn.{name}", f, lambda key: (*normal((8,))(key), *uniform(0.2, 0.9, ())(key)), (0, 1))
    for name, f in _IN_A_PARAMETER.items()
  ),
  *(Member(f"nn.{name}", f, normal((3, 5))) for name, f in _REDUCING.items()),
  *(
    Member(
      f"nn.dot_product_attention{name}",
      functools.partial(nn.dot_product_attention, **options),
      normal(_QKV, _QKV, _QKV),
      (0, 1, 2),
    )
    for name, options in _ATTENTION.items()
  ),
  Member(
    "nn.dot_product_attention of grouped heads",
    _attend_grouped,
    normal(_QKV, _QKV, _QKV),
    (0, 1, 2),
  ),
  Member(
    "nn.dot_product_attention in the bias",
    _attend_biased,
    normal(_QKV, _QKV, _QKV, (2, 2, 4, 4)),
    (0, 3),
  ),
  *(
    Member(
      f"nn.initializers.{name} in its scale",
      functools.partial(_drawn_in_scale, initializer),
      _with_key(uniform(0.5, 1.5, ())),
    )
    for name, initializer in _SCALED.items()
  ),
  *(
    Member(
      f"nn.initializers.{name}",
      functools.partial(_drawn_layer, initializer),
      _with_key(normal((2, 7))),
    )
    for name, initializer in _PLAIN.items()
  ),
]
