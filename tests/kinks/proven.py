"""The members of the corpus on which every claim was checked, on both versions of JAX."""

PROVEN: list[str] = []
