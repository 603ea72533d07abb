import json

import pytest

from kinkopt.render import Column, Document, Table, from_json, to_json


def _same(document: Document, other: Document) -> bool:
  return repr(document) == repr(other)  # NaN is not equal to itself, but prints alike


def test_a_document_comes_back_as_it_was(document):
  assert _same(from_json(to_json(document)), document)


def test_the_comparison_of_documents_can_fail(document):
  assert not _same(from_json(to_json(document)), Document("A report", document.blocks[:-1]))


def test_the_text_is_strict_json_with_a_name_and_a_version(document):
  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")

  read = json.loads(to_json(document), parse_constant=refuse)
  assert list(read) == ["format", "version", "title", "blocks"]
  assert (read["format"], read["version"]) == ("kinkopt.document", 1)
  assert [block["kind"] for block in read["blocks"]] == [
    *("heading", "text", "table", "chart", "heat_map", "code")
  ]


def test_version_1_is_read_for_ever():
  # Written by version 1; a change of this text is a change of the format.
  written = """{"format": "kinkopt.document", "version": 1, "title": "T", "blocks": [
    {"kind": "heading", "text": "H"},
    {"kind": "text", "text": "x", "tone": "good", "a later field": 1},
    {"kind": "table", "columns": [{"title": "a", "format": ".1f"}], "rows": [[{"float": "-inf"}]],
     "caption": "", "tones": ["bad"]},
    {"kind": "chart", "title": "c", "x_label": "x", "y_label": "y", "log_x": false, "log_y": true,
     "series": [{"label": "s", "x": [0.0], "y": [0.1]}],
     "bands": [{"low": 0.0, "high": 1.0, "label": "b"}]}]}"""
  document = from_json(written)
  assert _same(from_json(to_json(document)), document)
  assert document.blocks[2].rows == ((float("-inf"),),)
  assert document.blocks[3].bands[0].high == 1.0


def test_every_float_keeps_all_its_digits():
  value = 0.1 + 0.2
  document = Document("", (Table((Column("x", ".1f"),), ((value,),)),))
  assert from_json(to_json(document)).blocks[0].rows[0][0] == value


def test_one_line_holds_one_block(document):
  lines = to_json(document).splitlines()
  assert len(lines) == len(document.blocks) + 7  # the braces, three fields, and the list's ends
  assert [line for line in lines if '"kind": "table"' in line]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("[]", r"object with `format` 'kinkopt.document', but found 'list'"),
    ("{}", r"but found None"),
    ('{"format": "other"}', r"but found 'other'"),
    (
      '{"format": "kinkopt.document", "version": 2}',
      r"up to version 1, but this one is of version 2",
    ),
  ],
)
def test_what_is_no_document_is_refused(text, message):
  with pytest.raises(ValueError, match=message):
    from_json(text)
