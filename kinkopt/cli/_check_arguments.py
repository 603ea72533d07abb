"""What `kinkopt check` and `kinkopt kinks` may be asked, judged from the words alone."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any, Literal

from kinkopt.cli._words import count, names, number, numbers, seed

FORMATS = ("rich", "plain", "json", "junit", "html", "github")
FORMATS_OF_KINKS = ("rich", "plain", "json", "html")

_CHECK_DESCRIPTION = """\
Says whether the gradient of your function is right, which leaf and coordinate is
wrong if not, and which custom rule at which line is to blame. Kinks, float32,
stop_gradient and dropout make no right gradient fail; there is no step to choose.
"""

_CHECK_EPILOG = """\
examples:
  kinkopt check model.py:loss --at make_args
      make_args() in model.py gives the arguments of loss, as a tuple
  kinkopt check nets.losses:energy --at nets.examples:POINT --argnums 0,1
  kinkopt check model.py:loss --at make_args --gradient my_gradient
      a gradient that was written by hand
  kinkopt check model.py:loss --at make_args --leaf "*bias*" -o report.html

exit codes:
  0    the gradient is right
  1    it is wrong, or not finite
  2    the command line, your file or the output cannot be used
  3    it could not be decided
  130  interrupted with Ctrl-C; what was seen by then is shown
"""

_KINKS_DESCRIPTION = """\
Lists each max, abs, select, sort and branch of your function that depends on what
moves, with its line: how many units tie at the point, how many of them on a kink,
how many are dead, and how far it is to the nearest kink.
"""

_KINKS_EPILOG = """\
examples:
  kinkopt kinks model.py:loss --at make_args
  kinkopt kinks model.py:loss --at make_args --argnums 1 --format html -o kinks.html

exit codes:
  0    the kinks are listed
  2    the command line, your file or the output cannot be used
  130  interrupted with Ctrl-C
"""


@dataclasses.dataclass(frozen=True)
class PointOptions:
  """A function of the user's, where to stand, and how to tell what was found."""

  target: str
  at: str | None = None
  argnums: tuple[int, ...] = (0,)
  x64: bool = False
  platform: str | None = None
  format: str | None = None
  output: Path | None = None


@dataclasses.dataclass(frozen=True)
class CheckOptions(PointOptions):
  """What `kinkopt check` was asked."""

  gradient: str | None = None
  leaves: tuple[str, ...] = ()
  has_aux: bool = False
  mode: Literal["rev", "fwd", "both"] = "rev"
  order: Literal[1, 2] = 1
  seed: int = 0
  probes: int = 2
  sweep: int = 100
  batch_size: int = 1
  intended: tuple[str, ...] = ()
  through_stop_gradient: bool = False
  locate: bool = True


@dataclasses.dataclass(frozen=True)
class KinksOptions(PointOptions):
  """What `kinkopt kinks` was asked."""

  batch_axis: int | None = 0


def add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
  """Adds the command that checks a gradient."""
  check = commands.add_parser(
    "check",
    help="check the gradient of a function of yours",
    description=_CHECK_DESCRIPTION,
    epilog=_CHECK_EPILOG,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  _add_point(check, CheckOptions, FORMATS)
  _add(
    check, "--gradient", metavar="FUNCTION", help="the gradient to check, if it is not JAX's own"
  )
  _add(
    check,
    "--leaf",
    dest="leaves",
    action="append",
    metavar="PATTERN",
    help="move these leaves alone, such as \"*['w']\"; may be repeated",
  )
  _add(check, "--has-aux", action="store_true", help="the function returns (value, aux)")
  _add(check, "--mode", choices=("rev", "fwd", "both"), help="jax.grad, jax.jvp or both (rev)")
  _add(check, "--order", type=int, choices=(1, 2), help="2: the derivative of the gradient (1)")
  _add(check, "--seed", type=seed, metavar="N", help="decides the directions (0)")
  _add(check, "--probes", type=count, metavar="N", help="directions for each leaf (2)")
  _add(
    check,
    "--sweep",
    type=number,
    metavar="N",
    help="with up to N coordinates, move each alone as well (100)",
  )
  _add(check, "--batch-size", type=count, metavar="N", help="pairs evaluated at once (1)")
  _add(
    check,
    "--intended",
    action="extend",
    type=names,
    metavar="NAME",
    help="rules that are meant to differ from what they evaluate; may be repeated",
  )
  _add(check, "--through-stop-gradient", action="store_true", help="look through stop_gradient")
  _add(
    check,
    "--no-locate",
    dest="locate",
    action="store_false",
    help="do not look for coordinates and rules; faster",
  )


def add_kinks(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
  """Adds the command that lists kinks."""
  kinks = commands.add_parser(
    "kinks",
    help="list the kinks of a function of yours",
    description=_KINKS_DESCRIPTION,
    epilog=_KINKS_EPILOG,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  _add_point(kinks, KinksOptions, FORMATS_OF_KINKS)
  _add(
    kinks,
    "--batch-axis",
    type=number,
    metavar="N",
    help="the axis of examples; a unit that loses in all of them is dead (0)",
  )


def _add_point(
  parser: argparse.ArgumentParser, options: type[PointOptions], formats: tuple[str, ...]
) -> None:
  parser.set_defaults(options=options)
  parser.add_argument("target", metavar="FILE.py:FUNCTION", help="or package.module:FUNCTION")
  _add(
    parser,
    "--at",
    metavar="NAME",
    help="what gives the arguments: a function without arguments, or their tuple itself; in "
    "another file as FILE.py:NAME",
  )
  _add(
    parser,
    "--argnums",
    action="extend",
    type=numbers,
    metavar="N",
    help="the arguments to move, counted from 0 (0)",
  )
  _add(parser, "--x64", action="store_true", help="run your code with 64 bits turned on")
  _add(parser, "--platform", metavar="NAME", help="run on cpu, gpu or tpu (what JAX chooses)")
  _add(
    parser,
    "--format",
    choices=formats,
    help="by default that of the output's ending, or rich on a terminal and plain elsewhere",
  )
  _add(
    parser,
    "-o",
    "--output",
    type=Path,
    metavar="FILE",
    help="write the report into FILE as well; .html, .json, .xml and .txt are known",
  )


def _add(parser: argparse.ArgumentParser, *flags: str, **settings: Any) -> None:
  # What is not asked for is left to the options' own defaults.
  settings.setdefault("default", None)
  parser.add_argument(*flags, **settings)
