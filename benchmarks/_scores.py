"""From single answers to tables: what was found, what was cried, and what was named."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from _cases import Truth
from _checkers import NOT_RUN, PASSED, REJECTED, UNDECIDED, Outcome


@dataclasses.dataclass(frozen=True)
class Record:
  """One answer."""

  bug: str
  model: str
  dtype: str
  checker: str
  side: str
  seed: int
  truth: Truth
  outcome: Outcome

  @property
  def case(self) -> tuple[Any, ...]:
    """What a wrong program and its twin have in common."""
    return self.bug, self.model, self.truth.rule, self.dtype, self.checker, self.seed

  @property
  def is_as_it_should_be(self) -> bool:
    truth, said = self.truth, self.outcome
    if self.side == "right":
      return said.verdict == PASSED
    names = said.rules is None or (
      said.leaves == truth.leaves
      and (not truth.coordinates or truth.coordinates == said.coordinates)
      and (not truth.rule or said.rules == {truth.rule})
    )
    return said.verdict == REJECTED and names

  def explain(self) -> None:
    """Prints what is not as it should be."""
    is_excused = self.outcome.verdict == NOT_RUN and self.checker != "kinkopt"
    if self.is_as_it_should_be or is_excused:
      return
    print(f"-- {self.checker} of the {self.side} program, {self.bug} / {self.model} / {self.dtype}")
    print(f"   seed {self.seed}: {self.outcome.verdict}; truth {self.truth}")
    print("   " + self.outcome.text.replace("\n", "\n   "), flush=True)


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of words under a title."""

  title: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]

  def __str__(self) -> str:
    lines = [self.columns, *self.rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    words = ["  ".join(word.ljust(w) for word, w in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([self.title, *words])

  def markdown(self) -> str:
    lines = [self.columns, ("---",) * len(self.columns), *self.rows]
    return "\n".join([f"## {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _share(records: Iterable[Record], is_hit: Callable[[Record], Any]) -> str:
  """Counts hits among what was answered; `-` where nothing was."""
  hits = [is_hit(record) for record in records]
  hits = [hit for hit in hits if hit is not None]
  return f"{sum(map(bool, hits))}/{len(hits)}" if hits else "-"


def _names_leaves(record: Record) -> bool | None:
  return None if record.outcome.leaves is None else record.outcome.leaves == record.truth.leaves


def _names_coordinates(record: Record) -> bool | None:
  if record.outcome.coordinates is None or not record.truth.coordinates:
    return None
  return record.outcome.coordinates == record.truth.coordinates


def _blames(record: Record) -> bool | None:
  if record.outcome.rules is None or not record.truth.rule:
    return None
  return record.outcome.rules == {record.truth.rule}


COLUMNS = (
  "n/a",
  "told apart",
  "detected",
  "undecided",
  "false alarms",
  "undecided twins",
  "right leaves",
  "right coordinates",
  "right rule",
  "evaluations",
  "s, median",
  "s, first",
)


def _cells(records: Sequence[Record]) -> tuple[str, ...]:
  """Sums up the answers of one checker."""
  asked = [r for r in records if r.outcome.verdict != NOT_RUN]
  if not asked:
    return (f"{len(records)}/{len(records)}", *["-"] * (len(COLUMNS) - 1))
  wrong = [r for r in asked if r.side == "wrong"]
  right = [r for r in asked if r.side == "right"]
  counts = [r.outcome.evaluations for r in asked if r.outcome.evaluations is not None]
  seconds = [r.outcome.seconds for r in asked]
  return (
    _share(records, lambda r: r.outcome.verdict == NOT_RUN),
    _told_apart(asked),
    _rejected(asked, "wrong"),
    _share(wrong, lambda r: r.outcome.verdict == UNDECIDED),
    _rejected(asked, "right"),
    _share(right, lambda r: r.outcome.verdict == UNDECIDED),
    _share(wrong, _names_leaves),
    _share(wrong, _names_coordinates),
    _share(wrong, _blames),
    f"{statistics.median(counts):.0f}" if counts else "-",
    f"{statistics.median(seconds):.2f}",
    f"{seconds[0]:.2f}",
  )


def _grouped(title: str, records: Sequence[Record], *names: str) -> Table:
  def key(record: Record) -> tuple[str, ...]:
    return tuple(getattr(record, name) for name in names)

  order = {key(record): number for number, record in reversed(list(enumerate(records)))}
  rows = [
    (*group, *_cells(list(members)))
    for group, members in groupby(sorted(records, key=lambda r: order[key(r)]), key)
  ]
  return Table(title, (*names, *COLUMNS), tuple(rows))


def _reasons(records: Sequence[Record]) -> Table:
  reasons = {
    (r.checker, r.model, r.dtype, r.outcome.text): None
    for r in records
    if r.outcome.verdict == NOT_RUN
  }
  return Table("Not run", ("checker", "model", "dtype", "reason"), tuple(reasons))


def _matrix(title: str, records: Sequence[Record], side: str = "") -> Table:
  """Counts for each bug and dtype, a column for each checker: rejections of a side, or pairs."""
  checkers = tuple(dict.fromkeys(record.checker for record in records))
  rows = []
  for bug, dtype in dict.fromkeys((record.bug, record.dtype) for record in records):
    asked = [
      r for r in records if (r.bug, r.dtype) == (bug, dtype) and r.outcome.verdict != NOT_RUN
    ]
    parts = [[r for r in asked if r.checker == name] for name in checkers]
    cells = [_rejected(part, side) if side else _told_apart(part) for part in parts]
    rows.append((bug, dtype, *cells))
  return Table(title, ("bug", "dtype", *checkers), tuple(rows))


def _rejected(asked: Sequence[Record], side: str) -> str:
  return _share((r for r in asked if r.side == side), lambda r: r.outcome.verdict == REJECTED)


def _told_apart(asked: Sequence[Record]) -> str:
  """Counts the bugs that were rejected at a point where their twin passed."""
  passed = {r.case for r in asked if r.side == "right" and r.outcome.verdict == PASSED}
  return _share(
    (r for r in asked if r.side == "wrong"),
    lambda r: r.outcome.verdict == REJECTED and r.case in passed,
  )


def tables(records: Sequence[Record]) -> list[Table]:
  """Gives a table for each subject."""
  found = [
    _grouped("Checkers", records, "checker", "dtype"),
    _matrix("Told apart: the bug rejected where its twin passes", records),
    _matrix("Bugs found, of points where they change the gradient", records, "wrong"),
    _matrix("Right gradients rejected", records, "right"),
  ]
  ours = [record for record in records if record.checker == "kinkopt"]
  if ours:
    found.append(_grouped("kinkopt, by bug", ours, "bug", "dtype"))
    found.append(_grouped("kinkopt, by model", ours, "model", "dtype"))
  reasons = _reasons(records)
  return [*found, reasons] if reasons.rows else found


def markdown(head: str, found: Sequence[Table]) -> str:
  """Writes the tables for a page."""
  return "\n\n".join([f"```\n{head}\n```", *(table.markdown() for table in found)]) + "\n"
