"""The rules that the demo trains with, and the rate that each starts from.

The rates are ordinary first choices, at which each rule trained steadily on the digits (1,000
steps, seed 0). None was tuned for the lowest loss, so the table shows how the rules behave, not
which is best. A rule added here is in the demo, in `--rule` and in `--help`.
"""

LEARNING_RATES: dict[str, float] = {
  "sgd": 0.5,
  "momentum": 0.1,
  "nesterov": 0.1,
  "nesterov_lookahead": 0.1,
  "adagrad": 0.05,
  "rmsprop": 0.005,
  "adam": 0.01,
}
"""Parameter change per unit of gradient; for the last three, parameter change per step."""

NEWTON = "newton"
"""The rule that trains another model, and needs no rate."""

RULE_NAMES = (*LEARNING_RATES, NEWTON)
