"""Is the step the right size? The ratio of updates to weights, from inside an Optax chain."""

from kinkopt.monitor._band import RatioBand, band
from kinkopt.monitor._every import every
from kinkopt.monitor._history import History, history
from kinkopt.monitor._leaf_stats import LeafStatsState, leaf_stats
from kinkopt.monitor._readers import find_update_ratio, read_update_ratios
from kinkopt.monitor._record import RecordState, everything, record
from kinkopt.monitor._sinks import live, tensorboard, wandb
from kinkopt.monitor._update_ratio import UpdateRatioState, update_ratio

__all__ = [
  "History", "LeafStatsState", "RatioBand", "RecordState", "UpdateRatioState", "band", "every",
  "everything", "find_update_ratio", "history", "leaf_stats", "live", "read_update_ratios",
  "record", "tensorboard", "update_ratio", "wandb",
]  # fmt: skip
