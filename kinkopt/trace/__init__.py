"""Programs: what JAX traced of a function, and the interpreters that evaluate it otherwise."""
