"""`kinkopt check` and `kinkopt kinks` as a user calls them, and each way to call them wrongly."""

import json
import os
import re
import signal
import sys
from xml.etree import ElementTree

import jax
import pytest

from kinkopt.cli import main
from kinkopt.gradcheck import GradientReport
from kinkopt.render import from_json

MODEL = """\
import jax
import jax.numpy as jnp

@jax.custom_vjp
def swish(x):
  return x * jax.nn.sigmoid(x)

def swish_backward(x, ct):
  s = jax.nn.sigmoid(x)
  return (ct * (s - x * s * (1 - s)),)

swish.defvjp(lambda x: (swish(x), x), swish_backward)

def loss(params, x):
  return jnp.mean(jnp.tanh(jax.nn.relu(x @ params["w"]) + params["b"]))

def swished(params, x):
  return jnp.mean(swish(x @ params["w"])) + jnp.sum(jnp.sin(params["b"]))

def by_hand(params, x):
  gradient = jax.grad(loss)(params, x)
  return gradient | {"b": 2 * gradient["b"]}

def with_aux(params, x):
  return loss(params, x), "aux"

def by_hand_with_aux(params, x):
  return by_hand(params, x), "aux"

def measured(x):
  shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
  return jax.pure_callback(lambda x: x, shape, x)

@jax.custom_vjp
def simulated(x):
  return measured(x)

simulated.defvjp(lambda x: (simulated(x), x), lambda x, ct: (1.003 * ct,))

def unknown(params, x):
  return jnp.sum(simulated(params["b"]))

def cut(params, x):
  return jnp.where(params["w"] > 0, jnp.log(params["w"]), 0.0).sum()

def keeps_64_bits(x):
  assert x.dtype == jnp.float64
  return jnp.sum(x)

def make_args():
  x = jnp.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
  return {"w": jnp.cos(jnp.arange(6.0)).reshape(3, 2), "b": jnp.array([0.1, -0.2])}, x

POINT = make_args()

def make_64_bits():
  return jnp.arange(3.0)
"""


@pytest.fixture(autouse=True)
def model(folder):
  """Every test stands beside the model."""
  (folder / "model.py").write_text(MODEL)


@pytest.fixture
def call(capsys):
  def call(*words):
    code = main(list(words))
    printed = capsys.readouterr()
    return code, printed.out, printed.err

  return call


AT = ("--at", "make_args")


def test_a_right_gradient_is_0(call):
  code, out, err = call("check", "model.py:loss", *AT)
  assert (code, err) == (0, "")
  assert out.startswith("Gradient check of model.py:loss\n===")
  assert re.search(r"^\['w'\] +float32\[3,2\] .* happy$", out, re.MULTILINE)
  assert "\x1b" not in out


def test_a_wrong_rule_is_1_and_its_lines_are_shown(call):
  code, out, _ = call("check", "model.py:swished", *AT)
  assert code == 1
  assert "The rule of `swish` (model.py:4) is not its derivative" in out
  assert "`swish_backward`, the rule of `swish`, model.py:8:" in out
  assert "  10 |   return (ct * (s - x * s * (1 - s)),)" in out
  rows = [line.split()[0] for line in out.splitlines() if line.endswith(("wrong", "happy"))]
  assert rows == ["['w']", "['b']"]


def test_what_cannot_be_decided_is_3(call):
  code, out, _ = call("check", "model.py:unknown", *AT)
  assert code == 3
  assert "undecided" in out


def test_a_module_is_found_beside_where_one_stands(call, folder):
  (folder / "nets").mkdir()
  (folder / "nets" / "losses.py").write_text(MODEL)
  assert call("check", "nets.losses:loss", "--at", "nets.losses:POINT", "--no-locate")[0] == 0
  # `--at` may be in a file of its own, and give something that is no tuple.
  (folder / "points.py").write_text("import jax.numpy as jnp\nX = jnp.ones(3)\n")
  (folder / "json.py").write_text("import json\ndef loss(x): return (x**2).sum()\n")
  assert call("check", "json.py:loss", "--at", "points.py:X")[0] == 0


def test_a_gradient_by_hand_and_a_part_of_the_leaves(call):
  words = ("check", "model.py:loss", *AT, "--gradient", "by_hand")
  code, out, _ = call(*words)
  assert code == 1
  assert "`['b']`: the gradient is the right one times 2." in out
  code, out, _ = call(*words, "--leaf", "w")
  assert code == 0
  assert "['b']" not in out
  assert call(*words, "--leaf", "['b*")[0] == 1
  words = ("check", "model.py:with_aux", *AT, "--has-aux", "--gradient", "by_hand_with_aux")
  assert call(*words, "--leaf", "['w']")[0] == 0
  assert call(*words)[0] == 1


def test_options_reach_the_check(call):
  words = ("--argnums", "0,1", "--seed", "7", "--probes", "1", "--sweep", "0")
  code, out, _ = call("check", "model.py:swished", *AT, *words, "--intended", "swish")
  assert code == 0
  assert "seed [0, 7]" in out
  assert "[1] " in out
  code, out, _ = call("check", "model.py:loss", *AT, "--order", "2", "--mode", "both")
  assert code == 0
  assert "['w'] (second order)" in out
  assert "['w'] (forward mode, second order)" in out


def test_64_bits_are_turned_on_for_the_users_code_and_off_again(call):
  assert call("check", "model.py:keeps_64_bits", "--at", "make_64_bits", "--x64")[0] == 0
  code, _, err = call("check", "model.py:keeps_64_bits", "--at", "make_64_bits")
  assert code == 2
  assert err.rstrip().endswith("AssertionError")
  assert not jax.config.read("jax_enable_x64")


def test_every_form_can_be_read_back(call, folder):
  words = ("check", "model.py:swished", *AT, "--format")
  report = GradientReport.from_json(call(*words, "json")[1])
  assert [leaf.verdict.name for leaf in report.leaves] == ["HAPPY", "WRONG"]
  suite = ElementTree.fromstring(call(*words, "junit")[1].encode())
  assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
  failure = suite.find("testcase[@name=\"['w']\"]/failure")
  assert failure.get("type") == "WRONG"
  assert "swish_backward" in failure.text
  page = call(*words, "html")[1]
  assert page.startswith("<!doctype html>")
  assert "swish_backward" in page
  annotations = call(*words, "github")[1].splitlines()
  assert annotations[0].startswith("::error file=model.py,line=8,title=model.py%3Aswished")
  assert "The rule of `swish`" in annotations[0]
  assert annotations[1].startswith("::error file=model.py,line=17,")
  assert len(annotations) == 2
  right = call("check", "model.py:loss", *AT, "--format", "github")[1]
  assert right.startswith("::notice file=model.py,line=14,")
  undecided = ("check", "model.py:unknown", *AT, "--leaf", "b", "--format")
  assert call(*undecided, "github")[1].startswith("::warning file=model.py,")
  suite = ElementTree.fromstring(call(*undecided, "junit")[1].encode())
  assert (suite.get("failures"), suite.get("errors")) == ("0", "1")


@pytest.mark.parametrize(
  ("name", "start"),
  [("r.html", "<!doctype"), ("r.json", "{"), ("r.xml", "<?xml"), ("r.txt", "Gradient check of")],
)
def test_a_file_gets_the_form_of_its_ending_and_the_screen_the_table(call, folder, name, start):
  code, out, _ = call("check", "model.py:loss", *AT, "-o", name)
  assert code == 0
  assert (folder / name).read_text().startswith(start)
  assert out.startswith("Gradient check of model.py:loss")


def test_colours_are_for_who_asks_and_none_where_they_are_unwanted(call, monkeypatch):
  monkeypatch.delenv("NO_COLOR", raising=False)
  monkeypatch.setenv("TERM", "xterm-256color")
  words = ("check", "model.py:loss", *AT, "--format", "rich")
  assert "\x1b[32m" in call(*words)[1]
  monkeypatch.setenv("NO_COLOR", "1")
  assert "\x1b[32m" not in call(*words)[1]


def test_without_rich_a_terminal_gets_plain_text_and_who_asks_is_told(
  call, monkeypatch, without_rich
):
  words = ("check", "model.py:loss", *AT)
  code, out, err = call(*words, "--format", "rich")
  assert (code, out) == (2, "")
  assert re.search(r"Coloured reports need.*kinkopt\[cli\]", err, re.DOTALL), err
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
  code, out, _ = call(*words)
  assert code == 0
  assert out.startswith("Gradient check of model.py:loss\n===")


def test_what_has_no_gradient_is_skipped_in_junit(call, folder):
  (folder / "counted.py").write_text(
    "import jax.numpy as jnp\n"
    "def loss(p): return jnp.sum(p['w'] ** 2) * p['n']\n"
    "POINT = ({'w': jnp.ones(2), 'n': 3},)\n"
  )
  code, out, _ = call("check", "counted.py:loss", "--at", "POINT", "--format", "junit")
  assert code == 0
  skipped = ElementTree.fromstring(out.encode()).find("testcase[skipped]")
  assert "['n']" in skipped.get("name")
  assert skipped.find("skipped").get("message") == "It has no gradient."


def test_arrays_of_a_gradient_are_checked_leaf_by_leaf(call, folder):
  (folder / "known.py").write_text(
    "import jax.numpy as jnp\n"
    "def loss(p): return jnp.sum(p['w'] ** 2) + jnp.sum(p['b'] ** 3)\n"
    "POINT = ({'w': jnp.ones(2), 'b': jnp.ones(2)},)\n"
    "GRADIENT = {'w': 2 * jnp.ones(2), 'b': jnp.ones(2)}\n"
  )
  words = ("check", "known.py:loss", "--at", "POINT", "--gradient", "GRADIENT")
  assert call(*words)[0] == 1
  assert call(*words, "--leaf", "['w']")[0] == 0
  assert call(*words, "--leaf", "['b']", "--platform", "cpu")[0] == 1


def test_a_function_without_a_signature_is_called_as_it_is(call, folder):
  (folder / "builtin.py").write_text(
    "import jax.numpy as jnp, operator\n"
    "loss = operator.itemgetter('x')\n"
    "POINT = ({'x': jnp.ones(()), 'y': jnp.ones(3)},)\n"
  )
  assert call("check", "builtin.py:loss", "--at", "POINT")[0] == 0


def test_ctrl_c_leaves_a_report_of_what_was_seen(call, folder):
  (folder / "long.py").write_text(
    "import os, signal, jax, jax.numpy as jnp\n"
    "turns = []\n"
    "def press(x):\n"
    "  turns.append(x)\n"
    "  if len(turns) == 30:\n"
    "    os.kill(os.getpid(), signal.SIGINT)\n"
    "@jax.custom_jvp\n"
    "def sine(x):\n"
    "  return jnp.sin(x)\n"
    "sine.defjvp(lambda p, t: (jnp.sin(*p), 1.1 * jnp.cos(*p) * t[0]))\n"
    "def loss(params):\n"  # one leaf is wrong, so that each is looked at by itself
    "  jax.debug.callback(press, params['00'][0])\n"
    "  return sum(jnp.sum(jnp.sin(x)) for x in params.values()) + jnp.sum(sine(params['59']))\n"
    "POINT = ({f'{i:02}': jnp.linspace(0, 1, 4) for i in range(60)},)\n"
  )
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    code, out, _ = call("check", "long.py:loss", "--at", "POINT", "--sweep", "0")
  finally:
    signal.signal(signal.SIGINT, before)
  assert code == 130
  assert "The check was ended before it was done" in out
  assert re.search(r"^\['00'\] .* happy$", out, re.MULTILINE)
  assert re.search(r"^\['59'\] .* undecided$", out, re.MULTILINE)


def test_kinks_are_listed_with_their_lines(call, folder):
  (folder / "kinky.py").write_text(
    "import jax, jax.numpy as jnp\n"
    "def loss(w):\n"
    "  return jnp.sum(jnp.maximum(w, 0.0)) + jnp.sum(jnp.abs(w - 3))\n"
    "POINT = (jnp.array([0.0, 1.0, 2.0]),)\n"
    "def smooth(w):\n"
    "  return jnp.sum(jnp.sin(w))\n"
  )
  code, out, _ = call("kinks", "kinky.py:loss", "--at", "POINT")
  assert code == 0
  assert "The point is on a kink at 1 of 2 winners" in out
  assert re.search(r"^max +kinky.py:3 +3 +1 +1 ", out, re.MULTILINE)
  assert "> 3 |   return jnp.sum(jnp.maximum(w, 0.0))" in out
  document = from_json(call("kinks", "kinky.py:loss", "--at", "POINT", "--format", "json")[1])
  assert document.title == "Kinks of kinky.py:loss"
  assert "there are no kinks" in call("kinks", "kinky.py:smooth", "--at", "POINT")[1]
  assert "on none of the kinks of" in call("kinks", "model.py:loss", *AT)[1]


BROKEN = {
  "no file": (("modle.py:loss",), r"there is no file modle\.py\. Did you mean model\.py\?"),
  "no module": (("nets.layers:loss",), r"no module `nets\.layers` here .* nets/layers\.py:FUNC"),
  "no name": (("model.py:los",), r"model\.py has no `los`\. Did you mean `loss`\? It has: `swish"),
  "no colon": (("model.py",), r"`model\.py` names no function\. Write model\.py:FUNCTION\. It has"),
  "nowhere": (("loss",), r"`loss` does not say where it is\. Write FILE\.py:loss or package"),
  "no function": (("model.py:POINT", *AT), r"`POINT` in model\.py is a tuple, and no function"),
  "no point": (("model.py:loss",), r"has `make_args`, which may give it:\n\n  kinkopt check"),
  "no such point": (("model.py:loss", "--at", "make"), r"model\.py has no `make`"),
  "misfit": (
    ("model.py:loss", "--at", "make_64_bits"),
    r"`loss\(params, x\)` cannot be called with what `make_64_bits` gives, 1 argument \(ArrayImpl"
    r"\): missing a required argument: 'x'\. Return all arguments as one tuple",
  ),
  "no such argument": (
    ("model.py:loss", *AT, "--argnums", "0,2"),
    r"`--argnums 0,2`: make_args gives 2 arguments \(dict, ArrayImpl\), so argument 2 is not there",
  ),
  "no such leaf": (
    ("model.py:loss", *AT, "--leaf", "bias"),
    r"no leaf is named like 'bias'\. There are: \['b'\], \['w'\]\.",
  ),
  "no such platform": (("model.py:loss", "--platform", "abacus"), r"`--platform abacus` is not at"),
  "no folder": (
    ("model.py:loss", "-o", "out/r.html"),
    r"cannot write out/r\.html: there is no fol",
  ),
  "a folder": (("model.py:loss", "-o", "."), r"cannot write \.: it is a folder"),
  "no ending": (("model.py:loss", "-o", "report"), r"ending of report says nothing .* one of rich"),
  "a bad number": (("model.py:loss", "--argnums", "x"), r"'x' is not a whole number; give numbers"),
  "no number": (("model.py:loss", "--argnums", ","), r"no argument is numbered; give 0, or 0,2"),
  "no probe": (("model.py:loss", "--probes", "0"), r"0 is too small; give 1 or more"),
}


@pytest.mark.parametrize("why", BROKEN)
def test_what_cannot_be_used_is_2_and_says_what_to_do(call, why):
  words, message = BROKEN[why]
  code, out, err = call("check", *words)
  assert (code, out) == (2, "")
  assert re.search(message, err), err


USERS = {
  "import": (
    "import jax\n\ndef build():\n  import no_such_package\n\nbuild()\n",
    r"users\.py cannot be loaded:\n\nTraceback.*users\.py\", line 6.*line 4, in build.*"
    r"ModuleNotFoundError: No module named 'no_such_package'",
  ),
  "syntax": ("def loss(x)\n  pass\n", r"users\.py cannot be loaded:\n\n.*line 1\n.*SyntaxError"),
  "exit": ("import sys\nsys.exit(3)\n", r"cannot be loaded:\n\n.*line 2.*SystemExit: 3"),
  "point": (
    "def loss(x): return x\ndef make_args():\n  return 1 / 0\n",
    r"`make_args` in users\.py failed:\n\n.*line 3, in make_args.*ZeroDivisionError",
  ),
  "shapes": (
    "import jax.numpy as jnp\ndef loss(x):\n  return jnp.ones((2, 3)) @ x\n"
    "def make_args(): return jnp.ones(4)\n",
    r"`loss` in users\.py failed at this point:\n\n.*line 3, in loss.*TypeError: dot_general",
  ),
  "traced": (
    "import jax.numpy as jnp\ndef loss(x):\n  return x.sum() if x[0] > 0 else x\n"
    "def make_args(): return jnp.ones(4)\n",
    r"`loss` in users\.py failed at this point:\n\n.*line 3, in loss.*TracerBoolConversionError",
  ),
  "integers": (
    "import jax.numpy as jnp\ndef loss(x): return x.sum()\ndef make_args(): return jnp.arange(4)\n",
    r"kinkopt: error: `check_gradient` .*floating",
  ),
}


@pytest.mark.parametrize("why", USERS)
def test_what_fails_in_the_users_code_is_told_by_its_own_frames(call, folder, why):
  text, message = USERS[why]
  (folder / "users.py").write_text(text)
  code, out, err = call("check", "users.py:loss", "--at", "make_args")
  assert (code, out) == (2, "")
  assert re.search(message, err, re.DOTALL), err
  for path in re.findall(r'File "([^"]*)"', err):
    assert path.endswith("users.py"), path


def test_an_installed_module_that_misses_another_is_not_called_missing(call, folder):
  (folder / "needy.py").write_text("import no_such_package\n")
  err = call("check", "needy:loss")[2]
  assert "needy cannot be loaded" in err
  assert "No module named 'no_such_package'" in err


def test_a_file_that_may_not_be_written_is_told_before_the_check(call, folder, monkeypatch):
  monkeypatch.setattr(os, "access", lambda path, mode: False)
  for words in (("-o", "new.html"), ("-o", "model.py", "--format", "html")):
    code, _, err = call("check", "model.py:no_such_function", *words)
    assert code == 2
    assert f"cannot write {words[1]}: you may not. Name another file." in err


def test_a_disk_that_refuses_is_told(call, monkeypatch):
  def refuse(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("pathlib.Path.write_text", refuse)
  code, _, err = call("check", "model.py:loss", *AT, "-o", "r.json")
  assert code == 2
  assert "cannot write r.json: No space left on device." in err


SIGNATURES = {
  "def loss(w, n: int, rate: float = 0.25): pass": ["w = ...", "n = 3", "rate = 0.25"],
  "import jax\ndef loss(x: jax.Array): pass": [
    "x = jax.random.normal(jax.random.key(0), (3,))  # of the right shape",
    "return x,",
  ],
  "import numpy as np\ndef loss(x=np.ones(2)): pass": [
    "import jax.numpy as jnp",
    "x = jnp.array([1",
  ],
  "def loss(x: 'Unheard'): pass": ["x = ..."],
  "def loss(): pass": ["return ()"],
  "import typing\nclass P(typing.NamedTuple):\n  a: float\n  n: int\ndef loss(p: P): pass": [
    "p = P(a=0.5, n=3)"
  ],
}


@pytest.mark.parametrize("text", SIGNATURES)
def test_without_a_point_the_very_lines_to_write_are_suggested(call, folder, text):
  (folder / "bare.py").write_text(text + "\n")
  code, _, err = call("check", "bare.py:loss")
  assert code == 2
  assert "def make_args():" in err
  for line in SIGNATURES[text]:
    assert line in err
  assert err.rstrip().endswith("kinkopt check bare.py:loss --at make_args")


def test_shapes_in_annotations_are_used(call, folder):
  (folder / "typed.py").write_text(
    "import jax, jaxtyping as jt\n"
    "def loss(w: jt.Float[jax.Array, '784 hidden'], x: jt.Float[jax.Array, 'batch 784']): pass\n"
  )
  pytest.importorskip("jaxtyping")
  err = call("check", "typed.py:loss")[2]
  assert "w = jax.random.normal(jax.random.key(0), (784, 8))  # 784 hidden" in err
  assert "x = jax.random.normal(jax.random.key(0), (3, 784))  # batch 784" in err


def test_the_schema_of_json_has_a_name_and_a_version(call):
  read = json.loads(call("check", "model.py:loss", *AT, "--format", "json")[1])
  assert (read["format"], read["version"]) == ("kinkopt.gradient_report", 1)
