"""All of `optax.losses`, in both arguments where both are real numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from optax import losses

from tests.kinks.corpus import Member, normal, uniform

_LABELS = np.array([2, 0, 4, 1])
_MASK = np.array([[1, 1, 0, 1, 1], [1, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]], bool)
_LOGITS = normal((4, 5))
_PAIR = normal((4, 5), (4, 5))
_SIGNS = np.sign(np.cos(2 * np.arange(20.0) ** 2)).reshape(4, 5)


def _distributions(key):
  """Draws logarithms of probabilities, and probabilities."""
  first, second = _PAIR(key)
  return jax.nn.log_softmax(first), jax.nn.softmax(second)


def _probabilities(key):
  """Draws logits, and probabilities."""
  first, second = _PAIR(key)
  return first, jax.nn.softmax(second)


def _log_distributions(key):
  return tuple(jax.nn.log_softmax(x) for x in _PAIR(key))


def _ctc(log_probs, name="ctc_loss"):
  frames = np.zeros((2, 6)), np.array([[1, 2, 2], [3, 1, 0]]), np.array([[0, 0, 0], [0, 0, 1.0]])
  return getattr(losses, name)(log_probs, *frames, log_epsilon=-50.0)


_REGRESSION = {
  "squared_error": losses.squared_error,
  "l2_loss": losses.l2_loss,
  "huber_loss": losses.huber_loss,
  "huber_loss with delta": lambda x, y: losses.huber_loss(x, y, delta=0.3),
  "log_cosh": losses.log_cosh,
  "cosine_similarity": losses.cosine_similarity,
  "cosine_distance": losses.cosine_distance,
  "cosine_distance with epsilon": lambda x, y: losses.cosine_distance(x, y, epsilon=1.5),
  "cosine_similarity of some": lambda x, y: losses.cosine_similarity(x, y, where=_MASK),
  "hinge_loss": losses.hinge_loss,
  "perceptron_loss": losses.perceptron_loss,
  "sparsemax_loss": losses.sparsemax_loss,
}

_OF_PROBABILITIES = {
  "sigmoid_binary_cross_entropy": losses.sigmoid_binary_cross_entropy,
  "softmax_cross_entropy": losses.softmax_cross_entropy,
  "softmax_cross_entropy of some": lambda x, y: losses.softmax_cross_entropy(x, y, where=_MASK),
  "safe_softmax_cross_entropy": losses.safe_softmax_cross_entropy,
  "poly_loss_cross_entropy": losses.poly_loss_cross_entropy,
  "sigmoid_focal_loss": lambda x, y: losses.sigmoid_focal_loss(x, y, alpha=0.3),
  "ranking_softmax_loss": losses.ranking_softmax_loss,
  "ranking_softmax_loss of some": lambda x, y: losses.ranking_softmax_loss(
    x, y, where=_MASK, weights=np.linspace(0.5, 1.5, 20).reshape(4, 5)
  ),
  "dice_loss": losses.dice_loss,
  "dice_loss by class": lambda x, y: losses.dice_loss(
    x, y, class_weights=np.arange(1.0, 6.0), alpha=0.3, beta=0.7, ignore_background=False
  ),
  "multiclass_generalized_dice_loss": losses.multiclass_generalized_dice_loss,
  "binary_dice_loss": losses.binary_dice_loss,
}

_OF_DISTRIBUTIONS = {
  "kl_divergence": losses.kl_divergence,
  "kl_divergence of some": lambda x, y: losses.kl_divergence(x, y, where=_MASK),
  "generalized_kl_divergence": losses.generalized_kl_divergence,
}

# The labels are integers, or signs.
_OF_LABELS = {
  "hinge_loss of signs": lambda x: losses.hinge_loss(x, _SIGNS),
  "perceptron_loss of signs": lambda x: losses.perceptron_loss(x, _SIGNS),
  "sparsemax_loss of signs": lambda x: losses.sparsemax_loss(x, _SIGNS > 0),
  "multiclass_hinge_loss": lambda x: losses.multiclass_hinge_loss(x, _LABELS),
  "multiclass_perceptron_loss": lambda x: losses.multiclass_perceptron_loss(x, _LABELS),
  "multiclass_sparsemax_loss": lambda x: losses.multiclass_sparsemax_loss(x, _LABELS),
  "softmax_cross_entropy_with_integer_labels": lambda x: (
    losses.softmax_cross_entropy_with_integer_labels(x, _LABELS)
  ),
  "softmax_cross_entropy_with_integer_labels of some": lambda x: (
    losses.softmax_cross_entropy_with_integer_labels(x, _LABELS, where=_MASK)
  ),
  "safe_softmax_cross_entropy of one label": lambda x: losses.safe_softmax_cross_entropy(
    x, jax.nn.one_hot(_LABELS, 5)
  ),
  "make_fenchel_young_loss": lambda x: losses.make_fenchel_young_loss(
    lambda z: jax.nn.logsumexp(z, axis=-1)
  )(x, jax.nn.one_hot(_LABELS, 5)),
  "make_fenchel_young_loss of a maximum": lambda x: losses.make_fenchel_young_loss(
    lambda z: jnp.max(z, axis=-1)
  )(x, jax.nn.one_hot(_LABELS, 5)),
}

MEMBERS = [
  *(Member(f"losses.{name}", fun, _PAIR, (0, 1)) for name, fun in _REGRESSION.items()),
  *(
    Member(f"losses.{name}", fun, _probabilities, (0, 1)) for name, fun in _OF_PROBABILITIES.items()
  ),
  *(
    Member(f"losses.{name}", fun, _distributions, (0, 1)) for name, fun in _OF_DISTRIBUTIONS.items()
  ),
  *(Member(f"losses.{name}", fun, _LOGITS) for name, fun in _OF_LABELS.items()),
  Member(
    "losses.kl_divergence_with_log_targets",
    losses.kl_divergence_with_log_targets,
    _log_distributions,
    (0, 1),
  ),
  Member("losses.smooth_labels", losses.smooth_labels, uniform(0.1, 0.9, (4, 5), ()), (0, 1)),
  Member("losses.ctc_loss", _ctc, normal((2, 6, 4))),
  Member(
    "losses.ctc_loss_with_forward_probs",
    lambda x: _ctc(x, "ctc_loss_with_forward_probs"),
    normal((2, 6, 4)),
  ),
  Member(
    "losses.triplet_margin_loss", losses.triplet_margin_loss, normal(*[(4, 5)] * 3), (0, 1, 2)
  ),
  Member(
    "losses.triplet_margin_loss of degree 4",
    lambda a, p, n: losses.triplet_margin_loss(a, p, n, norm_degree=4, margin=0.5),
    normal(*[(4, 5)] * 3),
    (0, 1, 2),
  ),
  Member(
    "losses.ntxent",
    lambda x, t: losses.ntxent(x, np.array([0, 1, 0, 1]), t),
    lambda key: (*_LOGITS(key), jnp.float32(0.7)),
    (0, 1),
  ),
]
