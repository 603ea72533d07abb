"""The bugs, one row each; beside each stands its correct twin, with the right rule.

What a checker should say of them is not written here: it is computed from the two programs.
"""

import _rules
import _slots
import _wrong
import jax.numpy as jnp
from _plants import Bug, handed, in_program, in_rule, pruned, times
from _rules import before, pushed, then


def _doubled_worst(params, data):
  """Makes the worst example occur twice: the two tie, and go on to tie."""
  x, y = data
  x[1], y[:2] = x[0], 50


def _two_worst(params, data):
  """Makes two examples the worst, whose tie ends as soon as a coefficient moves."""
  params["coef"][:] = 0
  data[1][:2] = 50


BUGS = (
  Bug(
    "sign of one bias entry",
    "entry 3 of a bias's cotangent is negated",
    (
      *in_rule("dense", then(_rules.dense, None, None, times(-1, 3))),
      *in_rule("scale_and_shift", then(_rules.scale_and_shift, None, None, times(-1, 3))),
    ),
  ),
  Bug(
    "sign of one bias entry, handed",
    "entry 3 of a bias's gradient is negated",
    handed(
      times(-1, 3),
      {
        "mlp": "['hidden']['b']",
        "conv": "['bias']",
        "batch norm": "['shift']",
        "glm": "['bias']",
        "implicit": "['bias']",
      },
    ),
  ),
  Bug(
    "leaf 1 % off",
    "dw is multiplied by 1.01",
    (
      *in_rule("dense", then(_rules.dense, None, times(1.01), None)),
      *in_rule("product", then(_rules.product, None, times(1.01))),
    ),
  ),
  Bug(
    "leaf 0.1 % off",
    "dw is multiplied by 1.001",
    (
      *in_rule("dense", then(_rules.dense, None, times(1.001), None)),
      *in_rule("product", then(_rules.product, None, times(1.001))),
    ),
  ),
  Bug(
    "leaf 0.1 % off, handed",
    "the gradient of one leaf is multiplied by 1.001",
    handed(
      times(1.001),
      {
        "mlp": "['out']['w']",
        "conv": "['kernel']",
        "gru": "['state'][1]",
        "attention": "['k']",
        "batch norm": "['gain']",
        "quantile": "['coef']",
        "implicit": "['w']",
      },
    ),
  ),
  Bug(
    "one coordinate doubled",
    "entry [7, 2] of dw is doubled",
    (
      *in_rule("dense", then(_rules.dense, None, times(2, 7, 2), None), "mlp"),
      *in_rule("product", then(_rules.product, None, times(2, 7, 2)), "glm", "attention"),
    ),
  ),
  Bug(
    "one coordinate doubled, handed",
    "one of 78,400 entries in the MLP",
    handed(times(2, 500, 70), {"mlp": "['hidden']['w']"})
    + handed(times(2, 5, 7), {"gru": "['state'][2]", "attention": "['v']", "conv": "['out']['w']"}),
  ),
  Bug(
    "mean division missing",
    "1 / batch is forgotten",
    (
      *in_rule("cross_entropy", then(_rules.cross_entropy, lambda d: len(d) * d, None)),
      *in_rule("penalty", then(_rules.penalty, lambda d: d.size * d)),
    ),
  ),
  Bug(
    "off-diagonal dropped",
    "of the softmax's Jacobian the diagonal is left",
    (
      *in_rule("cross_entropy", _wrong.only_hits),
      *in_rule("softmax", _wrong.diagonal_softmax),
    ),
  ),
  Bug(
    "weight gradient transposed",
    "dw of a square weight",
    in_rule("product", then(_rules.product, None, lambda d: d.T), "gru", "attention"),
  ),
  Bug(
    "last example counted twice",
    "its cotangent is doubled",
    (
      *in_rule("cross_entropy", then(_rules.cross_entropy, times(2, -1), None)),
      *in_rule("logsumexp", before(_rules.logsumexp, times(2, -1))),
    ),
  ),
  Bug(
    "broadcast not summed",
    "one row of the cotangent is taken for their sum",
    (
      *in_rule("dense", _wrong.one_row_of_bias),
      *in_rule("scale_and_shift", _wrong.one_row_of_shift),
      *in_rule("multiply", _wrong.one_row_of_filter),
    ),
  ),
  Bug(
    "cotangent ignored",
    "the rule is right for a cotangent of 1",
    (
      *in_rule("cross_entropy", _wrong.unweighted_loss),
      *in_rule("tanh", _wrong.unweighted_tanh),
      *in_rule("logsumexp", _wrong.unweighted_logsumexp),
    ),
  ),
  Bug(
    "reverse ignored",
    "the rule of a reversed cumulative sum is reversed, too",
    in_rule("sums_to_come", _wrong.sums_so_far),
  ),
  Bug(
    "wrong for x < 0",
    "the slope there",
    (
      *in_rule("leaky_relu", _wrong.steep_leaky_relu),
      *in_rule("pinball", _wrong.rising_pinball),
    ),
  ),
  Bug(
    "wrong past an index",
    "rows of dw past a multiple of 128 are 0: the last block is partial",
    in_rule(
      "dense",
      then(_rules.dense, None, lambda d: d.at[len(d) // 128 * 128 :].set(0), None),
      "mlp",
      "conv",
    ),
  ),
  Bug(
    "wrong where a weight is 0",
    "its gradient is 0; some weights are pruned",
    (
      *in_rule("dense", _wrong.dense_blind_to_zero, "mlp", point=pruned("hidden", "w")),
      *in_rule("dense", _wrong.dense_blind_to_zero, "batch norm", point=pruned("hidden", "w")),
      *in_rule("penalty", _wrong.penalty_blind_to_zero, point=pruned("coef")),
    ),
  ),
  Bug(
    "out of range is credited",
    "a sum by groups drops two rows, whose cotangent is the last group's",
    in_rule("totals", _wrong.clipped_totals),
  ),
  Bug(
    "wrong winner in a window",
    "the last corner of a pooling window is taken for its neighbor",
    in_rule("max_pool", _wrong.wrong_winner),
  ),
  Bug(
    "overlap not added",
    "a winner of several pooling windows gets the mean of their cotangents",
    in_rule("max_pool", _wrong.overwritten_pool),
  ),
  Bug(
    "every tied entry credited",
    "winners tie and go on to tie: copies of an example, or a constant image",
    (
      *in_rule("max_pool", _wrong.every_tied_pool),
      *in_rule("peak", _wrong.every_tied_peak, point=_doubled_worst),
    ),
  ),
  Bug(
    "every tied entry credited, on a kink",
    "two examples tie for a moment: the sum of both sides is no subgradient",
    in_rule("peak", _wrong.every_tied_peak, point=_two_worst),
  ),
  Bug(
    "permutation not inverted",
    "the rule of a sort permutes once more",
    in_rule("sort", _wrong.permuted_again),
  ),
  Bug(
    "conj too many",
    "the rule of a complex product conjugates",
    in_rule("multiply", _wrong.conjugated),
  ),
  Bug(
    "conj missing, handed",
    "the gradient of a complex leaf is conjugated",
    handed(jnp.conj, {"spectral": "['filter']"}),
  ),
  Bug(
    "residual stale",
    "the rule uses a value saved elsewhere",
    (*in_rule("dense", _wrong.stale_dense), *in_rule("normalize", _wrong.stale_normalize)),
  ),
  Bug(
    "statistics held constant",
    "the rule of a batch norm differentiates neither mean nor variance",
    in_rule("normalize", _wrong.frozen_statistics),
  ),
  Bug(
    "transpose missing",
    "the rule of an implicit solve",
    (
      *in_rule("fixed_point", _wrong.untransposed_fixed_point),
      *in_rule("solve", _wrong.untransposed_solve),
    ),
  ),
  Bug(
    "transpose missing, solved to 1e-6",
    "as before; the twin's rule is that of the solution, which is iterated up to a tolerance",
    in_rule("iterated", _wrong.untransposed_fixed_point),
  ),
  Bug(
    "implicit term dropped",
    "a fixed point is differentiated as its last step alone",
    in_rule("fixed_point", _wrong.one_step_of_fixed_point),
  ),
  Bug(
    "stop_gradient astray",
    "the normalization of a softmax is stopped (its twin: the shift), or a mean",
    (
      *in_program("cross_entropy", _wrong.stopped_loss, _wrong.shifted_loss),
      *in_program("normalize", _wrong.stopped_normalize, _slots.normalize),
    ),
    {"through_stop_gradient": True},
  ),
  Bug(
    "NaN behind where",
    "where(x > 0, sqrt(x), 0)",
    in_program("activation", _wrong.root_behind_where, _wrong.root_before_where),
  ),
  Bug(
    "second order only",
    "a softplus whose derivative has a rule that is 10 % off",
    in_program("activation", _wrong.curved(1.1), _wrong.curved(1.0), rule="slope"),
    {"order": 2},
  ),
  Bug(
    "forward rule of the wrong sign",
    "a rule for forward mode, of 1,000 outputs",
    in_rule("anomaly", _wrong.backward_orbit, rule=pushed),
    {"mode": "fwd"},
  ),
  Bug(
    "forward rule wrong in one output",
    "the sign of one of 1,000",
    in_rule("anomaly", _wrong.one_backward_output, rule=pushed),
    {"mode": "fwd"},
  ),
)
