"""The plan of the house, held by tests: who may import whom, how big, how documented, how run.

The files are read as syntax trees, so a rule holds for code that no test runs. A name in the plan
below is all that a new wing adds here.
"""

import ast
import enum
import importlib
import inspect
import json
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "kinkopt"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Files at the top whose names begin with an underscore are ground, too.
GROUND = {"render", "data", "trace"}
WINGS = {"kinks", "gradcheck", "rules", "schedules", "newton", "monitor", "flat"}
ROOF = {"cli", "testing", "_pytest", "__main__"}
ALLOWED_BETWEEN_WINGS = {("gradcheck", "kinks"), ("monitor", "flat")}

FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}


def _id(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT))


def _wings() -> list[str]:
  return sorted(wing for wing in WINGS if any(PACKAGE.glob(f"{wing}*")))


def _public(kind) -> list[tuple[str, str]]:
  modules = {wing: importlib.import_module(f"kinkopt.{wing}") for wing in _wings()}
  return [
    (wing, name)
    for wing, module in modules.items()
    for name in getattr(module, "__all__", [])
    if kind(getattr(module, name, None))
  ]


each_file = pytest.mark.parametrize("path", FILES, ids=_id)
each_function = pytest.mark.parametrize(("wing", "name"), _public(inspect.isfunction))
each_class = pytest.mark.parametrize(("wing", "name"), _public(inspect.isclass))


def _module_name(path: pathlib.Path) -> str:
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _unit(module: str) -> str:
  """The part of the house that a module of kinkopt belongs to; "" is the front door."""
  return module.partition(".")[2].partition(".")[0]


def _imports(path: pathlib.Path) -> list[tuple[str, ast.stmt]]:
  """Every imported module, with its statement; `from kinkopt import rules` is kinkopt.rules."""
  package = _module_name(path).split(".")
  if path.name != "__init__.py":
    package = package[:-1]
  found = []
  for node in ast.walk(TREES[path]):
    if isinstance(node, ast.Import):
      found += [(alias.name, node) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      origin = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
      origin = ".".join(filter(None, [origin, node.module]))
      for alias in node.names:
        inner = f"{origin}.{alias.name}"
        is_module = (ROOT / inner.replace(".", "/")).with_suffix(".py").exists()
        is_package = (ROOT / inner.replace(".", "/")).is_dir()
        found.append((inner if is_module or is_package else origin, node))
  return found


def _is_ground(unit: str) -> bool:
  return unit in GROUND or (unit.startswith("_") and unit not in ROOF)


def _may_import(importer: str, imported: str) -> bool:
  if importer == imported or importer in ROOF:
    return True
  if importer == "":
    return imported not in ROOF
  if _is_ground(imported):
    return True
  return (importer, imported) in ALLOWED_BETWEEN_WINGS


@each_file
def test_a_file_has_a_place_in_the_plan_and_imports_only_what_lies_below(path):
  unit = _unit(_module_name(path))
  assert unit == "" or _is_ground(unit) or unit in WINGS | ROOF, f"{unit} is not in the plan"
  too_high = [
    f"line {node.lineno}: {module}"
    for module, node in _imports(path)
    if module.split(".")[0] == "kinkopt" and not _may_import(unit, _unit(module))
  ]
  assert not too_high


def test_the_layering_rule_tells_right_from_wrong():
  assert _may_import("rules", "_checks")
  assert _may_import("monitor", "render")
  assert _may_import("gradcheck", "kinks")
  assert not _may_import("kinks", "gradcheck")
  assert not _may_import("rules", "schedules")
  assert not _may_import("_checks", "rules")
  assert not _may_import("render", "monitor")
  assert not _may_import("newton", "cli")
  assert not _may_import("", "cli")
  assert not _may_import("rules", "")  # the front door would be a circle


@each_file
def test_only_one_file_looks_into_jax(path):
  if path == PACKAGE / "_jax.py":
    return
  private = re.compile(r"jax\.(_src|extend)\b|optax\._src\b")
  imported = [module for module, _ in _imports(path) if private.match(module)]
  spelled = [ast.unparse(node) for node in ast.walk(TREES[path]) if isinstance(node, ast.Attribute)]
  assert imported + list(filter(private.fullmatch, spelled)) == []


@each_file
def test_third_party_imports_are_declared_and_optional_ones_stay_behind_their_extra(path):
  def distributions(requirements):
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}

  declared = distributions(PYPROJECT["project"]["dependencies"])
  extras = PYPROJECT["project"]["optional-dependencies"]
  # kinkopt.testing is for those who have pytest.
  optional = distributions(extras["cli"]) | distributions(extras["sparse"]) | {"pytest"}
  deferred = {
    id(node)
    for function in ast.walk(TREES[path])
    if isinstance(function, ast.FunctionDef)
    for node in ast.walk(function)
  }
  for module, node in _imports(path):
    top = module.split(".")[0]
    if top in optional:
      is_guarded = id(node) in deferred or _unit(_module_name(path)) in ROOF
      assert is_guarded, f"line {node.lineno}: {module} must not be needed to import kinkopt"
    else:
      assert top in declared | {"kinkopt"} | sys.stdlib_module_names, (
        f"line {node.lineno}: {module}"
      )
      is_free = id(node) not in deferred or _unit(_module_name(path)) in {"cli", "_pytest"}
      assert is_free, f"line {node.lineno}: {module} is imported inside a function"


@each_file
def test_a_file_on_a_shelf_has_an_underscore(path):
  folders = path.relative_to(PACKAGE).parts[:-1]
  on_shelf = folders and not folders[-1].startswith("_")
  assert not on_shelf or path.name.startswith("_")


@each_file
def test_files_and_functions_are_small(path):
  lines = path.read_text().splitlines()
  assert len(lines) <= 300
  if path.name == "__init__.py":
    assert len(lines) <= (30 if path.parent.name in WINGS else 40)
  for node in ast.walk(TREES[path]):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      first = node.body[0]
      has_docstring = ast.get_docstring(node) is not None
      docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
      # A transform holds its `init` and `update`, hence more than a plain function's 40.
      assert node.end_lineno - node.lineno + 1 - docstring <= 60, node.name


@each_file
def test_a_file_opens_with_its_idea_and_an_init_computes_nothing(path):
  if path.name == "_version.py":
    return
  assert ast.get_docstring(TREES[path])
  if path.name == "__init__.py":
    for node in TREES[path].body[1:]:
      is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
      for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
      is_import = isinstance(node, ast.Import | ast.ImportFrom)
      assert is_all or for_types or is_import, ast.unparse(node)


@each_file
def test_annotations_of_transforms_are_objects(path):
  # Optax's schedule test and `inject_hyperparams` read them, and skip strings in silence.
  if "GradientTransformation" in path.read_text():
    assert "__future__" not in [module for module, _ in _imports(path)]


@pytest.mark.parametrize("wing", _wings())
def test_a_wing_hands_out_what_it_says_and_the_front_door_hands_out_the_wing(wing):
  import kinkopt

  module = importlib.import_module(f"kinkopt.{wing}")
  assert wing in kinkopt.__all__
  assert module.__all__, f"kinkopt.{wing} hands out nothing"
  assert sorted(set(module.__all__)) == sorted(module.__all__)
  assert [name for name in module.__all__ if not hasattr(module, name)] == []


def _sections(docstring: str) -> dict[str, str]:
  """Google sections by their heading; the text before the first one is under ""."""
  parts = re.split(r"^(\w[\w ]*):\n(?=[ \n])", inspect.cleandoc(docstring), flags=re.MULTILINE)
  return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def _raises(function) -> bool:
  """Whether a function raises, by itself, by a `check_*`, or by a helper of its own file."""
  tree = TREES[pathlib.Path(inspect.getsourcefile(function)).resolve()]
  functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
  todo, seen = [function.__name__], set()
  while todo:
    name = todo.pop()
    if name in seen or name not in functions:
      continue
    seen.add(name)
    for node in ast.walk(functions[name]):
      if isinstance(node, ast.Raise):
        return True
      if isinstance(node, ast.Call):
        called = ast.unparse(node.func).rpartition(".")[2]
        if called.startswith("check_"):
          return True
        todo.append(called)
  return False


@each_function
def test_a_public_function_is_documented(wing, name):
  module = importlib.import_module(f"kinkopt.{wing}")
  function = inspect.unwrap(getattr(module, name))
  sections = _sections(function.__doc__ or "")
  missing = {"Returns", "Example"} - set(sections)
  parameters = inspect.signature(function).parameters
  if parameters:
    missing |= {"Args"} - set(sections)
  if _raises(function):
    missing |= {"Raises"} - set(sections)
  assert not missing

  documented = set(re.findall(r"^  \*{0,2}(\w+):", sections.get("Args", ""), flags=re.MULTILINE))
  assert documented <= set(parameters), "the docstring names arguments that are not there"
  # A twin that begins with "See `x`" documents what differs from `x`, and no more.
  if not re.search(r"\bSee `\w+`", sections[""]):
    assert documented == set(parameters), "every argument is documented"

  # It leads to its source: by its own References, or through a neighbour that it names.
  named = set(re.findall(r"`(?:\w+\.)*(\w+)(?:\([^`]*\))?`", function.__doc__)) & set(
    module.__all__
  )
  sources = [function, *(getattr(module, other) for other in named)]
  assert any("References" in _sections(source.__doc__ or "") for source in sources)


@each_class
def test_a_public_class_is_documented_and_an_outcome_is_a_sentence(wing, name):
  public = getattr(importlib.import_module(f"kinkopt.{wing}"), name)
  # NamedTuple and Enum write a docstring of their own where there is none.
  assert public.__doc__
  assert not public.__doc__.startswith((f"{name}(", "A collection of name/value pairs"))
  if issubclass(public, enum.Enum):
    for outcome in public:
      assert isinstance(outcome.value, str), outcome
      assert len(outcome.value.split()) >= 3, outcome


def _in_fresh_python(program: str) -> list[str]:
  result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout)


def test_import_brings_in_nothing_but_jax_optax_and_numpy():
  added = _in_fresh_python(
    "import json, sys, jax, optax; before = set(sys.modules); import kinkopt;"
    "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
  )
  assert set(added) <= {"kinkopt", "jax", "jaxlib", "optax", "numpy"} | sys.stdlib_module_names


def test_import_neither_starts_a_backend_nor_changes_a_setting():
  changed = _in_fresh_python(
    "import json, jax, optax; before = dict(jax.config.values); import kinkopt;"
    "from jax._src import xla_bridge;"
    "changed = [k for k, v in jax.config.values.items() if v != before.get(k)];"
    "print(json.dumps(changed + ['backend'] * xla_bridge.backends_are_initialized()))"
  )
  assert changed == []


@pytest.mark.parametrize(
  "command",
  ['pip install -e ".[cli]" && kinkopt demo', 'pip install -e ".[test]" && pytest --thin 8'],
)
def test_the_readme_has_the_two_commands_that_ci_takes_from_it(command):
  blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
  assert command in "".join(blocks).splitlines()
  assert f"readme_command '{command}'" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("tool", ["ruff", "pyrefly"])
def test_the_tools_whose_verdict_is_a_gate_are_pinned(tool):
  dev = PYPROJECT["project"]["optional-dependencies"]["dev"]
  assert [requirement for requirement in dev if requirement.startswith(f"{tool}==")]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=_id)
def test_a_notebook_is_committed_as_it_ran(path):
  cells = json.loads(path.read_text())["cells"]
  code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
  assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
  kinds = [output["output_type"] for cell in code for output in cell["outputs"]]
  assert kinds
  assert "error" not in kinds


@pytest.mark.parametrize(
  "page", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")], ids=_id
)
def test_links_within_the_repository_lead_somewhere(page):
  if "_copied" in page.parts:
    return
  text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
  for target in re.findall(r"\]\(([^)#\s]+)", text):
    if not re.match(r"https?:", target):
      assert (page.parent / target).exists(), target
