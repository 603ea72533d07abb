#!/usr/bin/env bash
# JAX: `jax.make_jaxpr` and `jax.eval_shape` keep what they traced by the function's identity.
#
# Seen with JAX 0.10.2 (Python 3.11) and 0.12.0.1 (Python 3.13). A function that closes over a Python
# value is traced once; when the value has changed, `make_jaxpr` of the same function gives the old
# program, and `eval_shape` the old shape, where `jax.grad` and `jax.linearize`, called without `jit`,
# see the new value. `jax.jit` documents that it keeps traces; neither of these two says so. Tools
# that inspect or transform a program by `make_jaxpr` so work on one that the user no longer has.
# `jax.clear_caches()`, or a new function (`lambda *args: f(*args)`) each time, gives the new one.
#
# Usage: PYTHON=python3.11 bash findings/make_jaxpr_keeps_closed_over_values.sh
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-python3}
case $("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') in
  3.11) version=0.10.2 ;;
  *) version=0.12.0.1 ;;
esac
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "jax[cpu]==$version"
cd "$work"
cat >program.py <<'PYTHON'
import jax
import jax.numpy as jnp

factor, size, calls = 2.0, 3, 0


def scaled(x):
  global calls
  calls += 1
  return jnp.broadcast_to(x * factor, (size,))


def seen():
  program = jax.make_jaxpr(scaled)(1.0)
  literal = next(v.val for v in program.eqns[0].invars if hasattr(v, "val"))
  return float(literal), jax.eval_shape(scaled, 1.0).shape


print("at first:", *seen(), "calls:", calls)
factor, size = 7.0, 5
print("after a change:", *seen(), "calls:", calls)
print("jax.jvp sees:", *jax.jvp(scaled, (1.0,), (1.0,))[1].tolist())
jax.clear_caches()
print("after clear_caches:", *seen())
PYTHON
"$work/venv/bin/python" program.py | tee seen.txt
cat >expected.txt <<'TEXT'
at first: 2.0 (3,) calls: 1
after a change: 2.0 (3,) calls: 1
jax.jvp sees: 7.0 7.0 7.0 7.0 7.0
after clear_caches: 7.0 (5,)
TEXT
diff expected.txt seen.txt && echo "As described, with JAX $version."
