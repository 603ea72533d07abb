"""The printer for programs: JSON with a name and a version, and the way back.

One line holds one block, so that two reports can be compared line by line. JSON has no NaN and no
infinity, yet a diverged run must be told as it is: they are written as `{"float": "nan"}`. Fields
may be added under the same version; a field that is removed or changes its meaning raises it.
"""

import dataclasses
import enum
import json
import math
from typing import Any

from kinkopt.render._document import (
  Band,
  Chart,
  Code,
  Column,
  Document,
  Heading,
  HeatMap,
  Series,
  Table,
  Text,
  Tone,
)

FORMAT = "kinkopt.document"
VERSION = 1
_BLOCKS = {
  "heading": Heading,
  "text": Text,
  "table": Table,
  "chart": Chart,
  "code": Code,
  "heat_map": HeatMap,
}
_KINDS = {block: kind for kind, block in _BLOCKS.items()}
# The fields that hold other records.
_PARTS = {"columns": Column, "series": Series, "bands": Band}


def to_json(document: Document) -> str:
  """Writes a Document as JSON.

  Args:
    document: what to write.

  Returns:
    A JSON object with the fields `format`, `version`, `title` and `blocks`, one block to a line,
    without a newline at its end. Every float reads back as the same float.

  Example:
    >>> from kinkopt.render import Document, Text, to_json
    >>> print(to_json(Document("Report", (Text("All is well."),))))
    {
    "format": "kinkopt.document",
    "version": 1,
    "title": "Report",
    "blocks": [
    {"kind": "text", "text": "All is well.", "tone": "plain"}
    ]
    }
  """
  blocks = ",\n".join(
    _dumps({"kind": _KINDS[type(block)], **_encode(block)}) for block in document.blocks
  )
  return (
    f'{{\n"format": {_dumps(FORMAT)},\n"version": {VERSION},\n"title": {_dumps(document.title)},\n'
    f'"blocks": [\n{blocks}\n]\n}}'
  )


def from_json(text: str) -> Document:
  """Reads a Document that `to_json` wrote.

  Args:
    text: the JSON.

  Returns:
    A Document equal to the one written.

  Raises:
    ValueError: if it is not JSON, not a kinkopt Document, or one of a newer version.
  """
  read = json.loads(text)
  if not isinstance(read, dict) or read.get("format") != FORMAT:
    found = read.get("format") if isinstance(read, dict) else type(read).__name__
    raise ValueError(
      f"`from_json` reads what `to_json` wrote, an object with `format` {FORMAT!r}, but found "
      f"{found!r}."
    )
  if read["version"] > VERSION:
    raise ValueError(
      f"`from_json` knows the Document format up to version {VERSION}, but this one is of version "
      f"{read['version']}. Read it with a newer kinkopt."
    )
  return Document(
    title=read["title"],
    blocks=tuple(_decode_record(_BLOCKS[block["kind"]], block) for block in read["blocks"]),
  )


def _dumps(value: Any) -> str:
  return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _encode(value: Any) -> Any:
  if dataclasses.is_dataclass(value):
    return {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
  if isinstance(value, tuple):
    return [_encode(item) for item in value]
  if isinstance(value, enum.Enum):
    return value.value
  if isinstance(value, float) and not math.isfinite(value):
    return {"float": str(value)}
  return value


def _decode_record(record: type, read: dict[str, Any]) -> Any:
  names = {field.name for field in dataclasses.fields(record)}
  return record(**{name: _decode(name, value) for name, value in read.items() if name in names})


def _decode(name: str, value: Any) -> Any:
  if isinstance(value, list):
    if name in _PARTS:
      return tuple(_decode_record(_PARTS[name], item) for item in value)
    return tuple(_decode(name, item) for item in value)
  if isinstance(value, dict):
    return float(value["float"])
  if name in ("tone", "tones"):
    return Tone(value)
  return value
