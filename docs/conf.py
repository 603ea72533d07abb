"""How the pages are built: `pip install -e ".[docs]" && sphinx-build -W -b html docs docs/_build`.

Sphinx with MyST, as JAX's and Optax's own pages: their objects can then be linked to, and notebooks
are shown as they were run.
"""

import pathlib
import re
import shutil

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import kinkopt

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent

project = "kinkopt"
author = "The kinkopt authors"
copyright = "The kinkopt authors, Apache-2.0"  # noqa: A001, Sphinx's name
version = release = kinkopt.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"kinkopt {version}"
html_math_renderer = "mathml"  # which browsers read themselves: the pages need no network
exclude_patterns = ["_build", "first_check"]
suppress_warnings = ["mystnb.unknown_mime_type"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # they are committed as they ran, and run by a gate of their own

default_role = "code"
autodoc_typehints = "none"  # the docstrings say more
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Numerics", "Differs from Optax", "Differs from JAX", "Units"]

# What stands elsewhere in the repository, and is a page here: the notebooks and the measurements.
COPIED = (("notebooks", "*.ipynb"), ("benchmarks", "*.md"), ("benchmarks/results", "*.png"))
for folder, pattern in COPIED:
  (HERE / "_copied" / folder).mkdir(parents=True, exist_ok=True)
  for path in sorted((ROOT / folder).glob(pattern)):
    shutil.copy(path, HERE / "_copied" / folder)


def _escape(app, what, name, obj, options, lines: list[str]) -> None:
  """Lets bars and stars of formulas, which reStructuredText has other uses for, be themselves."""
  in_code = False
  for i, line in enumerate(lines):
    stripped = line.strip()
    in_code = (in_code or stripped.startswith(">>>")) and bool(stripped)
    if in_code or stripped.startswith(("|", "===", ".. ")):
      continue
    parts = re.split(r"(`[^`]*`)", line)
    parts[::2] = [re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts[::2]]
    lines[i] = "".join(parts)


def _write_math(translator, node) -> None:
  translator.body.append(tex2mathml(node.astext(), as_block=False))
  raise nodes.SkipNode


def _write_math_block(translator, node) -> None:
  # The room is for tall fractions, which would get a scroll bar of the theme.
  math = tex2mathml(node.astext(), as_block=True)
  translator.body.append(f'<div class="math" style="padding: 0.5em 0">{math}</div>')
  raise nodes.SkipNode


def setup(app) -> None:
  """Called by Sphinx; before the docstring's sections are read."""
  app.connect("autodoc-process-docstring", _escape, priority=100)
  app.add_html_math_renderer("mathml", (_write_math, None), (_write_math_block, None))
