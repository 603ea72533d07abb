"""Programs in bfloat16 and float16, and those that mix them with float32, as they are trained."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from tests.kinks.corpus import Member, normal
from tests.kinks.families.models import cross_entropy, normalized, with_parameters

_SEGMENTS = np.array([0, 2, 1, 0, 2])
_LABELS = np.array([2, 0, 1, 2, 1])
_CAUSAL = np.tril(np.ones((5, 5), bool))


def _mlp(p, x):
  return cross_entropy((nn.relu(x @ p["w"]) @ p["u"]).astype(jnp.float32), _LABELS)


def _preferred(p, x):
  """Multiplies in low precision, and accumulates in float32."""
  y = lax.dot(x, p["w"], preferred_element_type=jnp.float32)
  y = jnp.einsum(
    "ij,jk->ik", nn.gelu(y).astype(x.dtype), p["u"], preferred_element_type=jnp.float32
  )
  return jnp.mean(y**2)


def _scaled_loss(p, x):
  """A loss scaled before its gradient, which is unscaled after, and clipped where not finite."""
  scale = jnp.float32(2**7)

  def loss(q):
    return scale * jnp.mean((jnp.tanh(x @ q["w"]) @ q["u"]).astype(jnp.float32) ** 2)

  gradient = jax.grad(loss)(p)
  gradient = jax.tree.map(lambda g: g.astype(jnp.float32) / scale, gradient)
  is_finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient)]))
  return jax.tree.map(
    lambda a, g: jnp.where(is_finite, a - (0.1 * g).astype(a.dtype), a), p, gradient
  )


def _attention(p, x):
  """Takes its softmax in float32."""
  q, k = x @ p["w"], x @ p["w"][::-1]
  scores = jnp.where(_CAUSAL, (q @ k.T).astype(jnp.float32), jnp.finfo(jnp.float32).min)
  return nn.softmax(scores).astype(x.dtype) @ q @ p["u"]


def _fused_attention(p, x):
  q = (x @ p["w"])[:, None]
  return nn.dot_product_attention(q, q[::-1], q, is_causal=True)


def _scan(p, x):
  def step(carry, a):
    carry = nn.silu(carry @ p["u"] @ p["w"][:, :4] * 0.3 + a[:1])
    return carry, carry.max()

  return lax.scan(step, jnp.zeros(4, x.dtype), x)


def _float32_carry(p, x):
  """A sum in float32 of what is computed in low precision."""

  def step(total, a):
    return total + nn.relu(a @ p["w"]).astype(jnp.float32), None

  return lax.scan(step, jnp.zeros(4), x)[0]


def _segments(p, x):
  y = x @ p["w"]
  kinds = jax.ops.segment_sum, jax.ops.segment_max, jax.ops.segment_min
  return [kind(y, _SEGMENTS, 3) for kind in kinds]


def _layer_norm(p, x):
  return nn.relu(
    normalized((x @ p["w"]).astype(jnp.float32), epsilon=1e-3).astype(x.dtype) @ p["u"]
  )


def _low_norm(p, x):
  return nn.relu(normalized(x @ p["w"], epsilon=1e-1) @ p["u"])


def _convolution(p, x):
  image = x[None].reshape(1, 5, 3, 1)
  kernel = p["w"].reshape(2, 2, 1, 3)
  dimensions = ("NHWC", "HWIO", "NHWC")
  y = lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=dimensions)
  y = nn.relu(y)
  pooled = lax.reduce_window(
    y, np.array(-np.inf, y.dtype), lax.max, (1, 2, 2, 1), (1, 2, 1, 1), "VALID"
  )
  return pooled.sum((0, 1, 2)) @ p["u"][:3]


def _routing(p, x):
  values, experts = lax.top_k(x @ p["w"], 2)
  return jnp.sum(nn.softmax(values)[..., None] * p["w"].T[experts], axis=1)


def _clipped(p, x):
  norm = jnp.sqrt(sum(jnp.sum(jnp.square(a.astype(jnp.float32))) for a in jax.tree.leaves(p)))
  scale = jnp.minimum(1, 1 / norm)
  return jax.tree.map(lambda a: (a * scale).astype(a.dtype), p), x.sum()


def _quantized_rows(p, x):
  """Scales each row by its largest magnitude, as for 8 bits."""
  scale = jnp.max(jnp.abs(p["w"]), axis=0) / jnp.asarray(127, p["w"].dtype)
  codes = jnp.clip(p["w"] / scale, -128, 127)
  return x @ (codes * scale) + jnp.round(codes[0]) * scale


def _dropout(p, x):
  keep = jax.random.bernoulli(jax.random.key(0), 0.7, (5, 4))
  noise = jax.random.normal(jax.random.key(1), (5, 4), x.dtype)
  return jnp.where(keep, x @ p["w"] + noise, 0) @ p["u"]


def _master_weights(p, x):
  """Moves parameters of float32 by way of a model in low precision."""
  low = jax.tree.map(lambda a: a.astype(x.dtype), p)
  return _mlp(low, x) + 1e-2 * sum(jnp.sum(a**2) for a in jax.tree.leaves(p))


def _sorted(p, x):
  y = jnp.sort(x @ p["w"], axis=0)
  return jnp.cumsum(y, axis=0), jnp.median(y), jnp.argmax(y, axis=1), jnp.quantile(y[:, 0], 0.3)


def _elementwise(p, x):
  y = x @ p["w"]
  return jnp.logaddexp(y, 0.5), jnp.maximum(y, 0.1), jnp.hypot(y, 1), jnp.abs(y) ** 1.5, jnp.exp2(y)


def _rule(p, x):
  @jax.custom_vjp
  def scaled(a):
    return a * jnp.tanh(a)

  scaled.defvjp(
    lambda a: (scaled(a), a), lambda a, g: (g * (jnp.tanh(a) + a * (1 - jnp.tanh(a) ** 2)),)
  )
  return jax.checkpoint(lambda a: scaled(a) @ p["u"])(x @ p["w"])


def _reduced_precision(p, x):
  return lax.dot(x, p["w"], precision=lax.Precision.DEFAULT) @ p["u"], lax.erf(x @ p["w"])


def _named_algorithm(p, x):
  """Asks for a way of multiplying by its name; another dtype would not have it."""
  algorithm = lax.DotAlgorithmPreset.BF16_BF16_F32
  y = lax.dot(x, p["w"], precision=algorithm, preferred_element_type=jnp.float32)
  return jnp.tanh(y) @ p["u"].astype(jnp.float32)


_PROGRAMS = {
  "mlp": _mlp,
  "accumulated in float32": _preferred,
  "scaled loss": _scaled_loss,
  "attention with softmax in float32": _attention,
  "fused attention": _fused_attention,
  "scan": _scan,
  "scan with a carry of float32": _float32_carry,
  "segments": _segments,
  "layer norm in float32": _layer_norm,
  "layer norm": _low_norm,
  "conv with max-pool": _convolution,
  "top-k routing": _routing,
  "clipped by the norm": _clipped,
  "quantized rows": _quantized_rows,
  "dropout": _dropout,
  "sorted": _sorted,
  "elementwise": _elementwise,
  "rule of its own": _rule,
  "precision of a product": _reduced_precision,
  "algorithm of a product": _named_algorithm,
}
_DRAW = with_parameters((5, 3), w=(3, 4), u=(4, 3))


def _in(dtype):
  return lambda key: jax.tree.map(lambda a: a.astype(dtype), _DRAW(key))


def _mixed(dtype):
  def draw(key):
    parameters, x = _DRAW(key)
    return parameters, x.astype(dtype)

  return draw


_DTYPES = {"bfloat16": jnp.bfloat16, "float16": jnp.float16}
_IN_FLOAT16 = (
  "mlp",
  "scaled loss",
  "scan",
  "segments",
  "layer norm",
  "conv with max-pool",
  "sorted",
)
MEMBERS = [
  *(Member(f"bfloat16.{name}", fun, _in(jnp.bfloat16)) for name, fun in _PROGRAMS.items()),
  *(Member(f"float16.{name}", _PROGRAMS[name], _in(jnp.float16)) for name in _IN_FLOAT16),
  *(
    Member(f"{name}.master weights", _master_weights, _mixed(dtype))
    for name, dtype in _DTYPES.items()
  ),
  Member("bfloat16.of both arguments", _low_norm, _in(jnp.bfloat16), (0, 1)),
  Member(
    "bfloat16.matrix times its transpose",
    lambda x: jnp.max(x @ x.T, axis=0),
    normal((3, 4), dtype=jnp.bfloat16),
  ),
]
