"""Is the step the right size? The ratio of updates to weights, from inside an Optax chain."""

from kinkopt.monitor._band import RatioBand, band
from kinkopt.monitor._readers import find_update_ratio, read_update_ratios
from kinkopt.monitor._update_ratio import UpdateRatioState, update_ratio

__all__ = [
  "RatioBand", "UpdateRatioState", "band", "find_update_ratio", "read_update_ratios",
  "update_ratio",
]  # fmt: skip
