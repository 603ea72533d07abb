"""Makes the pictures of the README: a report as a page, and as a terminal shows it.

python docs/make_screenshots.py [CHROMIUM]; it needs `pip install -e ".[cli]"` and a Chromium.
"""

import contextlib
import io
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import rich.console
import rich.terminal_theme
from rich.text import Text

HERE = pathlib.Path(__file__).parent
COMMAND = "kinkopt check model.py:loss --at make_args"


def check(*words: str) -> str:
  """Runs the command on the network with the mistake."""
  command = [sys.executable, "-m", "kinkopt.cli", *COMMAND.split()[1:], *words]
  found = subprocess.run(command, cwd=HERE / "first_check", capture_output=True, text=True)
  assert found.returncode == 1, found.stderr
  return found.stdout


def terminal(printed: str) -> str:
  """Gives a page that shows what was printed as a terminal does."""
  with contextlib.redirect_stdout(io.StringIO()):
    console = rich.console.Console(record=True, width=92, force_terminal=True)
    console.print(Text(f"$ {COMMAND}\n", style="bold"))
    console.print(Text.from_ansi(printed))
  theme = rich.terminal_theme.MONOKAI
  svg = console.export_svg(title="", theme=theme)
  svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # nothing from elsewhere
  svg = svg.replace("Fira Code", "DejaVu Sans Mono")
  return f"<!doctype html><style>body{{margin:0}}svg{{display:block;width:920px}}</style>{svg}"


def shoot(chromium: str, page: str, name: str, height: int, width: int) -> None:
  """Writes what a browser shows of a page."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "page.html")
    path.write_text(page)
    (HERE / "images").mkdir(exist_ok=True)
    subprocess.run(
      [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--no-first-run", "--disable-background-networking", "--disable-sync",
        f"--user-data-dir={folder}/profile", f"--window-size={width},{height}",
        f"--screenshot={HERE / 'images' / name}", path.as_uri(),
      ],
      check=True, capture_output=True, timeout=120,
    )  # fmt: skip


def main() -> None:
  """Makes both."""
  chromium = sys.argv[1] if len(sys.argv) > 1 else shutil.which("chromium") or "chromium"
  shoot(chromium, check("--format", "html"), "report.png", 625, 900)
  printed = check("--format", "rich")
  shoot(chromium, terminal(printed), "terminal.png", 572, 920)


if __name__ == "__main__":
  main()
