"""Trains on the devices of several processes as on those of one.

python docs/two_processes.py ADDRESS INDEX COUNT
"""

import sys

import jax

address, index, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
jax.config.update("jax_cpu_collectives_implementation", "gloo")  # on CPUs alone
jax.distributed.initialize(address, num_processes=count, process_id=index)

import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from kinkopt import monitor, newton, rules

mesh = jax.make_mesh((jax.device_count(),), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
split = NamedSharding(mesh, PartitionSpec("d"))
whole = np.linspace(-1, 2, 64).reshape(16, 4)
params = {"w": jax.make_array_from_callback(whole.shape, split, lambda at: whole[at])}


def loss(p):
  return jnp.sum(jnp.cosh(p["w"])) + jnp.sum(jnp.sum(p["w"], axis=0) ** 2)


def train(tx, steps):
  @jax.jit
  def step(p, state):
    updates, state = tx.update(jax.grad(loss)(p), state, p, value_fn=loss)
    return optax.apply_updates(p, updates), state

  p, state = params, jax.jit(tx.init)(params)
  for _ in range(steps):
    p, state = step(p, state)
  return jax.jit(loss)(p), state


value, state = train(monitor.record(optax.chain(rules.adam(0.1), monitor.update_ratio()), 5), 8)
found = monitor.history(state, params)
print("adam", repr(float(value)), found.steps.tolist(), repr(float(found.overall[-1])))
value, state = train(newton.newton(globalization=newton.SteihaugTrustRegion()), 8)
print("newton", repr(float(value)), newton.outcome(state).name, jax.device_count())
