"""The looks and the sorting of the HTML printer, as text that goes into what it prints.

Every selector names `.kinkopt-report`, so that in a notebook no rule reaches beyond the report, and
most are as specific as those by which notebooks dress any table. `light-dark` follows the reader's
system, except where the notebook says which theme it is in; ink and paper are always set together.
"""

STYLE = """\
.kinkopt-report {
  color-scheme: light dark;
  --ink: light-dark(#1b1f24, #e6edf3);
  --faint: light-dark(#59636e, #9aa4af);
  --paper: light-dark(#ffffff, #14171c);
  --rule: light-dark(#d1d9e0, #3a424c);
  --code: light-dark(#eef0f3, #262c34);
  --good: light-dark(#1a7f37, #4ac26b);
  --warn: light-dark(#8a5a00, #dba32f);
  --bad: light-dark(#c11c28, #ff7b72);
  background: var(--paper); color: var(--ink); padding: 1em;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
[data-jp-theme-light="true"] .kinkopt-report, .vscode-light .kinkopt-report { color-scheme: light; }
[data-jp-theme-light="false"] .kinkopt-report, .vscode-dark .kinkopt-report { color-scheme: dark; }
.kinkopt-report h1, .kinkopt-report h3 { font-size: 1.6em; line-height: 1.2; margin: 0 0 .6em; }
.kinkopt-report h2, .kinkopt-report h4 { font-size: 1.2em; line-height: 1.3; margin: 1.6em 0 .6em; }
.kinkopt-report p { margin: .6em 0; max-width: 75ch; overflow-wrap: anywhere; }
.kinkopt-report code {
  background: var(--code); color: inherit; border-radius: 4px; padding: .1em .3em;
  font: .9em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
.kinkopt-report [data-tone="good"] { --tone: var(--good); }
.kinkopt-report [data-tone="warn"] { --tone: var(--warn); }
.kinkopt-report [data-tone="bad"] { --tone: var(--bad); }
.kinkopt-report [data-tone="faint"] { color: var(--faint); }
.kinkopt-report p:is([data-tone="good"], [data-tone="warn"], [data-tone="bad"]) {
  border-left: 3px solid var(--tone); padding-left: .7em;
}
.kinkopt-report .kinkopt-mark { color: var(--tone); font-weight: 700; }
.kinkopt-report p .kinkopt-mark { margin-right: .1em; }
.kinkopt-report figure { margin: 1.2em 0; }
.kinkopt-report figcaption { color: var(--faint); margin: .5em 0; max-width: 75ch; }
.kinkopt-report figcaption.kinkopt-title { color: inherit; font-weight: 600; }
.kinkopt-report .kinkopt-scroll { overflow-x: auto; }
.kinkopt-report table.kinkopt-rows { border-collapse: collapse; border: 0; margin: 0; }
.kinkopt-report .kinkopt-rows tr:is(tr, :hover) { background: none; }
.kinkopt-report .kinkopt-rows tr:is([data-tone="warn"], [data-tone="bad"]) {
  background: color-mix(in srgb, var(--tone) 9%, transparent);
}
.kinkopt-report .kinkopt-rows :is(th, td) {
  border: 0; border-bottom: 1px solid var(--rule); font-size: 1em; font-weight: 400;
  max-width: 60ch; overflow-wrap: break-word; padding: .35em .8em; text-align: left;
  vertical-align: baseline;
}
.kinkopt-report .kinkopt-rows thead th { border-bottom-width: 2px; font-weight: 600; }
.kinkopt-report .kinkopt-rows thead th, .kinkopt-report .kinkopt-rows th.kinkopt-number,
.kinkopt-report .kinkopt-rows td.kinkopt-number { white-space: nowrap; }
.kinkopt-report .kinkopt-rows .kinkopt-number:is(th, td) {
  font-variant-numeric: tabular-nums; text-align: right;
}
.kinkopt-report .kinkopt-rows button {
  all: unset; cursor: pointer; font: inherit; position: relative;
}
.kinkopt-report .kinkopt-rows button:focus-visible { outline: 2px solid; outline-offset: 3px; }
.kinkopt-report .kinkopt-rows button::after {
  content: "\\2195"; font-size: .8em; margin-left: .35em; opacity: .45;
}
.kinkopt-report .kinkopt-rows [aria-sort="ascending"] button::after {
  content: "\\25b2"; opacity: 1;
}
.kinkopt-report .kinkopt-rows [aria-sort="descending"] button::after {
  content: "\\25bc"; opacity: 1;
}
.kinkopt-report .kinkopt-unseen {
  clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; width: 1px;
}
.kinkopt-report pre.kinkopt-code {
  background: var(--code); border-radius: 4px; color: inherit; margin: 0; max-width: 100ch;
  padding: .6em 0; font: .9em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
  monospace;
}
.kinkopt-report .kinkopt-line { display: block; padding: 0 .8em; white-space: pre; }
.kinkopt-report .kinkopt-line .kinkopt-number {
  color: var(--faint); display: inline-block; min-width: 3.5ch; text-align: right;
  user-select: none;
}
.kinkopt-report .kinkopt-line[data-marked] {
  background: color-mix(in srgb, var(--tone, var(--faint)) 18%, transparent);
  box-shadow: inset 3px 0 var(--tone, var(--faint));
}
.kinkopt-report svg.kinkopt-chart {
  display: block; max-width: 760px; min-width: 480px; width: 100%;
}
.kinkopt-report svg.kinkopt-map rect { fill: var(--bad); }
.kinkopt-report svg.kinkopt-map .kinkopt-frame { fill: none; stroke: var(--rule); }
.kinkopt-report svg text { fill: currentColor; font-size: 13px; }
.kinkopt-report .kinkopt-grid { stroke: var(--rule); }
.kinkopt-report .kinkopt-band { fill: var(--good); opacity: .15; }
.kinkopt-report .kinkopt-curve { fill: none; stroke: currentColor; stroke-width: 2; }
.kinkopt-report .kinkopt-point { fill: currentColor; }
.kinkopt-report ul.kinkopt-legend {
  display: flex; flex-wrap: wrap; gap: .2em 1.4em; list-style: none; margin: .4em 0; padding: 0;
}
.kinkopt-report .kinkopt-legend svg { height: 10px; margin-right: .5em; width: 34px; }
"""

PAGE_STYLE = """\
:root { color-scheme: light dark; background: light-dark(#ffffff, #14171c); }
body { margin: 0; }
main.kinkopt-report { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; }
"""

# A notebook may run it once for each report that it shows, hence `:not(:has(button))`. The buttons
# are made here, so that a reader whose notebook runs no script meets none that does nothing.
# What is not known, NaN or nothing at all, goes last in either order; a third click brings back
# the order of the report, which is often worst first.
SCRIPT = """\
for (const th of document.querySelectorAll(
    ".kinkopt-report th[aria-sort]:not(:has(button))")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...th.childNodes);
  th.append(button);
  const table = th.closest("table"), body = table.tBodies[0], rows = [...body.rows];
  const isNumber = th.classList.contains("kinkopt-number");
  const read = (row) => row.cells[th.cellIndex];
  const number = (row) => Number(read(row).dataset.value);
  const compare = (sign) => (a, b) => isNumber
    ? isNaN(number(a)) - isNaN(number(b)) || sign * (number(a) - number(b))
    : sign * read(a).textContent.localeCompare(read(b).textContent, "en", { numeric: true });
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  button.addEventListener("click", () => {
    const order = next[th.getAttribute("aria-sort")];
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    th.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    body.append(...(order === "none" ? rows : [...rows].sort(compare(sign))));
  });
}
"""
