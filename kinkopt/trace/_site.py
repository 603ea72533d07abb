"""Where in a program a winner stands."""

import dataclasses

from kinkopt._places import told


@dataclasses.dataclass(frozen=True, order=True)
class Site:
  """One winner of a program: a primitive on a line, with the number of its units.

  Equal for two runs of the same program, so it can be a key, and a static part of a pytree.
  """

  primitive: str
  file: str  # the user's, as Python names it; empty where nobody knows
  line: int
  name_stack: str  # of `jax.named_scope` and of transformations, outermost first
  shape: tuple[int, ...]  # of its units: what is decided one by one
  path: tuple[int, ...]  # the equation's number in the program, in its caller's, and so on

  def __str__(self) -> str:
    place = f" ({told(self.file, self.line)})" if self.file else ""
    scope = f" in {self.name_stack}" if self.name_stack else ""
    return f"{self.primitive}{place}{scope}"
