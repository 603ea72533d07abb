"""Many small fits at once: logistic regressions, by kinkopt and its peers, in one run.

`B` problems of `d` coefficients and `10 d` rows, ridge 0.01, float64, each solved until no
coordinate of its gradient is above 1.5e-8 or the peer thinks that it is done; the largest gradient
of all is in the table, so that nobody wins by stopping early. Times are medians of the rounds in
seconds, after compilation, and ratios are to the best peer.

    pip install -e ".[test]" scipy optimistix jaxopt
    python benchmarks/newton_batches.py [--batches 1 100 ...] [--sizes 5 20 ...]
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import describe_run, race

import kinkopt
from kinkopt.newton import GaussNewton, newton

TOL = float(np.finfo(np.float64).eps) ** 0.5
RIDGE = 0.01
Data = tuple[np.ndarray, np.ndarray]
Solve = Callable[[jax.Array, jax.Array], jax.Array]  # X, y of all -> coefficients of all


def problems(batch: int, d: int) -> Data:
  rng = np.random.default_rng(0)
  X = rng.normal(size=(batch, 10 * d, d))
  chances = 1 / (1 + np.exp(-np.einsum("bnd,bd->bn", X, rng.normal(size=(batch, d)) / d**0.5)))
  return X, (rng.random(chances.shape) < chances).astype(float)


def loss(w: jax.Array, X: jax.Array, y: jax.Array) -> jax.Array:
  logits = X @ w
  return jnp.mean(jax.nn.softplus(logits) - y * logits) + RIDGE / 2 * w @ w


def outputs(w: jax.Array, X: jax.Array) -> Any:
  return X @ w, w


def loss_of_outputs(found: Any, y: jax.Array) -> jax.Array:
  logits, w = found
  return jnp.mean(jax.nn.softplus(logits) - y * logits) + RIDGE / 2 * w @ w


def by_kinkopt(optimizer: Any) -> Solve:
  def one(X: jax.Array, y: jax.Array) -> jax.Array:
    start, data = jnp.zeros(X.shape[1]), {"X": X, "y": y}
    return kinkopt.minimize(loss, start, optimizer, data=data, tol=TOL).params

  return jax.jit(jax.vmap(one))


def by_optimistix(X: jax.Array, y: jax.Array) -> jax.Array:
  import optimistix

  solver = optimistix.Newton(rtol=1e-9, atol=1e-9)

  def one(X: jax.Array, y: jax.Array) -> jax.Array:
    gradient = lambda w, _: jax.grad(loss)(w, X, y)  # noqa: E731
    return optimistix.root_find(gradient, solver, jnp.zeros(X.shape[1]), throw=False).value

  return jax.vmap(one)(X, y)


def by_optax(X: jax.Array, y: jax.Array) -> jax.Array:
  tx = optax.lbfgs()

  def one(X: jax.Array, y: jax.Array) -> jax.Array:
    fun = lambda w: loss(w, X, y)  # noqa: E731
    look = optax.value_and_grad_from_state(fun)

    def advance(at: Any) -> Any:
      w, state, _, count = at
      value, grad = look(w, state=state)
      updates, state = tx.update(grad, state, w, value=value, grad=grad, value_fn=fun)
      return optax.apply_updates(w, updates), state, grad, count + 1

    def goes_on(at: Any) -> jax.Array:
      return (jnp.max(jnp.abs(at[2])) > TOL) & (at[3] < 500)

    w = jnp.zeros(X.shape[1])
    return jax.lax.while_loop(goes_on, advance, (w, tx.init(w), jnp.ones_like(w), 0))[0]

  return jax.vmap(one)(X, y)


def by_jaxopt(X: jax.Array, y: jax.Array) -> jax.Array:
  import jaxopt

  solver = jaxopt.LBFGS(loss, tol=TOL, maxiter=500)
  return jax.vmap(lambda X, y: solver.run(jnp.zeros(X.shape[1]), X, y).params)(X, y)


def by_scipy(X: np.ndarray, y: np.ndarray) -> np.ndarray:
  import scipy.optimize

  def one(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    count, d = X.shape

    def look(w: np.ndarray) -> tuple[float, np.ndarray]:
      z = X @ w
      p = 1 / (1 + np.exp(-z))
      value = np.mean(np.logaddexp(0, z) - y * z) + RIDGE / 2 * w @ w
      return value, X.T @ (p - y) / count + RIDGE * w

    def hessian(w: np.ndarray) -> np.ndarray:
      p = 1 / (1 + np.exp(-X @ w))
      return (X.T * (p * (1 - p))) @ X / count + RIDGE * np.eye(d)

    start, options = np.zeros(d), {"gtol": TOL}
    return scipy.optimize.minimize(
      look, start, jac=True, hess=hessian, method="trust-exact", options=options
    ).x

  return np.stack([one(*row) for row in zip(X, y, strict=True)])


def by_scikit_learn(X: np.ndarray, y: np.ndarray) -> np.ndarray:
  from sklearn.linear_model import LogisticRegression

  def one(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    if y.min() == y.max():  # it refuses one class
      return by_scipy(X[None], y[None])[0]
    model = LogisticRegression(
      C=1 / (RIDGE * len(X)), fit_intercept=False, solver="newton-cholesky", tol=TOL
    )
    return model.fit(X, y).coef_[0]

  return np.stack([one(*row) for row in zip(X, y, strict=True)])


OURS: dict[str, Solve] = {
  "kinkopt newton": by_kinkopt(newton()),
  "kinkopt Gauss-Newton": by_kinkopt(newton(curvature=GaussNewton(outputs, loss_of_outputs))),
}
PEERS: dict[str, Callable[..., Any]] = {
  "optimistix Newton": jax.jit(by_optimistix),
  "optax.lbfgs": jax.jit(by_optax),
  "jaxopt LBFGS": jax.jit(by_jaxopt),
  "scipy trust-exact": by_scipy,
  "scikit-learn": by_scikit_learn,
}


def measure(batch: int, d: int, rounds: int, without: list[str]) -> list[str]:
  X, y = problems(batch, d)
  on_device = jnp.asarray(X), jnp.asarray(y)
  gradient = jax.jit(jax.vmap(jax.grad(loss)))
  contestants = {name: s for name, s in (OURS | PEERS).items() if name not in without}
  largest = {}

  def runner(name: str, solve: Callable[..., Any]) -> Callable[[int], None]:
    args = (X, y) if name.startswith("sci") else on_device

    def run(steps: int) -> None:
      for _ in range(steps):
        found = jax.block_until_ready(solve(*args))
      largest[name] = float(jnp.max(jnp.abs(gradient(jnp.asarray(found), *on_device))))

    return run

  runners = {name: runner(name, solve) for name, solve in contestants.items()}
  times = race(runners, rounds, 1)
  best = min((name for name in times if name in PEERS), key=lambda name: times[name].median)
  return [
    f"| {batch:,} | {d} | {name} | {times[name].median:.4f} | "
    f"{times[best].ratio_to(times[name]):.2f} | {largest[name]:.0e} |"
    for name in times
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--batches", type=int, nargs="+", default=[1, 100, 10_000])
  parser.add_argument("--sizes", type=int, nargs="+", default=[5, 20, 50])
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--without", nargs="+", default=[], choices=list(OURS | PEERS))
  options = parser.parse_args()
  jax.config.update("jax_enable_x64", True)
  print(describe_run(), flush=True)
  print("\n| B | d | solver | seconds | best peer / it | largest gradient |")
  print("|---|---|---|---|---|---|", flush=True)
  one = functools.partial(measure, rounds=options.rounds, without=options.without)
  for batch in options.batches:
    for d in options.sizes:
      print("\n".join(one(batch, d)), flush=True)


if __name__ == "__main__":
  main()
