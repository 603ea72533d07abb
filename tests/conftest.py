"""One setting for every test: 64 bits on, eight virtual devices, nothing silent."""

import os

# Read once, when JAX makes its backend: must come before the first use of JAX.
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax

jax.config.update("jax_enable_x64", True)
