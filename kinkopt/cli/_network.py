"""The models that the demo trains, as pure functions of a tree of parameters.

A ReLU network with one hidden layer, because ReLU has the kinks that gradient checks must live
with; and a softmax regression, which is convex and small enough for an exact Hessian.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

HIDDEN = 32
Params = dict[str, dict[str, Any]]


def init_network(num_features: int, num_classes: int, seed: int) -> Params:
  """Draws float64 weights by He's rule for ReLU, and zero biases, on the host.

  References:
    He, Zhang, Ren, Sun, "Delving deep into rectifiers" (2015): standard deviation sqrt(2 / fan-in).
  """
  rng = np.random.default_rng(seed)

  def layer(fan_in: int, fan_out: int) -> dict[str, np.ndarray]:
    weights = rng.normal(scale=np.sqrt(2 / fan_in), size=(fan_in, fan_out))
    return {"weights": weights, "bias": np.zeros(fan_out)}

  return {"hidden": layer(num_features, HIDDEN), "output": layer(HIDDEN, num_classes)}


def init_regression(num_features: int, num_classes: int) -> Params:
  """Gives the zeros that a softmax regression starts from."""
  return {
    "output": {"weights": np.zeros((num_features, num_classes)), "bias": np.zeros(num_classes)}
  }


def logits(params: Params, images: jax.Array) -> jax.Array:
  """Scores each class: images (n, features) to (n, classes), through the hidden layer if any."""
  for name in ("hidden", "output"):
    if name in params:
      images = images @ params[name]["weights"] + params[name]["bias"]
      images = jax.nn.relu(images) if name == "hidden" else images
  return images


def loss(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
  """The mean softmax cross-entropy, in nats."""
  scores = logits(params, images)
  return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


def accuracy(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
  """The share of images whose highest score is their label's."""
  return jnp.mean(logits(params, images).argmax(axis=-1) == labels)
