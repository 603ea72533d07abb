"""What a history shows, draws and sends."""

import io
import re
import struct

import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
import tensorboardX
from tensorboardX.proto.event_pb2 import Event

from kinkopt.monitor import History, UpdateRatioState, band, live, tensorboard, wandb
from kinkopt.render import to_html


def a_history(ratios, names=None, **rows):
  ratios = np.asarray(ratios, float)
  names = names or tuple(f"['p{k}']" for k in range(ratios.shape[1]))
  state = UpdateRatioState(np.ones_like(ratios), ratios)
  return History(np.arange(1, len(ratios) + 1) * 10, names, {"update_ratio": state, **rows})


def test_the_table_puts_what_needs_looking_at_first():
  found = a_history([[1, 1, 1, 1], [1e-3, np.nan, 1e-5, 0.5]])
  rows = found.table().rows
  assert [row[0] for row in rows] == ["['p1']", "['p3']", "['p0']", "['p2']"]
  assert [row[-1] for row in rows] == ["not finite", "too large", "healthy", "too small"]
  assert "Step 20; all leaves:" in str(found)
  assert str(found).count("\n") == 7
  assert re.fullmatch(r"<History: steps \d+ to 20, 4 leaves>", repr(found))


def test_before_the_first_step_it_says_so():
  found = a_history(np.zeros((0, 2)))
  assert "No step has been measured yet." in str(found)
  assert found.send(print) == 0
  assert repr(found) == "<History: no step, 2 leaves>"


def test_the_chart_shows_every_leaf_or_the_outermost():
  few = a_history(np.full((5, 3), 1e-3)).chart()
  assert [series.label for series in few.series] == ["['p0']", "['p1']", "['p2']"]
  assert few.log_y
  assert (few.bands[0].low, few.bands[0].high) == (1e-4, 1e-2)
  for edge in (few.bands[0].low, few.bands[0].high):
    assert band(edge).name == "HEALTHY"
  assert band(1.01 * few.bands[0].high).name == "TOO_LARGE"
  assert band(0.99 * few.bands[0].low).name == "TOO_SMALL"
  many = a_history(np.tile(np.arange(1, 101) * 1e-4, (5, 1))).chart()
  labels = [series.label for series in many.series]
  assert labels[:4] == [f"['p{k}']" for k in range(4)]
  assert labels[4:8] == [f"['p{k}']" for k in range(96, 100)]
  assert labels[8:] == ["all 100 leaves"]


def test_it_draws_and_prints_html(tmp_path):
  found = a_history([[1e-3, 0], [np.nan, np.inf], [1e-4, 1e-2]])
  path = tmp_path / "ratios.png"
  found.plot(path)
  assert path.read_bytes().startswith(b"\x89PNG")
  assert "['p0']" in to_html(found.document()).replace("&#x27;", "'")
  assert "<table" in found._repr_html_()


def events(folder):
  """Reads the scalars of TensorBoard's files: records of length, checksum, data, checksum."""
  for file in folder.iterdir():
    data = io.BytesIO(file.read_bytes())
    while head := data.read(12):
      event = Event.FromString(data.read(struct.unpack("<Q", head[:8])[0]))
      data.read(4)
      for value in event.summary.value:
        yield value.tag, event.step, value.simple_value


def test_tensorboard_gets_every_number_once(tmp_path):
  ratios = [[1e-3, 2e-3], [3e-3, 4e-3], [5e-3, 6e-3]]
  found = a_history(ratios, names=("a", "b"), learning_rate=np.array([0.1, 0.2, 0.3]))
  with tensorboardX.SummaryWriter(str(tmp_path)) as writer:
    sink = tensorboard(writer, "monitor/")
    after = found.send(sink)
    assert after == 30
    assert found.send(sink, after=after) == 30
  seen = list(events(tmp_path))
  assert [(s, v) for t, s, v in seen if t == "monitor/ratio/b"] == [
    (10, pytest.approx(2e-3)),
    (20, pytest.approx(4e-3)),
    (30, pytest.approx(6e-3)),
  ]
  assert {tag for tag, _, _ in seen} == {
    "monitor/learning_rate",
    "monitor/ratio/a",
    "monitor/ratio/b",
    "monitor/ratio/overall",
    *(
      f"monitor/update_ratio/{scale}_scale/{leaf}" for scale in ("param", "update") for leaf in "ab"
    ),
  }
  assert len(seen) == 8 * 3


def test_flax_names_the_method_otherwise():
  seen = []

  class Writer:
    def scalar(self, tag, value, step):
      seen.append((tag, value, step))

  tensorboard(Writer())(3, {"x": 0.5})
  assert seen == [("x", 0.5, 3)]


def test_wandb_gets_a_step_at_a_time():
  class Run:
    def __init__(self):
      self.seen = []

    def log(self, values, step):
      self.seen.append((step, values))

  run = Run()
  a_history([[1e-3], [2e-3]], names=("w",)).send(wandb(run, "m/"), after=10)
  ((step, values),) = run.seen
  assert step == 20
  assert values["m/ratio/w"] == 2e-3


@pytest.mark.parametrize("adapter", [tensorboard, wandb])
def test_what_cannot_write_is_refused(adapter):
  with pytest.raises(TypeError, match=r"must have .*but dict has"):
    adapter({})


def test_the_live_table_shows_the_last_history():
  out = io.StringIO()
  with live(rich.console.Console(file=out, width=80)) as show:
    show(a_history([[1e-3]]))
    show(a_history([[0.5]]))
  assert "too large" in out.getvalue()
  assert "healthy" not in out.getvalue()  # no terminal: only the last one is printed


def test_numbers_that_are_no_vector_of_leaves_are_numbered():
  found = History(np.array([1, 2]), ("a",), {"x": np.zeros((2, 3)), "y": np.ones(2)})
  assert sorted(found.values()) == ["x/0", "x/1", "x/2", "y"]
  assert found.send(lambda step, values: None) == 2
  assert jnp.ndim(found.values()["y"]) == 1
