"""What a check found, as plain data, and as a document to read.

Made once, on the host, and never changed. Text and JSON carry all of it.
"""

import dataclasses
import json
from typing import Any

import numpy as np

from kinkopt.gradcheck._pictures import ErrorMap, Source, StepCurve
from kinkopt.gradcheck._verdict import Verdict
from kinkopt.render import Column, Document, Heading, Table, Text, Tone, to_html_fragment, to_text

FORMAT = "kinkopt.gradient_report"
VERSION = 1
# What float64 loses goes without saying.
_WORTH_TELLING = 1e-12
_MOST_PICTURED = 3
_TONES = {Verdict.HAPPY: Tone.GOOD, Verdict.OKAY: Tone.GOOD, Verdict.UNDECIDED: Tone.WARN}


@dataclasses.dataclass(frozen=True)
class LeafReport:
  """What was found of one leaf's gradient."""

  name: str
  shape: tuple[int, ...]
  dtype: str
  verdict: Verdict
  relative_error: float  # of the leaf's gradient, as far as it was seen; NaN: not known
  power: float  # a relative error above this would have been seen; NaN: not known
  norm: float  # of the gradient; NaN: not known
  detail: str = ""  # what the error looks like, and where
  mode: str = "rev"  # or "fwd"
  order: int = 1  # 2: the leaf's part of the gradient's derivative
  precision_loss: float = float("nan")  # relative error that the program's own precision makes
  errors: ErrorMap | None = None  # where a leaf is wrong, if all of it could be compared
  curve: StepCurve | None = None  # by which differences a leaf is wrong

  @property
  def label(self) -> str:
    """The leaf's name, and what of it was checked if that is not `jax.grad`."""
    what = ["forward mode"] * (self.mode == "fwd") + ["second order"] * (self.order == 2)
    return f"{self.name} ({', '.join(what)})" if what else self.name


@dataclasses.dataclass(frozen=True, repr=False)
class GradientReport:
  """What `check_gradient` found.

  Attributes:
    leaves: one for each leaf that has a gradient, in the order of the tree.
    skipped: names of the leaves that have none.
    blame: custom rules that are not the derivative of their function, a sentence each.
    ties: winners that tie at the point with a margin that moves: the point is on a kink there, and
      was judged beside it.
    cuts: each `stop_gradient` that what moves runs into, with its line; not those in libraries.
    opaque: primitives that could not be seen into.
    approximations: what is evaluated less exactly than it is differentiated, so that errors up to
      1e-4 passed: loops that end at a tolerance, functions of libraries.
    seed: the data of the random key, to replay the check.
    evaluations: of the function, those for the gradient not counted.
    through_stop_gradient: whether the check saw through them.
    sources: the lines of the rules to blame, of what made a NaN, and of the ties.
    is_complete: False if the check was ended before it was done.
  """

  leaves: tuple[LeafReport, ...]
  skipped: tuple[str, ...] = ()
  blame: tuple[str, ...] = ()
  ties: tuple[str, ...] = ()
  cuts: tuple[str, ...] = ()
  opaque: tuple[str, ...] = ()
  approximations: tuple[str, ...] = ()
  seed: tuple[int, ...] = ()
  evaluations: int = 0
  through_stop_gradient: bool = False
  sources: tuple[Source, ...] = ()
  is_complete: bool = True

  @property
  def verdict(self) -> Verdict:
    """The worst of the leaves' verdicts."""
    return max((leaf.verdict for leaf in self.leaves), key=_severity, default=Verdict.UNDECIDED)

  @property
  def ok(self) -> bool:
    """Whether every leaf passed; what could not be decided did not."""
    return all(leaf.verdict.is_pass for leaf in self.leaves) and bool(self.leaves)

  def raise_if_wrong(self) -> None:
    """Raises unless every leaf passed.

    Raises:
      AssertionError: with the whole report.
    """
    __tracebackhide__ = True
    if not self.ok:
      raise AssertionError(str(self))

  def to_document(self) -> Document:
    """Gives the report as a Document for the printers of `kinkopt.render`."""
    worst_first = sorted(self.leaves, key=_badness, reverse=True)
    numbers = {
      "relative error": [x.relative_error for x in worst_first],
      "would have seen": [x.power for x in worst_first],
    }
    losses = [x.precision_loss for x in worst_first]
    if max(np.nan_to_num(losses), default=0.0) > _WORTH_TELLING:
      numbers["own precision"] = losses
    columns = (
      Column("leaf"),
      Column("shape"),
      *(Column(title, ".1e") for title in numbers),
      Column("verdict"),
    )
    rows = [
      (
        x.label,
        _shape(x),
        *(None if np.isnan(number) else number for number in row),
        x.verdict.words,
      )
      for x, row in zip(worst_first, zip(*numbers.values()))
    ]
    tones = tuple(_TONES.get(leaf.verdict, Tone.BAD) for leaf in worst_first)
    details = [
      Text(f"`{leaf.label}`: the gradient {leaf.detail}.", Tone.BAD)
      for leaf in worst_first
      if leaf.detail
    ]
    return Document(
      "Gradient check",
      (
        Text(self.verdict.value, _TONES.get(self.verdict, Tone.BAD)),
        *details,
        *(Text(f"{sentence[0].upper()}{sentence[1:]}.", Tone.BAD) for sentence in self.blame),
        *(source.to_code() for source in self.sources if source.is_wrong),
        Table(columns, tuple(rows), tones=tones),
        *(
          picture.to_block(leaf.label)
          for leaf in worst_first[:_MOST_PICTURED]
          for picture in (leaf.errors, leaf.curve)
          if picture
        ),
        *self._remarks(),
        *(source.to_code() for source in self.sources if not source.is_wrong),
      ),
    )

  def _remarks(self) -> list[Heading | Text]:
    remarks = []
    if not self.is_complete:
      remarks.append(
        "The check was ended before it was done: what it had not seen by then is undecided, and "
        "what is wrong was not looked for more closely."
      )
    if self.ties:
      remarks.append(
        f"The point is on a kink: {'; '.join(self.ties)}. There any gradient between the two sides "
        "is a convention, so the gradient was judged beside the point."
      )
    if self.cuts:
      taken = (
        "The check saw through it."
        if self.through_stop_gradient
        else "The check took that as meant; with `through_stop_gradient=True` it does not."
      )
      remarks.append(f"No gradient passes {'; '.join(self.cuts)}. {taken}")
    if self.opaque:
      remarks.append(
        f"Run as they are, in their own precision, and not seen into: {'; '.join(self.opaque)}."
      )
    if self.approximations:
      remarks.append(
        f"Evaluated to a tolerance: {'; '.join(self.approximations)}. So errors up to 1e-4 passed."
      )
    if self.skipped:
      remarks.append(f"Without a gradient, and skipped: {', '.join(self.skipped)}.")
    remarks.append(f"{self.evaluations:,} evaluations; seed {list(self.seed)}.")
    return [Text(remark, Tone.FAINT) for remark in remarks]

  def __repr__(self) -> str:
    return f"<{type(self).__name__}: {self.verdict.name}, {len(self.leaves)} leaves>"

  def __str__(self) -> str:
    return to_text(self.to_document(), width=100)

  def _repr_html_(self) -> str:
    """Shows the report in a notebook, in colour."""
    return to_html_fragment(self.to_document())

  def to_json(self) -> str:
    """Writes the report as JSON, with a name and a version of the format."""
    fields = dataclasses.asdict(self)
    fields["leaves"] = [{**leaf, "verdict": leaf["verdict"].name} for leaf in fields["leaves"]]
    return json.dumps({"format": FORMAT, "version": VERSION, **_finite(fields)}, allow_nan=False)

  @classmethod
  def from_json(cls, text: str) -> "GradientReport":
    """Reads a report that `to_json` wrote.

    Raises:
      ValueError: if it is no such report, or of a newer version.
    """
    read = json.loads(text)
    if not isinstance(read, dict) or read.get("format") != FORMAT:
      raise ValueError(
        f"`from_json` reads what `to_json` wrote, an object with `format` {FORMAT!r}."
      )
    if read["version"] > VERSION:
      raise ValueError(
        f"`from_json` knows the format up to version {VERSION}, but this report is of version "
        f"{read['version']}. Read it with a newer kinkopt."
      )
    leaves = tuple(map(_leaf, read["leaves"]))
    names = ("skipped", "blame", "ties", "cuts", "opaque", "approximations", "seed")
    lists = {name: tuple(read.get(name, ())) for name in names}
    through = read.get("through_stop_gradient", False)
    sources = tuple(_record(Source, source) for source in read.get("sources", ()))
    return cls(
      leaves,
      **lists,
      evaluations=read["evaluations"],
      through_stop_gradient=through,
      sources=sources,
      is_complete=read.get("is_complete", True),
    )


def _shape(leaf: LeafReport) -> str:
  return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _badness(leaf: LeafReport) -> tuple[int, float]:
  # What passed differs by rounding only.
  error = 0.0 if leaf.verdict.is_pass else float(np.nan_to_num(leaf.relative_error))
  return _severity(leaf.verdict), error


def _severity(verdict: Verdict) -> int:
  """Ranks what is known to be wrong above what is not known."""
  order = list(Verdict)
  return -1 if verdict is Verdict.UNDECIDED else order.index(verdict) - verdict.is_pass * len(order)


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _finite(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(item) for item in value]
  if isinstance(value, float) and not np.isfinite(value):
    return {"float": str(value)}
  return value


def _leaf(read: dict[str, Any]) -> LeafReport:
  kinds = {"errors": ErrorMap, "curve": StepCurve}
  pictures = {name: _record(kind, read[name]) for name, kind in kinds.items() if read.get(name)}
  return _record(LeafReport, {**read, "verdict": Verdict[read["verdict"]], **pictures})


def _record(kind: type, read: dict[str, Any]) -> Any:
  known = {field.name for field in dataclasses.fields(kind)}
  fields: dict[str, Any] = {name: _read(value) for name, value in read.items() if name in known}
  return kind(**fields)


def _read(value: Any) -> Any:
  if isinstance(value, list):
    return tuple(map(_read, value))
  return float(value["float"]) if isinstance(value, dict) else value
