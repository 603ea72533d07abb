"""Whose derivative rules count where a program is evaluated otherwise than JAX does."""

import dataclasses

from kinkopt import _jax, _places


@dataclasses.dataclass(frozen=True)
class Policy:
  """Which derivative rules stand in what is run; by default none, so that what is evaluated counts.

  Attributes:
    of_user: whether those of the program do, and `checkpoint` and implicit solvers with them.
    of_libraries: whether those of JAX's and other libraries' functions do in any case.
    intended: names of functions whose rules do in any case, as they are meant to differ.
    through_stop_gradient: whether what moves passes `stop_gradient`.
  """

  of_user: bool = False
  of_libraries: bool = False
  intended: tuple[str, ...] = ()
  through_stop_gradient: bool = False

  def keeps(self, program: object) -> bool:
    """Whether the derivative rule of a function, given its program, stands in what is run."""
    if self.of_user or _places.function(program).name in self.intended:
      return True
    return self.of_libraries and _jax.is_library(program)

  def without_rules(self) -> "Policy":
    """Gives the policy for what is evaluated alone."""
    return dataclasses.replace(self, of_user=False, of_libraries=False)


# As JAX differentiates a program.
CLAIMED = Policy(of_user=True)
