import html.parser
import math
import re

import pytest

from kinkopt.gradcheck import Verdict
from kinkopt.gradcheck._report import GradientReport, LeafReport
from kinkopt.render import (
  Chart,
  Column,
  Document,
  Heading,
  HeatMap,
  Series,
  Table,
  Text,
  Tone,
  to_html,
  to_html_fragment,
)

VOID = {"meta"}


class _Page(html.parser.HTMLParser):
  """Reads a page strictly: every tag that opens must close, in order."""

  def __init__(self, markup: str):
    super().__init__(convert_charrefs=True)
    self.elements: list[tuple[str, dict]] = []
    self.texts: dict[str, list[str]] = {}
    self._open: list[str] = []
    self.feed(markup)
    self.close()
    assert self._open == []

  def handle_starttag(self, tag, attrs):
    assert len(dict(attrs)) == len(attrs), f"an attribute is twice in {tag}"
    self.elements.append((tag, dict(attrs)))
    if tag not in VOID:
      self._open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    if self._open:
      self.texts.setdefault(self._open[-1], []).append(data)

  def all(self, tag: str) -> list[dict]:
    return [attributes for name, attributes in self.elements if name == tag]


def _body(markup: str) -> str:
  return re.sub(r"<(style|script)>.*?</\1>", "", markup, flags=re.DOTALL)


@pytest.fixture(params=[to_html, to_html_fragment])
def write(request):
  return request.param


def test_every_tag_closes_in_order(write, document):
  _Page(write(document))


@pytest.mark.parametrize("markup", ["<p>", "<p><b></p></b>", "<p></p></p>", '<p id="" id=""></p>'])
def test_the_strict_reader_can_fail(markup):
  with pytest.raises((AssertionError, IndexError)):
    _Page(markup)


def test_every_kind_of_block_is_printed(write, document):
  page = _Page(write(document))
  title, heading = ("h1", "h2") if write is to_html else ("h3", "h4")
  assert page.texts[title] == ["A report"]
  assert page.texts[heading] == ["What was seen"]
  assert "A paragraph that goes on for so long" in "".join(page.texts["p"])
  assert page.texts["th"] == [
    *("rule", "loss", "share", "ok", "n", "sgd", "a rule [with] brackets", "diverged"),
  ]
  assert [text for text in page.texts["td"] if text.strip()] == [
    *("0.100", "50%", "yes", "400", "12.346", "-", "no", "-", "nan", "inf%", "-", "7"),
  ]
  captions = "".join(page.texts["figcaption"])
  assert "The caption is a sentence" in captions
  assert "Losses" in captions
  assert len([svg for svg in page.all("svg") if svg.get("role") == "img"]) == 2
  lines = [span for span in page.all("span") if span.get("class") == "kinkopt-line"]
  assert ["data-marked" in line for line in lines] == [False, True, False]
  assert "   return x < 1 and [x]" in page.texts["span"]


def test_a_heat_map_is_darker_where_errors_are_larger_and_tells_them():
  heat_map = HeatMap("`['w']`", ((0.0, 1.0, 1e-7), (1e-3, math.inf, 1e-6)), (3, 2))
  page = _Page(to_html_fragment(heat_map))
  cells = [rect for rect in page.all("rect") if "fill-opacity" in rect]
  assert page.texts["title"] == [
    "[0, 2]: 1.0e+00",
    "[3, 0]: 1.0e-03",
    "[3, 2]: inf",
    "[3, 4]: 1.0e-06",
  ]
  assert [cell["fill-opacity"] for cell in cells] == ["1.00", "0.50", "1.00", "0.05"]
  assert (cells[1]["x"], cells[1]["y"]) == ("0", cells[0]["width"])
  (svg,) = (svg for svg in page.all("svg") if svg.get("role") == "img")
  assert svg["aria-label"] == "4 of 6 cells are off, the worst by 1.0e+00"
  assert "['w']" in page.texts["code"]
  row = _Page(to_html_fragment(HeatMap("", ((0.5, 0.0, 0.25),))))
  assert row.texts["title"] == ["[0]: 5.0e-01", "[2]: 2.5e-01"]


def test_a_block_alone_is_a_fragment():
  assert _Page(to_html_fragment(Heading("Only"))).texts["h3"] == ["Only"]


def test_nothing_prints_as_a_page_with_a_name():
  page = _Page(to_html(Document("")))
  assert page.texts["title"] == ["kinkopt"]
  assert page.all("h1") == []


NASTY = '<script>alert("x")</script>&amp;\'`<b>`'


def test_every_text_is_escaped(write):
  document = Document(
    NASTY,
    (
      Heading(NASTY),
      Text(NASTY, Tone.BAD),
      Table((Column(NASTY), Column("n")), ((NASTY, 1),), caption=NASTY, tones=(Tone.BAD,)),
      Chart(NASTY, NASTY, NASTY, (Series(NASTY, (0.0,), (1.0,)), Series(NASTY, (), ()))),
    ),
  )
  written = write(document)
  assert len(re.findall("<script", written)) == 1, "our own"
  assert "<b>" not in written
  page = _Page(_body(written))
  places = {
    tag: "".join(texts).count('<script>alert("x")</script>&amp;\'')
    for tag, texts in page.texts.items()
  }
  seen = {tag: count for tag, count in places.items() if count}
  title, heading = ("h1", "h2") if write is to_html else ("h3", "h4")
  expected = {title: 1, heading: 1, "p": 1, "th": 2, "figcaption": 2, "text": 2, "li": 2}
  assert seen == expected | ({"title": 1} if write is to_html else {})
  assert page.texts["code"].count("<b>") == 5, "in both titles, the heading, the text, the caption"


def test_words_in_backticks_are_code():
  page = _Page(to_html_fragment(Text("`['w']` is wrong, one ` alone is not, ``nor`` is that.")))
  assert page.texts["code"][0] == "['w']"


def test_a_page_asks_for_nothing_from_elsewhere(write, document):
  written = write(document)
  assert (
    re.search(r"https?:|//\w|url\(|@import|\bsrc=|\bhref=|\bfetch\(", _without_prose(written))
    is None
  )


def _without_prose(markup: str) -> str:
  return re.sub(r">[^<]*(?=<)", ">", _body(markup)) + "".join(
    re.findall(r"<(?:style|script)>(.*?)</", markup, flags=re.DOTALL)
  )


@pytest.mark.parametrize(
  ("tone", "mark"), [(Tone.GOOD, "✓"), (Tone.WARN, "!"), (Tone.BAD, "✗")], ids=str
)
def test_a_tone_is_a_colour_and_a_mark_and_a_word(tone, mark, write):
  table = Table((Column("leaf"),), (("w",),), tones=(tone,))
  page = _Page(write(Document("", (Text("news", tone), table))))
  assert page.all("p")[0]["data-tone"] == tone.value
  assert page.all("tr")[1]["data-tone"] == tone.value
  labels = [span["aria-label"] for span in page.all("span") if "kinkopt-mark" in span["class"]]
  assert labels == [tone.value, tone.value]
  assert page.texts["span"].count(mark) == 2
  assert f'[data-tone="{tone.value}"] {{ --tone: var(--{tone.value}); }}' in write(Document(""))


@pytest.mark.parametrize("tone", [Tone.PLAIN, Tone.FAINT])
def test_what_is_neither_good_nor_bad_has_no_mark(tone):
  table = Table((Column("leaf"),), (("w",),), tones=(tone,))
  page = _Page(to_html(Document("", (Text("news", tone), table))))
  assert page.all("span") == []
  assert page.all("p")[0].get("data-tone") == (None if tone is Tone.PLAIN else "faint")


def test_heads_can_be_sorted_by_and_numbers_carry_all_their_digits(document):
  page = _Page(to_html(document))
  heads = [head for head in page.all("th") if head["scope"] == "col"]
  assert [head["aria-sort"] for head in heads] == ["none"] * 6
  assert [head.get("class") for head in heads] == [
    *("kinkopt-number", None, "kinkopt-number", "kinkopt-number", None, "kinkopt-number"),
  ]
  numbers = [cell for cell in page.all("td") if cell.get("class") == "kinkopt-number"]
  # `Number` of JavaScript must read them: it knows neither "inf" nor "nan", and takes both for NaN.
  assert [cell.get("data-value") for cell in numbers] == [
    *("0.1", "0.5", "400", "12.3456", None, None, "nan", "Infinity", "7"),
  ]


def test_marks_sort_from_good_to_bad_and_rows_without_one_last():
  tones = (Tone.BAD, Tone.PLAIN, Tone.GOOD, Tone.WARN)
  table = Table((Column("leaf"),), (("a",), ("b",), ("c",), ("d",)), tones=tones)
  marks = _Page(to_html_fragment(table)).all("td")
  assert [mark.get("data-value") for mark in marks] == ["2", None, "0", "1"]


def test_the_script_looks_for_what_is_written(document):
  script = re.search("<script>(.*)</script>", to_html(document), re.DOTALL)[1]
  for word in (".kinkopt-report th[aria-sort]", '"kinkopt-number"', "dataset.value"):
    assert word in script


def test_numbers_line_up_and_wide_tables_scroll_in_their_own_box(write, document):
  style = re.search("<style>(.*)</style>", write(document), re.DOTALL)[1]
  assert re.search(r"kinkopt-number[^}]*tabular-nums; text-align: right", style)
  assert re.search(r"kinkopt-scroll { overflow-x: auto; }", style)
  boxes = [box for box in _Page(write(document)).all("div") if box["class"] == "kinkopt-scroll"]
  assert [(box["tabindex"], bool(box["aria-label"])) for box in boxes] == [("0", True)] * 3


def test_light_and_dark_follow_the_system_and_the_notebook(write, document):
  style = re.search("<style>(.*)</style>", write(document), re.DOTALL)[1]
  assert ".kinkopt-report {\n  color-scheme: light dark;" in style
  assert re.search(
    r'\[data-jp-theme-light="false"\] .kinkopt-report,[^}]*color-scheme: dark', style
  )
  for name in ("ink", "paper", "good", "warn", "bad"):
    assert re.search(rf"--{name}: light-dark\(#\w+, #\w+\);", style)


def test_no_rule_of_a_fragment_reaches_beyond_it(document):
  style = re.search("<style>(.*)</style>", to_html_fragment(document), re.DOTALL)[1]
  selectors = re.findall(r"([^{}]+){[^}]*}", style)
  assert len(selectors) > 20
  # A comma inside `:is(...)` parts no selectors.
  parts = [part for text in selectors for part in re.split(r",(?![^(]*\))", text)]
  assert [part.strip() for part in parts if ".kinkopt-report" not in part] == []


def test_a_fragment_is_one_element_and_no_page(document):
  fragment = to_html_fragment(document)
  assert fragment.startswith('<div class="kinkopt-report">')
  assert fragment.endswith("</div>")
  page = _Page(fragment)
  assert {"html", "head", "body", "main", "h1", "h2"}.isdisjoint(tag for tag, _ in page.elements)
  assert [attributes for _, attributes in page.elements if "id" in attributes] == []


def test_a_notebook_shows_a_gradient_report():
  leaf = LeafReport("<script>", (2,), "float32", Verdict.WRONG, 1.0, math.nan, 3.0, "is doubled")
  page = _Page(GradientReport((leaf,))._repr_html_())
  assert "<script>" in page.texts["th"]
  assert page.texts["code"] == ["<script>"]
  assert [row.get("data-tone") for row in page.all("tr")] == [None, "bad"]
