"""In which form a report is given, and to whom: a terminal, a file, or a machine."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from kinkopt.cli._errors import UsageError
from kinkopt.render import Document, MissingExtraError, to_html, to_json, to_rich, to_text
from kinkopt.render._optional import require

_BY_ENDING = {".html": "html", ".htm": "html", ".json": "json", ".xml": "junit", ".txt": "plain"}
_WIDTH = 100  # where no terminal says how wide it is
_PURPOSE = "Coloured reports"


def choose_form(asked: str | None, output: Path | None, known: tuple[str, ...]) -> str:
  """Decides how a report will be written, and looks whether it can be, before a long job.

  Args:
    asked: the form that was asked for.
    output: the file to write; None for standard output alone.
    known: the forms that there are.

  Raises:
    UsageError: if the file cannot be written, its ending says nothing, or rich is missing.
  """
  if output is None:
    form = asked or _form_of_screen()
  else:
    form = asked or _BY_ENDING.get(output.suffix.lower(), "")
    _check_output(output)
  if form not in known:
    raise UsageError(
      f"the ending of {output} says nothing about its format. Add `--format`, one of "
      f"{', '.join(known)}."
    )
  if form == "rich":
    try:
      require("rich.console", _PURPOSE)
    except MissingExtraError as error:
      raise UsageError(str(error)) from error
  return form


def deliver(
  document: Document, write: Callable[[str], str], form: str, output: Path | None
) -> None:
  """Prints a report, and writes it if a file was named.

  Args:
    document: what a person reads on the screen where the report goes into a file.
    write: gives the report in a form.
    form: which.
    output: the file; None for standard output.

  Raises:
    UsageError: if the file cannot be written.
  """
  if output is None:
    print(write(form))
    return
  try:
    output.write_text(write(form) + "\n", encoding="utf-8")
  except OSError as error:
    raise UsageError(f"cannot write {output}: {error.strerror or error}.") from error
  print(write_document(document, _form_of_screen()))


def write_document(document: Document, form: str) -> str:
  """Writes a Document in one of the forms that any has."""
  forms = {"html": to_html, "json": to_json, "rich": _in_colour}
  return forms[form](document) if form in forms else to_text(document, width=_WIDTH)


def _check_output(path: Path) -> None:
  folder = path.parent
  if path.is_dir():
    raise UsageError(f"cannot write {path}: it is a folder. Name a file in it.")
  if not folder.is_dir():
    raise UsageError(f"cannot write {path}: there is no folder {folder}. Make it first.")
  if not os.access(path if path.exists() else folder, os.W_OK):
    raise UsageError(f"cannot write {path}: you may not. Name another file.")


def _form_of_screen() -> str:
  if not sys.stdout.isatty():
    return "plain"
  try:
    require("rich.console", _PURPOSE)
  except MissingExtraError:
    return "plain"
  return "rich"


def _in_colour(document: Document) -> str:
  """Prints a Document as for a terminal; rich leaves the colours out if `NO_COLOR` is set."""
  width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH
  console = require("rich.console", _PURPOSE).Console(
    force_terminal=True, highlight=False, width=width
  )
  with console.capture() as captured:
    console.print(to_rich(document))
  return captured.get().rstrip("\n")
