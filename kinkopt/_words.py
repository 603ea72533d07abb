"""Enums whose members are sentences by their value, and a word or two by their name."""

import enum


class Spoken(enum.Enum):
  """An enum whose values are sentences."""

  @property
  def words(self) -> str:
    """The name, as words: `TOO_HIGH` is "too high"."""
    return self.name.lower().replace("_", " ")
