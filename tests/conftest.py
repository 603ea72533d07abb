"""One setting for every test: the CPU, eight virtual devices of it, and 64 bits on."""

import collections
import gc
import itertools
import logging
import os
import pathlib
import sys

# Read once, when JAX makes its backend: must come before the first use of JAX. On a machine with a
# GPU the tests would otherwise find one device, and other roundings than the tolerances expect.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
import pytest

jax.config.update("jax_enable_x64", True)


# Three quarters of the time go into compiling, and much of that into making programs fast that run
# once.
COMPILE_FAST = "--xla_backend_optimization_level=0"


# Of a test with many cases, the share that runs by default.
ONE_IN = 16
AT_LEAST = 2


def pytest_addoption(parser):
  parser.addoption(
    "--all", action="store_true", help="run the slow cases too, compiled as for users"
  )
  parser.addoption(
    "--turn", type=int, default=0, metavar="N",
    help=f"of tests with many cases run another one in {ONE_IN}: those N further on",
  )  # fmt: skip
  parser.addoption(
    "--update-goldens", action="store_true", help="write the expected reports anew, to be looked at"
  )
  parser.addoption(
    "--optimize", action="store_true",
    help="have XLA optimize programs, as it does for users, without `--all` too",
  )  # fmt: skip


def pytest_configure(config):
  config.addinivalue_line("markers", "slow: one of many cases of a test; run by `--all`")
  if not (config.getoption("--optimize") or config.getoption("--all")):
    os.environ["XLA_FLAGS"] += f" {COMPILE_FAST}"


def pytest_collection_modifyitems(config, items):
  """Marks as slow, of a test with many cases, all but some that are spread over its table.

  Never a whole test, nor any of the house's, which run in no time.
  """
  tests = collections.defaultdict(list)
  for item in items:
    name = item.nodeid.partition("[")[0]
    tests[item.nodeid if "test_house" in name else name].append(item)
  for cases in tests.values():
    count = max(min(AT_LEAST, len(cases)), -(-len(cases) // ONE_IN))
    turn = config.getoption("--turn")
    kept = {(turn + i * len(cases) // count) % len(cases) for i in range(count)}
    for number, item in enumerate(cases):
      if number not in kept:
        item.add_marker("slow")
  if not config.getoption("--all"):
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(autouse=True)
def _settings_are_left_as_found():
  """A test that changes a setting of JAX and leaves it so would decide the fate of later ones."""
  before = dict(jax.config.values)
  yield
  after = jax.config.values
  assert {name for name in before if before[name] != after[name]} == set()


MAPPINGS = pathlib.Path("/proc/self/maps")  # where there is no Linux, there is no such limit
ENDED = itertools.count(1)


@pytest.fixture(autouse=True)
def _compiled_programs_are_forgotten_in_time():
  """Linux lets a process map memory 65,530 times, a program of XLA takes a few, and beyond it dies.

  Seen as a segmentation fault in the compiler after some six thousand tests.
  """
  yield
  if next(ENDED) % 50 == 0 and MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > 20_000:
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def compilations():
  """Counts what XLA compiles: a function from the name of a jitted function to a number.

  Not `_cache_size`, which is 0 once a process has made 8,192 jitted functions, as all tests do.
  """
  seen = []
  handler = logging.Handler()
  handler.emit = lambda record: seen.append(record.getMessage())
  logger = logging.getLogger("jax")
  logger.addHandler(handler)
  jax.config.update("jax_log_compiles", True)  # in all threads, unlike `jax.log_compiles()`
  yield lambda name: sum(f"XLA compilation of jit({name}) " in message for message in seen)
  jax.config.update("jax_log_compiles", False)
  logger.removeHandler(handler)


@pytest.fixture
def without_rich(monkeypatch):
  """As if rich, which is an extra, were not installed."""
  for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setitem(sys.modules, "rich", None)
