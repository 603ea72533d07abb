"""The demo's first question: is the gradient of the network's loss right?

The textbook check, coordinate by coordinate in float64, told with what it cannot do: a plain
difference may step over a kink of the ReLU, and it drowns in rounding where the gradient is tiny.
So a coordinate is called wrong only if its error is above rounding and stays when the step shrinks.
The check must also catch an error planted on purpose, or its silence would mean nothing.
"""

import collections
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kinkopt._coordinates import coordinate_name
from kinkopt._numerics import machine_eps
from kinkopt.cli._console import Console
from kinkopt.cli._data import Data
from kinkopt.cli._network import Params, init_network, loss
from kinkopt.gradcheck import Verdict, numerical_gradient, relative_error, verdict
from kinkopt.render import Column, Heading, Table, Text, Tone

IMAGES = 8  # each image adds 32 kinks: few of them keep the plain difference honest
STEP = 1e-5  # the class notes' h
FINE_STEP = 1e-7  # a kink is a hundred times less likely to lie within it
# A loss of some thousand operations is off by a few roundings, not by one.
_ROUNDINGS = 10
# One error from each rung of the notes' ladder, and how the table names the rung.
_RUNGS = {
  0.0: "up to 1e-7",
  1e-5: "1e-7 to 1e-4",
  1e-3: "1e-4 to 1e-2",
  1.0: "above 1e-2",
  math.nan: "not finite",
}
_TONES = (Tone.GOOD, Tone.PLAIN, Tone.WARN, Tone.BAD, Tone.BAD)


class _Look(NamedTuple):
  """A numerical gradient beside the analytic one, as flat vectors."""

  step: float
  numerical: np.ndarray
  error: np.ndarray


class GradientCheck:
  """Differences of one loss at one point, compared with any gradient offered for it."""

  def __init__(self, params: Params, images: np.ndarray, labels: np.ndarray) -> None:
    self.params = params
    self.num_images = len(images)
    batch = jnp.asarray(images), jnp.asarray(labels)
    self._loss = lambda params: loss(params, *batch)
    self.value, self.gradient = jax.jit(jax.value_and_grad(self._loss))(params)
    # The step is an argument, so that both steps are one compilation.
    self._difference = {
      "centered": jax.jit(lambda h: numerical_gradient(self._loss, step=h)(params)),
      "forward": jax.jit(
        lambda h: numerical_gradient(self._loss, scheme="forward", step=h)(params)
      ),
    }

  def look(self, gradient: Params, scheme: str = "centered", step: float = STEP) -> _Look:
    """Compares a gradient with a difference of the loss."""
    numerical = self._difference[scheme](step)
    return _Look(step, _flat(numerical), _flat(relative_error(gradient, numerical)))

  def floor(self, step: float) -> float:
    """What rounding alone may do to a centered difference, in the unit of the gradient."""
    return _ROUNDINGS * machine_eps(np.float64) * abs(float(self.value)) / step

  def find_wrong(self, gradient: Params) -> list[int]:
    """Lists the coordinates that are wrong at both steps, and by more than rounding."""
    wrong = set(range(_flat(gradient).size))
    for step in (STEP, FINE_STEP):
      look = self.look(gradient, step=step)
      difference = np.abs(_flat(gradient) - look.numerical)
      wrong &= {
        int(index)
        for index in np.flatnonzero(~(difference <= self.floor(step)))
        if verdict(look.error[index], kinks=True) in (Verdict.WRONG, Verdict.NOT_FINITE)
      }
      if not wrong:
        break
    return sorted(wrong)


def check_network(data: Data, seed: int, console: Console) -> bool:
  """Checks the network's gradient, shows what was seen, and plants an error to be found.

  Args:
    data: where the images come from.
    seed: decides the weights.
    console: where to show it.

  Returns:
    Whether the gradient passed, and the planted error and nothing else was found.
  """
  with jax.enable_x64(True):
    params = init_network(data.num_features, data.num_classes, seed)
    # Biases off zero: at zero, an image without ink would put every unit exactly on its kink.
    bias = np.random.default_rng(seed).normal(scale=0.1, size=params["hidden"]["bias"].shape)
    params["hidden"]["bias"] = bias
    check = GradientCheck(
      jax.tree.map(jnp.asarray, params),
      data.split.train_images[:IMAGES],
      data.split.train_labels[:IMAGES],
    )
    with console.progress("gradient check", total=None):
      wrong = check.find_wrong(check.gradient)
      looks = {scheme: check.look(check.gradient, scheme) for scheme in ("centered", "forward")}
    _show_ladder(check, looks, console)
    _show_verdict(check, wrong, console)
    return _plant(check, wrong, console) and not wrong


def _show_ladder(check: GradientCheck, looks: dict[str, _Look], console: Console) -> None:
  widths = "-".join(map(str, _widths(check.params)))
  console.show(
    Heading("Is the gradient right?"),
    Text(
      f"The loss of a {widths} ReLU network on {check.num_images} images has "
      f"{_flat(check.gradient).size:,} coordinates. Each is moved by h = {STEP:g} in float64, and "
      "the difference is compared with jax.grad. The ladder counts coordinates:"
    ),
    _ladder(check, looks),
    Text(_worst(check, looks["centered"])),
    Text(
      "The zeros are pixels without ink and units that are off. The one-sided formula errs in "
      "proportion to h, which is why the notes call it not good; either one may step over a kink "
      "of the ReLU, so what looks wrong is looked at again with a smaller h."
    ),
  )


def _ladder(check: GradientCheck, looks: dict[str, _Look]) -> Table:
  zeros, counts = [], []
  for look in looks.values():
    is_zero = (_flat(check.gradient) == 0) & (look.numerical == 0)
    zeros.append(int(is_zero.sum()))
    counts.append(collections.Counter(verdict(e, kinks=True) for e in look.error[~is_zero]))
  rows: list[tuple] = [("none: both exactly 0", *zeros, None)]
  tones = [Tone.FAINT]
  for (error, label), tone in zip(_RUNGS.items(), _TONES):
    rung = verdict(error, kinks=True)
    numbers = [count[rung] for count in counts]
    if math.isfinite(error) or any(numbers):
      rows.append((label, *numbers, rung.words))
      tones.append(tone)
  columns = ("relative error", "(f(x+h)-f(x-h))/2h", "(f(x+h)-f(x))/h", "the notes say")
  return Table(tuple(map(Column, columns)), tuple(rows), tones=tuple(tones))


def _worst(check: GradientCheck, look: _Look) -> str:
  gradient = _flat(check.gradient)
  worst = int(np.argmax(look.error))
  floor = check.floor(STEP) / _ROUNDINGS
  drowned = int(np.sum((np.abs(gradient) < floor / 1e-7) & (gradient != 0)))
  whole = np.linalg.norm(gradient - look.numerical) / np.linalg.norm(gradient)
  return (
    f"Worst coordinate of the centered difference: {coordinate_name(check.params, worst)}, "
    f"relative error {look.error[worst]:.1e} ({gradient[worst]:.6e} by jax.grad, "
    f"{look.numerical[worst]:.6e} by difference). Rounding alone disturbs a difference by about "
    f"{floor:.0e}, so {drowned:,} coordinates with a gradient below {floor / 1e-7:.0e} may miss "
    f"1e-7 without any fault. All coordinates as one vector agree to {whole:.1e}."
  )


def _show_verdict(check: GradientCheck, wrong: list[int], console: Console) -> None:
  if wrong:
    names = ", ".join(coordinate_name(check.params, index) for index in wrong[:5])
    console.show(
      Text(
        f"FAILED: {len(wrong)} coordinate{'s are' if len(wrong) > 1 else ' is'} wrong by more than "
        f"rounding at h = {STEP:g} and at h = {FINE_STEP:g}: {names}{' ...' * (len(wrong) > 5)}.",
        Tone.BAD,
      )
    )
  else:
    console.show(
      Text("PASSED: no coordinate is wrong by more than rounding and kinks explain.", Tone.GOOD)
    )


def _plant(check: GradientCheck, already_wrong: list[int], console: Console) -> bool:
  """Doubles the largest entry of the output's bias gradient, and looks whether it is found."""
  bias = np.array(check.gradient["output"]["bias"])
  entry = int(np.argmax(np.abs(bias)))
  bias[entry] *= 2
  planted = {**check.gradient, "output": {**check.gradient["output"], "bias": jnp.asarray(bias)}}
  found = [index for index in check.find_wrong(planted) if index not in already_wrong]
  names = [coordinate_name(check.params, index) for index in found]
  name = f"['output']['bias'][{entry}]"
  caught = names == [name]
  console.show(
    Text(
      f"Can the check fail? The gradient at {name} was doubled on purpose, and the check "
      + (
        f"named {names[0]} and no other: relative error {check.look(planted).error[found[0]]:.2f}."
        if caught
        else f"did NOT find it: it named {', '.join(names) or 'nothing'}."
      ),
      Tone.GOOD if caught else Tone.BAD,
    )
  )
  return caught


def _flat(tree: Any) -> np.ndarray:
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _widths(params: Params) -> list[int]:
  features, hidden = params["hidden"]["weights"].shape
  return [features, hidden, params["output"]["weights"].shape[1]]
