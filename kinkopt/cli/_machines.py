"""A gradient report for machines that run tests: JUnit's XML, and the annotations of GitHub."""

import os
from pathlib import Path
from xml.etree import ElementTree

from kinkopt.gradcheck import GradientReport, LeafReport, Verdict
from kinkopt.render import to_text


def to_junit(report: GradientReport, name: str) -> str:
  """Writes a report as a JUnit test-suite, one test case for each leaf.

  What is wrong is a failure, what is undecided an error, and a leaf without a gradient skipped.

  Args:
    report: the report.
    name: of what was checked.
  """
  wrong = sum(_is_wrong(leaf) for leaf in report.leaves)
  undecided = sum(leaf.verdict is Verdict.UNDECIDED for leaf in report.leaves)
  suite = ElementTree.Element(
    "testsuite",
    name=f"kinkopt check {name}",
    tests=str(len(report.leaves) + len(report.skipped)),
    failures=str(wrong),
    errors=str(undecided),
    skipped=str(len(report.skipped)),
  )
  whole = to_text(report.to_document(), width=100)
  for leaf in report.leaves:
    case = ElementTree.SubElement(suite, "testcase", classname=name, name=leaf.label)
    if not leaf.verdict.is_pass:
      kind = "failure" if _is_wrong(leaf) else "error"
      about = {"type": leaf.verdict.name, "message": _sentence(leaf)}
      ElementTree.SubElement(case, kind, about).text = whole
  for skipped in report.skipped:
    case = ElementTree.SubElement(suite, "testcase", classname=name, name=skipped)
    ElementTree.SubElement(case, "skipped", message="It has no gradient.")
  ElementTree.indent(suite)
  return "<?xml version='1.0' encoding='utf-8'?>\n" + ElementTree.tostring(suite, "unicode")


def to_github(report: GradientReport, name: str, file: str, line: int) -> str:
  """Writes a report as workflow commands, which GitHub shows beside the lines that they name.

  Each rule to blame is annotated where it is written, and each leaf that did not pass where the
  function begins.

  Args:
    report: the report.
    name: of what was checked.
    file: of the function; empty if nobody knows.
    line: where it begins.
  """
  why = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in report.blame)
  commands = [
    _command("error", source.file, source.line, f"{name}: {source.title.rstrip(':')}", why)
    for source in report.sources
    if source.is_wrong and why
  ]
  for leaf in report.leaves:
    if not leaf.verdict.is_pass:
      level = "error" if _is_wrong(leaf) else "warning"
      commands.append(_command(level, file, line, f"{name}: {leaf.label}", _sentence(leaf)))
  if not commands:
    passed = f"{len(report.leaves)} leaves: {report.verdict.value}"
    commands = [_command("notice", file, line, name, passed)]
  return "\n".join(commands)


def _is_wrong(leaf: LeafReport) -> bool:
  return not leaf.verdict.is_pass and leaf.verdict is not Verdict.UNDECIDED


def _sentence(leaf: LeafReport) -> str:
  return f"The gradient {leaf.detail}." if leaf.detail else leaf.verdict.value


def _command(level: str, file: str, line: int, title: str, message: str) -> str:
  place = f"file={_property(_relative(file))},line={max(line, 1)}," if file else ""
  return f"::{level} {place}title={_property(title)}::{_data(message)}"


def _relative(file: str) -> str:
  path = Path(file)
  return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else file


def _data(text: str) -> str:
  return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
  return _data(text).replace(":", "%3A").replace(",", "%2C")
