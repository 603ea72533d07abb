"""Crossings are counted as one would by hand: per winner, per unit, with the user's line."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from kinkopt import kinks
from kinkopt.kinks import crossings

DEPTH, WIDTH, BATCH = 3, 7, 11


def _network(params, x):
  for i, (w, b) in enumerate(params):
    with jax.named_scope(f"layer{i}"):
      x = jax.nn.relu(x @ w + b)
  return x.sum()


def _params(key):
  keys = jax.random.split(key, (DEPTH, 2))
  return [
    (jax.random.normal(k[0], (WIDTH, WIDTH)), jax.random.normal(k[1], (WIDTH,))) for k in keys
  ]


def _signs(params, x):
  """The activation pattern of each layer, in NumPy."""
  found = []
  for w, b in params:
    before = np.asarray(x, np.float64) @ np.asarray(w, np.float64) + np.asarray(b, np.float64)
    found.append(before > 0)
    x = np.maximum(before, 0)
  return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_a_count_by_hand(seed, dtype):
  keys = jax.random.split(jax.random.key(seed), 3)
  x = jax.random.normal(keys[0], (BATCH, WIDTH), dtype)
  a = jax.tree.map(lambda p: p.astype(dtype), _params(keys[1]))
  b = jax.tree.map(lambda p, d: (p + 0.3 * d).astype(dtype), a, _params(keys[2]))
  found = jax.jit(lambda a, b: crossings(_network, (a, x), (b, x)))(a, b)
  by_hand = [(s != t).sum() for s, t in zip(_signs(a, x), _signs(b, x))]
  assert sum(by_hand) > 10
  assert [int(c.changed) for c in found] == by_hand
  assert [int(c.total) for c in found] == [BATCH * WIDTH] * DEPTH
  assert [c.site.name_stack for c in found] == [f"layer{i}" for i in range(DEPTH)]


def test_a_site_names_the_users_line_at_each_call():
  def twice(x):
    y = jax.nn.relu(x)
    return jax.nn.relu(y - 1.0)

  _, start = inspect.getsourcelines(twice)
  x = jnp.array([0.5, 2.0])
  found = crossings(twice, (x,), (-x,))
  assert [(c.site.primitive, c.site.line - start) for c in found] == [("max", 1), ("max", 2)]
  assert all(c.site.file == __file__ for c in found)
  assert str(found[0]) == f"max (test_crossings.py:{start + 1}): 2 of 2 (100.0%)"


def test_a_line_inside_a_users_jitted_function_is_that_line():
  @jax.jit
  def inner(x):
    return jnp.abs(x)

  _, start = inspect.getsourcelines(inner)
  (first, second) = crossings(lambda x: inner(inner(x) - 1.0), (jnp.ones(2),), (jnp.ones(2),))
  assert first.site.line == second.site.line == start + 2
  assert first.site != second.site


def _table(found):
  return [(c.site.primitive, int(c.changed), int(c.total)) for c in found]


CASES = {
  "sort": (jnp.sort, [1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [("sort", 2, 3)]),
  "top_k": (lambda x: lax.top_k(x, 2)[0], [1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [("top_k", 2, 2)]),
  "reduce_max": (jnp.max, [1.0, 2.0, 3.0], [5.0, 2.0, 3.0], [("reduce_max", 1, 1)]),
  "leaving a tie": (jnp.max, [3.0, 2.0, 3.0], [4.0, 2.0, 3.0], [("reduce_max", 1, 1)]),
  "cummax": (lax.cummax, [1.0, 0.0, 3.0], [1.0, 2.0, 3.0], [("cummax", 1, 3)]),
  "floor": (jnp.floor, [1.5, 2.5], [1.6, 3.5], [("floor", 1, 2)]),
  "clamp": (lambda x: lax.clamp(0.0, x, 1.0), [0.5, 2.0], [1.5, 3.0], [("clamp", 1, 2)]),
  "to integers": (
    lambda x: x.astype("int32"),
    [1.5, 2.5],
    [1.6, 3.5],
    [("convert_element_type", 1, 2)],
  ),
  "pooling": (
    lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "VALID"),
    [1.0, 2.0, 0.0],
    [1.0, 0.5, 0.0],
    [("reduce_window_max", 1, 2)],
  ),
  "scan": (
    lambda x: lax.scan(lambda c, a: (jnp.maximum(c, a), None), x[0], x)[0],
    [0.0, 1.0, 2.0],
    [0.0, -1.0, 2.0],
    [("max", 1, 3)],
  ),
  "the same branch": (
    lambda x: lax.cond(x[0] > 0, jnp.abs, lambda x: jnp.maximum(x, 0.0), x),
    [1.0, 1.0],
    [1.0, -1.0],
    [("gt", 0, 1), ("cond", 0, 1), ("max", 0, 0), ("abs", 1, 2)],
  ),
  "another branch": (
    lambda x: lax.cond(x[0] > 0, jnp.abs, lambda x: jnp.maximum(x, 0.0), x),
    [1.0, 1.0],
    [-1.0, -1.0],
    [("gt", 1, 1), ("cond", 1, 1), ("max", 0, 0), ("abs", 0, 0)],
  ),
  "another trip count": (
    lambda x: lax.while_loop(lambda s: s[0] < 8, lambda s: 2 * jnp.maximum(s, 0.0), x),
    [1.0, -1.0],
    [3.0, -1.0],
    [("while", 1, 1), ("max", 0, 4)],  # two turns in common, of two units
  ),
  "a batch of trip counts": (
    jax.vmap(lambda x: lax.while_loop(lambda s: s < 8, lambda s: 2 * s, x)),
    [1.0, 3.0],
    [3.0, 3.0],
    [("while", 1, 2)],
  ),
  "an index that moves": (
    lambda x: x[jnp.argmax(x)],
    [1.0, 2.0],
    [2.0, 1.0],
    [("argmax", 1, 1), ("lt", 0, 1)],
  ),
}


@pytest.mark.parametrize(("fun", "a", "b", "expected"), CASES.values(), ids=CASES)
def test_each_kind_of_winner_counts_its_units(fun, a, b, expected):
  found = crossings(fun, (jnp.array(a),), (jnp.array(b),))
  assert [row for row in _table(found) if row[0] != "lt"] == [r for r in expected if r[0] != "lt"]


@pytest.mark.parametrize(("fun", "a", "b", "expected"), CASES.values(), ids=CASES)
def test_it_is_symmetric_and_counts_nothing_between_a_point_and_itself(fun, a, b, expected):
  there = _table(crossings(fun, (jnp.array(a),), (jnp.array(b),)))
  back = _table(crossings(fun, (jnp.array(b),), (jnp.array(a),)))
  assert there == back
  assert all(n == 0 for _, n, _ in _table(crossings(fun, (jnp.array(a),), (jnp.array(a),))))


def test_many_points_at_once():
  a = jnp.array([[1.0, -1.0], [1.0, 1.0]])
  count = jax.vmap(lambda a, b: crossings(jax.nn.relu, (a,), (b,)))
  (relu,) = count(a, -a * jnp.array([1.0, -1.0]))
  np.testing.assert_array_equal(relu.changed, [1, 1])


def test_only_the_chosen_arguments_differ():
  a, b = (jnp.ones(3), jnp.ones(3)), (jnp.ones(3), -jnp.ones(3))
  found = crossings(lambda x, y: jnp.abs(x * y), a, b, argnums=0)
  assert _table(found) == [("abs", 0, 3)]


def test_a_tree_that_differs_is_named():
  with pytest.raises(ValueError, match=r"`crossings`.*second point's argument.*`\['w'\]`"):
    crossings(lambda p: jnp.abs(p["w"]), ({"w": jnp.ones(2)},), ({"v": jnp.ones(2)},))


@pytest.mark.parametrize("name", ["args_a", "args_b"])
def test_an_array_is_not_taken_for_its_rows(name):
  given = {"args_a": (jnp.ones(2),), "args_b": (jnp.ones(2),), name: jnp.ones(2)}
  with pytest.raises(TypeError, match=rf"`crossings` takes all.*`{name}`.*write `\({name},\)`"):
    crossings(jnp.abs, given["args_a"], given["args_b"])


def test_an_argument_too_few_is_named():
  with pytest.raises(ValueError, match=r"`crossings` was given 1 arguments.*traced with 2"):
    crossings(lambda x, y: jnp.abs(x * y), (jnp.ones(2), jnp.ones(2)), (jnp.ones(2),))


def test_a_mesh_is_refused():
  mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  spec = jax.sharding.PartitionSpec("d")
  mapped = jax.shard_map(jax.nn.relu, mesh=mesh, in_specs=spec, out_specs=spec)
  with pytest.raises(NotImplementedError, match=r"`max.*` stands inside `shard_map`"):
    crossings(mapped, (jnp.ones(4),), (-jnp.ones(4),))
  moved = -2 * jnp.ones(4)
  np.testing.assert_array_equal(kinks.freeze(mapped, jnp.ones(4))(moved), moved)
