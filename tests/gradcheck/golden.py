"""Reports of seven checks, as they are read: `pytest tests/gradcheck --update-goldens` writes anew.

Digits that depend on rounding are left out; everything else must stay as it is.
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt.gradcheck import check_gradient
from kinkopt.render import to_html, to_text
from tests.gradcheck.test_residuals import loss, network

FOLDER = pathlib.Path(__file__).parent / "golden"
X = jnp.array([-0.4, 0.3, 1.1], jnp.float32)


@jax.custom_vjp
def layer(w, x):
  return jnp.tanh(x @ w)


def _backward(saved, ct):
  w, x, y = saved
  slope = ct * (1 - y**2)
  return x.T @ slope, 2 * slope @ w.T


layer.defvjp(lambda w, x: ((y := layer(w, x)), (w, x, y)), _backward)


def _callback(x):
  shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
  return jax.pure_callback(lambda x: np.sin(np.asarray(x)), shape, x)


@jax.custom_vjp
def simulated(x):
  return _callback(x)


simulated.defvjp(lambda x: (simulated(x), x), lambda x, ct: (1.003 * ct * jnp.cos(x),))


def _changed(change):
  def gradient(*args):
    found = jax.grad(loss)(*args)
    change(found)
    return found

  return gradient


def _leaf(gradient):
  gradient["out"]["b"] = -gradient["out"]["b"]


def _coordinate(gradient):
  gradient["hidden"]["w"] = gradient["hidden"]["w"].at[4, 7].multiply(2)


def _two_layers(params, x):
  return jnp.mean(layer(params["b"], layer(params["a"], x)) ** 2)


def _pass():
  return check_gradient(loss, *network())


def _wrong_leaf():
  return check_gradient(loss, *network(), gradient=_changed(_leaf))


def _wrong_coordinate():
  return check_gradient(loss, *network(), gradient=_changed(_coordinate))


def _blamed_rule():
  params = {"a": jnp.eye(3) + 0.1, "b": jnp.eye(3) - 0.2}
  return check_gradient(_two_layers, params, jnp.stack([X, X**2]))


def _on_a_kink():
  return check_gradient(lambda x: jnp.sum(jax.nn.relu(x) * jnp.arange(3.0)), X.at[1].set(0))


def _undecided():
  return check_gradient(lambda x: jnp.sum(simulated(x)), X)


def _not_finite():
  return check_gradient(lambda x: jnp.sum(jnp.where(x > 0, jnp.log(jnp.sqrt(x)), x)), X)


CHECKS = {
  "pass": _pass,
  "wrong_leaf": _wrong_leaf,
  "wrong_coordinate": _wrong_coordinate,
  "blamed_rule": _blamed_rule,
  "on_a_kink": _on_a_kink,
  "undecided": _undecided,
  "not_finite": _not_finite,
}


def printed(report):
  """Prints a report in each format, without the digits that rounding decides."""
  texts = {
    "txt": to_text(report.to_document(), width=100) + "\n",
    "html": to_html(report.to_document()),
    "json": report.to_json().replace(", ", ",\n").replace(str(FOLDER.parent), "/tests") + "\n",
  }
  return {kind: _without_rounding(text) for kind, text in texts.items()}


def _without_rounding(text):
  # The style of pages has tests of its own.
  text = re.sub(r"(<style>).*?(</style>)", r"\1\2", text, flags=re.DOTALL)
  # Where a curve runs below the bounds is rounding, and moves the axes.
  text = re.sub(r'(<svg class="kinkopt-chart").*?</svg>', r"\1 />", text, flags=re.DOTALL)
  return re.sub(r"\b\d+\.?\d*(?:e-\d+)?\b", _short, text)


def _short(match):
  """Keeps what a person reads, and of what is far below the bounds that it is."""
  text = match.group()
  number, is_short = float(text), "e-" not in text and len(text) < 11
  if is_short or text in ("1e-7", "1e-4", "1e-2"):
    return text
  return "tiny" if number < 1e-8 else "small" if number < 1e-6 else f"{number:.2g}"
