"""The words for types.

A tree of arrays is a `PyTree`; JAX's own `jax.typing` has the rest. Rule files annotate rates as
`optax.ScalarOrSchedule` and parameters as `optax.Params`, as Optax's own files do.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.typing import ArrayLike

PyTree = Any
Schedule = Callable[[ArrayLike], jax.Array]
