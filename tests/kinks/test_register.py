"""A primitive of one's own: opaque until its rule is known, then like any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

from kinkopt.kinks import (
  PrimitiveClass,
  Winner,
  classify,
  crossings,
  declare_smooth,
  freeze,
  register,
  sites,
)


def _primitive(name, fun):
  primitive = Primitive(name)
  primitive.def_impl(fun)
  primitive.def_abstract_eval(lambda x: jax.core.ShapedArray(x.shape, x.dtype))
  mlir.register_lowering(primitive, mlir.lower_fun(fun, multiple_results=False))
  ad.defjvp(primitive, lambda tangent, x: tangent)
  return primitive


def _shrunk(x):
  return jnp.sign(x) * jnp.maximum(jnp.abs(x) - 1.0, 0.0)


soft_threshold = _primitive("soft_threshold", _shrunk)
cube = _primitive("cube", lambda x: x**3)
unknown = _primitive("unknown", lambda x: x**3)


@register(soft_threshold)
class _SoftThreshold(Winner):
  def decide(self, call, point, rates):
    return jnp.sign(point[0]) * (jnp.abs(point[0]) > 1)

  def follow(self, call, decision, point, moved):
    return [jnp.where(decision == 0, 0.0, moved[0] - decision)]

  def margins(self, call, decision, point):
    return jnp.abs(point[0])[..., None] - 1


def test_a_winner_of_ones_own_is_frozen_counted_and_surveyed():
  x = jnp.array([-3.0, 0.5, 2.0])
  frozen = freeze(soft_threshold.bind, x)
  assert frozen.opaque == ()
  np.testing.assert_array_equal(frozen(x), _shrunk(x))
  np.testing.assert_array_equal(frozen(-x), [4.0, 0.0, -3.0])
  (crossing,) = crossings(soft_threshold.bind, (x,), (-x,))
  assert (crossing.site.primitive, crossing.changed, crossing.total) == ("soft_threshold", 2, 3)
  (status,) = sites(soft_threshold.bind, x, toward=jnp.ones(3))
  assert status.distance == 0.5


def test_an_unknown_primitive_is_listed_until_it_is_declared():
  x = jnp.array([1.0, 2.0], "float32")
  assert freeze(unknown.bind, x).opaque == ("unknown",) or freeze(unknown.bind, x).opaque[
    0
  ].startswith("unknown (")
  assert freeze(cube.bind, x).opaque[0].startswith("cube")
  declare_smooth(cube)
  assert classify(cube) is PrimitiveClass.SMOOTH
  assert freeze(cube.bind, x).opaque == ()
  assert freeze(cube.bind, x)(x).dtype == np.float64


@pytest.mark.parametrize(
  ("name", "kind"), [("max", "winner"), ("sin", "smooth"), ("scan", "structural")]
)
def test_a_class_once_given_stays(name, kind):
  with pytest.raises(ValueError, match=f"`{name}` already is {kind}"):
    register(name)(_SoftThreshold)
