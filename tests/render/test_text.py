import pytest

from kinkopt.render import Chart, Column, Document, Heading, Table, Text, to_text

GOLDEN = """\
A report
========

What was seen
-------------

A paragraph that goes on for so long that
it has to be broken somewhere.

rule                      loss  share  ok     n
-----------------------------------------------
sgd                      0.100    50%  yes  400
a rule [with] brackets  12.346      -  no     -
diverged                   nan   inf%  -      7

The caption is a sentence that is long
enough to need a second line of its own.

Losses (loss [nats] against step)
  sgd    2 -> 0.5, 3 points
  lost   2 -> inf, 2 points
  empty  -

`[rule]` in model.py
   9 | def rule(x):
> 10 |   return x < 1 and [x]
  11 |"""


def test_a_document_prints_as_aligned_text(document):
  assert to_text(document, width=42) == GOLDEN


def test_no_line_ends_in_blanks(document):
  assert [line for line in to_text(document).splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize(
  ("block", "text"),
  [
    (Document(""), ""),
    (Document("", (Text("alone"),)), "alone"),
    (Heading("Only"), "Only\n----"),
    (Table((Column("empty"),), ()), "empty\n-----"),
    (Chart("Nothing", "x", "y", ()), "Nothing (y against x)"),
  ],
)
def test_little_prints_as_little(block, text):
  assert to_text(block) == text


def test_a_long_word_is_kept_whole_so_that_it_can_be_copied():
  path = "/a/path/that/is/longer/than-the-line"
  assert path in to_text(Text(f"Written to {path}."), width=20)
