"""What single words on the command line mean, and what is wrong with those that mean nothing."""

import argparse


def names(text: str) -> list[str]:
  """Reads names with commas between them."""
  return [name.strip() for name in text.split(",") if name.strip()]


def whole(text: str, low: int, what: str) -> int:
  """Reads a whole number that is at least `low`; `what` says what to give instead."""
  try:
    value = int(text)
  except ValueError:
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number; {what}") from None
  if value < low:
    raise argparse.ArgumentTypeError(f"{value} is too small; {what}")
  return value


def seed(text: str) -> int:
  """Reads a seed."""
  return whole(text, 0, "give a seed, 0 or more")


def count(text: str) -> int:
  """Reads a number of things, 1 or more."""
  return whole(text, 1, "give 1 or more")


def number(text: str) -> int:
  """Reads a number of things, 0 or more."""
  return whole(text, 0, "give 0 or more")


def numbers(text: str) -> list[int]:
  """Reads the numbers of arguments, with commas between them."""
  found = [whole(name, 0, "give numbers of arguments, such as 0 or 0,2") for name in names(text)]
  if not found:
    raise argparse.ArgumentTypeError("no argument is numbered; give 0, or 0,2 for two of them")
  return found
