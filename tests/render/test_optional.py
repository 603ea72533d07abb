import subprocess
import sys

import pytest

from kinkopt.render._optional import require


def test_a_fault_inside_an_installed_package_is_not_called_a_missing_package(monkeypatch, tmp_path):
  (tmp_path / "kinkopt_broken.py").write_text("import kinkopt_is_not_there\n")
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ModuleNotFoundError, match="kinkopt_is_not_there") as raised:
    require("kinkopt_broken", "Nothing")
  assert type(raised.value) is ModuleNotFoundError


def test_importing_the_printers_loads_neither_rich_nor_matplotlib():
  program = (
    "import sys, kinkopt.render;"
    "sys.exit(str([name for name in ('rich', 'matplotlib') if name in sys.modules] or ''))"
  )
  result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
  assert result.stderr.strip() == ""
