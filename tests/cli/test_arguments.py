from pathlib import Path

import pytest

import kinkopt.rules
from kinkopt._version import __version__
from kinkopt.cli import main
from kinkopt.cli._arguments import DemoOptions, parse
from kinkopt.cli._rates import LEARNING_RATES, NEWTON, RULE_NAMES


def test_the_demo_has_every_rule_of_the_library_and_newton():
  # Aliases are the names without a family resemblance: transforms begin with scale_by_.
  rules = {name for name in kinkopt.rules.__all__ if not name.startswith("scale_by_")}
  assert set(LEARNING_RATES) == rules - {"lookahead_params"}
  assert set(RULE_NAMES) == {*LEARNING_RATES, NEWTON}


@pytest.mark.parametrize(
  ("words", "options"),
  [
    ("", DemoOptions()),
    ("--rule adam", DemoOptions(rules=("adam",))),
    ("--rule adam --rule sgd,newton", DemoOptions(rules=("adam", "sgd", "newton"))),
    ("--rule sgd,adam,sgd", DemoOptions(rules=("sgd", "adam"))),
    ("--steps 7 --seed 3 --quiet", DemoOptions(steps=7, seed=3, quiet=True)),
    ("--save out --data a.npz", DemoOptions(save=Path("out"), data=Path("a.npz"))),
  ],
)
def test_words_become_options(words, options):
  assert parse(["demo", *words.split()]) == ("demo", options)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("demo --rule adm", "there is no rule 'adm'; did you mean 'adam'?"),
    ("demo --rule sgd,RMSProp", "there is no rule 'RMSProp'; did you mean 'rmsprop'?"),
    ("demo --rule xyz", f"there is no rule 'xyz'; the rules are {', '.join(RULE_NAMES)}"),
    ("demo --rule ,", f"no rule is named; the rules are {', '.join(RULE_NAMES)}"),
    ("demo --steps 0", "0 is too small; give a number of steps, 1 or more"),
    ("demo --steps -5", "-5 is too small; give a number of steps, 1 or more"),
    ("demo --steps 1.5", "'1.5' is not a whole number; give a number of steps, 1 or more"),
    ("demo --seed -1", "-1 is too small; give a seed, 0 or more"),
    ("demo --stpes 3", "unrecognized arguments: --stpes 3"),
    ("dmeo", "invalid choice: 'dmeo'"),
    ("", "the following arguments are required: COMMAND"),
  ],
)
def test_a_mistake_is_named_and_the_code_is_2(words, message, capsys):
  assert main(words.split()) == 2
  printed = capsys.readouterr()
  assert message in printed.err
  assert printed.out == ""


def test_help_tells_options_examples_rules_and_exit_codes(capsys):
  assert main(["demo", "--help"]) == 0
  printed = capsys.readouterr().out
  options = ("--rule", "--steps", "--seed", "--quiet", "--save", "--data")
  for what in (*options, "examples:", "exit codes:", "130", "NO_COLOR", *RULE_NAMES):
    assert what in printed, what
  assert max(map(len, printed.splitlines())) <= 80


def test_help_of_the_whole_names_the_command(capsys):
  assert main(["--help"]) == 0
  assert "demo" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
  assert main(["--version"]) == 0
  assert capsys.readouterr().out == f"kinkopt {__version__}\n"
