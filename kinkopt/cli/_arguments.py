"""What may be written on the command line, and what it means.

Everything that can be judged from the words alone is judged here, before JAX is loaded.
"""

import argparse
import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinkopt._version import __version__
from kinkopt.cli import _check_arguments
from kinkopt.cli._rates import RULE_NAMES
from kinkopt.cli._words import names, seed, whole

_DEMO_DESCRIPTION = """\
Checks the gradient of a ReLU network's loss, trains the network by each update
rule while watching the ratio of updates to weights, and solves a softmax
regression by Newton's method: on 1,797 handwritten digits that ship with the
package, or on your own data.
"""

_DEMO_EPILOG = """\
examples:
  kinkopt demo                           all rules; about half a minute
  kinkopt demo --rule adam,newton        two of them
  kinkopt demo --steps 5000 --save out   longer; pictures and JSON in out/
  kinkopt demo --data mine.npz --quiet   your data; the final table only

exit codes:
  0    the gradient was right and every rule stayed finite
  1    the gradient check failed, or a rule diverged
  2    the command line, the data or the folder cannot be used
  130  interrupted with Ctrl-C; the rules done so far are shown

Progress bars and colours appear on a terminal only (NO_COLOR=1 turns the
colours off) and need rich; pictures need matplotlib. Both come with
  pip install "kinkopt[cli]"
"""


@dataclasses.dataclass(frozen=True)
class DemoOptions:
  """What `kinkopt demo` was asked to do."""

  rules: tuple[str, ...] = RULE_NAMES
  steps: int = 1000
  seed: int = 0
  quiet: bool = False
  save: Path | None = None
  data: Path | None = None


def parse(argv: Sequence[str] | None) -> tuple[str, Any]:
  """Reads the command line.

  Args:
    argv: the words after `kinkopt`; None for those of the process.

  Returns:
    The command's name and its options.

  Raises:
    SystemExit: after `--help` and `--version` (code 0), and after a mistake, which is printed
      (code 2).
  """
  arguments = vars(_parser().parse_args(argv))
  command, options = arguments.pop("command"), arguments.pop("options")
  given = {name: value for name, value in arguments.items() if value is not None}
  lists = {name: tuple(dict.fromkeys(v)) for name, v in given.items() if isinstance(v, list)}
  return command, options(**(given | lists))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="kinkopt",
    description="Is my gradient right, is my step right, is its size right?",
    epilog="`kinkopt COMMAND --help` explains a command.",
  )
  parser.add_argument("--version", action="version", version=f"kinkopt {__version__}")
  commands = parser.add_subparsers(
    dest="command", title="commands", metavar="COMMAND", required=True
  )
  _check_arguments.add_check(commands)
  _check_arguments.add_kinks(commands)
  _add_demo(commands)
  return parser


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
  defaults = DemoOptions()
  demo = commands.add_parser(
    "demo",
    help="check a gradient, train by every rule, and watch the steps, on handwritten digits",
    description=_DEMO_DESCRIPTION,
    epilog=_DEMO_EPILOG,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  demo.set_defaults(options=DemoOptions)
  demo.add_argument(
    "--rule",
    dest="rules",
    action="extend",
    type=_rules,
    metavar="NAME",
    help=f"train by this rule; may be repeated, or a list with commas; one of "
    f"{', '.join(RULE_NAMES)} (default: all)",
  )
  demo.add_argument(
    "--steps",
    type=_positive,
    default=defaults.steps,
    metavar="N",
    help="minibatches for each rule; newton stops by itself (default: %(default)s)",
  )
  demo.add_argument(
    "--seed",
    type=seed,
    default=defaults.seed,
    metavar="N",
    help="decides the split of the data, the start and the minibatches (default: %(default)s)",
  )
  demo.add_argument("--quiet", action="store_true", help="print the final table only")
  demo.add_argument(
    "--save",
    type=Path,
    metavar="DIR",
    help="write the report as JSON and the curves as PNG into DIR, which is made if need be",
  )
  demo.add_argument(
    "--data",
    type=Path,
    metavar="FILE.npz",
    help="train on the arrays `images` (n, features) and `labels` (n,) of this NumPy archive",
  )


def _rules(text: str) -> list[str]:
  named = names(text)
  if not named:
    raise argparse.ArgumentTypeError(f"no rule is named; the rules are {', '.join(RULE_NAMES)}")
  for name in named:
    if name not in RULE_NAMES:
      near = difflib.get_close_matches(name.lower(), RULE_NAMES, n=1)
      raise argparse.ArgumentTypeError(
        f"there is no rule {name!r}; "
        + (f"did you mean {near[0]!r}? The " if near else "the ")
        + f"rules are {', '.join(RULE_NAMES)}"
      )
  return named


def _positive(text: str) -> int:
  return whole(text, 1, "give a number of steps, 1 or more")
