"""What may be written on the command line, and what it means.

Everything that can be judged from the words alone is judged here, before JAX is loaded.
"""

import argparse
import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path

from kinkopt._version import __version__
from kinkopt.cli._rates import RULE_NAMES

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


def parse(argv: Sequence[str] | None) -> tuple[str, DemoOptions]:
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
  command = arguments.pop("command")
  rules = tuple(dict.fromkeys(name for names in arguments.pop("rule") or () for name in names))
  return command, DemoOptions(rules=rules or RULE_NAMES, **arguments)


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
  demo.add_argument(
    "--rule",
    action="append",
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
    type=_seed,
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
  names = [name.strip() for name in text.split(",") if name.strip()]
  if not names:
    raise argparse.ArgumentTypeError(f"no rule is named; the rules are {', '.join(RULE_NAMES)}")
  for name in names:
    if name not in RULE_NAMES:
      near = difflib.get_close_matches(name.lower(), RULE_NAMES, n=1)
      raise argparse.ArgumentTypeError(
        f"there is no rule {name!r}; "
        + (f"did you mean {near[0]!r}? The " if near else "the ")
        + f"rules are {', '.join(RULE_NAMES)}"
      )
  return names


def _whole(text: str, low: int, what: str) -> int:
  try:
    value = int(text)
  except ValueError:
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number; {what}") from None
  if value < low:
    raise argparse.ArgumentTypeError(f"{value} is too small; {what}")
  return value


def _positive(text: str) -> int:
  return _whole(text, 1, "give a number of steps, 1 or more")


def _seed(text: str) -> int:
  return _whole(text, 0, "give a seed, 0 or more")
