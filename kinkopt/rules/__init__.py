"""The update rules of the class notes, one a file, as Optax transforms.

Called eagerly, `init` gives each part of the state the sharding of the parameter it belongs to.
Under `jax.jit` the compiler chooses, as for any new array: pass `out_shardings` there.
"""

from kinkopt.rules._adagrad import adagrad, scale_by_adagrad
from kinkopt.rules._adam import adam, scale_by_adam
from kinkopt.rules._momentum import momentum, scale_by_momentum
from kinkopt.rules._nesterov import nesterov, scale_by_nesterov
from kinkopt.rules._nesterov_lookahead import lookahead_params, nesterov_lookahead
from kinkopt.rules._rmsprop import rmsprop, scale_by_rmsprop
from kinkopt.rules._sgd import sgd

__all__ = [
  "adagrad", "adam", "lookahead_params", "momentum", "nesterov", "nesterov_lookahead", "rmsprop",
  "scale_by_adagrad", "scale_by_adam", "scale_by_momentum", "scale_by_nesterov", "scale_by_rmsprop",
  "sgd",
]  # fmt: skip
