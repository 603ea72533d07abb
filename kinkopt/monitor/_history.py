"""The last steps, on the host: to be read, drawn, printed and sent on."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from kinkopt._coordinates import leaf_names
from kinkopt.monitor._band import RatioBand, band
from kinkopt.monitor._record import RecordState
from kinkopt.monitor._sums import states_of, unfolded
from kinkopt.monitor._update_ratio import UpdateRatioState
from kinkopt.render import (
  Band,
  Chart,
  Column,
  Document,
  Series,
  Table,
  Tone,
  save_chart,
  to_html_fragment,
  to_text,
)

# As many curves can be told apart; of more leaves, the largest and the smallest are drawn.
MOST_CURVES = 8
_TONES = {RatioBand.HEALTHY: Tone.GOOD, RatioBand.NOT_FINITE: Tone.BAD}

Sink = Callable[[int, Mapping[str, float]], Any]


@dataclasses.dataclass(frozen=True, repr=False)
class History:
  """What was measured in some steps, oldest first, all NumPy; `history` makes it.

  `print` shows the last step, a notebook the same with colours; `chart` and `plot` draw.

  Attributes:
    steps: int[n]; the number of each step, from 1.
    names: of the leaves.
    rows: what `record` read, each array with a leading axis of `n`.
  """

  steps: np.ndarray
  names: tuple[str, ...]
  rows: Any

  @property
  def ratio(self) -> np.ndarray:
    """The ratio update : parameters, `float[n, n_leaves]`; see `UpdateRatioState.ratio`.

    Raises:
      ValueError: if no `update_ratio` was recorded.
    """
    return np.asarray(self._measured.ratio)

  @property
  def overall(self) -> np.ndarray:
    """The ratio of all leaves together, `float[n]`."""
    return np.asarray(self._measured.overall)

  @property
  def _measured(self) -> UpdateRatioState:
    found = states_of(UpdateRatioState, self.rows)
    if not found:
      raise ValueError(
        "This history has no ratios, because `record` kept none. Put "
        "`kinkopt.monitor.update_ratio()` into the chain that is recorded."
      )
    return found[-1][1]

  def values(self) -> dict[str, np.ndarray]:
    """Gives every number by its name, `float[n]` each: what sinks get.

    Names are paths such as `ratio/['w']` and `ratio/overall`; `leaf_stats/zeros/['w']`;
    `learning_rate`.
    """
    found: dict[str, np.ndarray] = {}
    for path, array in jax.tree_util.tree_leaves_with_path(self.rows):
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      flat = np.asarray(array).reshape(len(self.steps), math.prod(np.shape(array)[1:]))
      if flat.shape[1] == len(self.names) and np.ndim(array) > 1:
        found |= {f"{name}/{leaf}": flat[:, k] for k, leaf in enumerate(self.names)}
      elif flat.shape[1] == 1:
        found[name] = flat[:, 0]
      else:
        found |= {f"{name}/{k}": flat[:, k] for k in range(flat.shape[1])}
    if any(name.startswith("update_ratio") for name in found):
      found |= {f"ratio/{leaf}": ratio for leaf, ratio in zip(self.names, self.ratio.T)}
      found["ratio/overall"] = self.overall
    return found

  def send(self, sink: Sink, *, after: int = 0) -> int:
    """Calls `sink(step, {name: number})` for each step, oldest first.

    Args:
      sink: any function, such as those of `tensorboard` and `wandb`.
      after: only steps with a larger number are sent: the result of the last call.

    Returns:
      The number of the last step, to be passed as `after` the next time.
    """
    values = self.values()
    for index, step in enumerate(self.steps.tolist()):
      if step > after:
        sink(step, {name: float(column[index]) for name, column in values.items()})
        after = step
    return after

  def table(self) -> Table:
    """Tells the last step, largest ratio first."""
    if len(self.steps) == 0:
      return Table(_COLUMNS, (), "No step has been measured yet.")
    ratios, measured = self.ratio[-1], self._measured
    bands = [band(float(ratio)) for ratio in ratios]
    order = np.argsort(-np.nan_to_num(ratios, nan=np.inf), kind="stable")
    rows = tuple(
      (
        self.names[k],
        float(ratios[k]),
        float(measured.param_scale[-1][k]),
        float(measured.update_scale[-1][k]),
        bands[k].words,
      )
      for k in order
    )
    tones = tuple(_TONES.get(bands[k], Tone.WARN) for k in order)
    caption = f"Step {self.steps[-1]:,}; all leaves: {self.overall[-1]:.1e}"
    return Table(_COLUMNS, rows, caption, tones)

  def chart(self) -> Chart:
    """Gives the ratios over the steps, on a logarithmic axis, with the healthy band shaded."""
    ratios, chosen = self.ratio, np.arange(len(self.names))
    if len(self.names) > MOST_CURVES:
      with np.errstate(all="ignore"):
        sizes = np.nanmedian(np.where(ratios > 0, ratios, np.nan), axis=0)
      order = np.argsort(np.nan_to_num(sizes))
      half = MOST_CURVES // 2
      chosen = np.sort(np.concatenate([order[:half], order[-half:]]))
    steps = tuple(map(float, self.steps))
    series = [Series(self.names[k], steps, tuple(map(float, ratios[:, k]))) for k in chosen]
    if len(chosen) < len(self.names):
      series.append(Series(f"all {len(self.names)} leaves", steps, tuple(map(float, self.overall))))
    return Chart(
      title="Size of the updates beside the parameters",
      x_label="step",
      y_label="update : parameters",
      series=tuple(series),
      log_y=True,
      bands=(Band(1e-4, 1e-2, "about 1e-3"),),
    )

  def document(self) -> Document:
    """Gives the last step and the curves, for the printers of `kinkopt.render`."""
    return Document("Update : parameters", (self.table(), self.chart()))

  def plot(self, path: str | os.PathLike[str]) -> None:
    """Draws `chart` into a file. Needs `pip install "kinkopt[cli]"`.

    Args:
      path: its ending gives the form, such as `.png` or `.svg`.
    """
    save_chart(self.chart(), path)

  def __repr__(self) -> str:
    ends = f"steps {self.steps[0]} to {self.steps[-1]}" if len(self.steps) else "no step"
    return f"<{type(self).__name__}: {ends}, {len(self.names)} leaves>"

  def __str__(self) -> str:
    return to_text(self.table())

  def _repr_html_(self) -> str:
    return to_html_fragment(self.document())


_COLUMNS = (
  Column("leaf"),
  Column("ratio", ".1e"),
  Column("parameters", ".2g"),
  Column("updates", ".2g"),
  Column("verdict"),
)


def history(opt_state: optax.OptState, params: optax.Params) -> History:
  """Brings what `record` remembers to the host, in one transfer.

  Args:
    opt_state: any optimizer state that holds that of one `record`.
    params: the parameters, or anything with their tree: only the paths of its leaves are used.

  Returns:
    A `History` of as many steps as have been measured, `length` at most.

  Raises:
    ValueError: if there is no state of `record`, or more than one, or if it is one of a population.
    TypeError: under `jit`, where there are no numbers yet.

  Example:
    >>> import jax.numpy as jnp
    >>> import kinkopt, optax
    >>> tx = optax.chain(kinkopt.rules.sgd(1e-3), kinkopt.monitor.update_ratio())
    >>> tx = kinkopt.monitor.record(tx, length=100)
    >>> params = {"b": jnp.ones(2), "w": jnp.array([3.0, 4.0])}
    >>> _, state = tx.update({"b": jnp.zeros(2), "w": params["w"]}, tx.init(params), params)
    >>> print(kinkopt.monitor.history(state, params))
    leaf     ratio  parameters  updates  verdict
    ----------------------------------------------
    ['w']  1.0e-03           5    0.005  healthy
    ['b']  0.0e+00         1.4        0  too small
    <BLANKLINE>
    Step 1; all leaves: 9.6e-04

  References:
    CS231n notes, "Ratio of weights:updates".
  """
  found = states_of(RecordState, opt_state)
  if len(found) != 1:
    raise ValueError(
      f"`history` needs the state of one `kinkopt.monitor.record`, but {len(found)} are in the "
      f"{type(opt_state).__name__} it was given. Pass the state of "
      "`record(tx, length)`, or the one of several that you mean."
    )
  ((_, state),) = found
  if isinstance(state.position, jax.core.Tracer):
    raise TypeError(
      "`history` brings numbers to the host, but its state is being traced and has none yet. "
      "Return the state from the traced function, and read it outside."
    )
  if np.ndim(state.position) > 0:
    raise ValueError(
      f"`history` tells of one model, but this is a population of shape "
      f"{np.shape(state.position)}. Take one member first: "
      "`jax.tree.map(lambda leaf: leaf[0], opt_state)`."
    )
  rows, position, steps = jax.device_get((state.rows, state.position, state.steps))
  order = np.roll(np.arange(len(steps)), -int(position))
  order = order[steps[order] > 0]
  return History(
    steps[order],
    tuple(leaf_names(unfolded(params))),
    jax.tree.map(lambda array: array[order], rows),
  )
