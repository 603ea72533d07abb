"""The class notes' update rules as plain NumPy loops in float64: the reference of the tests.

Written from the notes alone, names and order of operations included. Each rule takes the starting
point `x`, a `gradient(x, t)` and the learning rate of every step, and yields the point after every
step; the Nesterov rule that looks ahead yields the look-ahead point besides.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

Gradient = Callable[[np.ndarray, int], np.ndarray]


def sgd(x: np.ndarray, gradient: Gradient, rates: Iterable[float]) -> Iterator[np.ndarray]:
  for t, learning_rate in enumerate(rates):
    dx = gradient(x, t)
    x = x + -learning_rate * dx
    yield x


def momentum(
  x: np.ndarray, gradient: Gradient, rates: Iterable[float], mu: float
) -> Iterator[np.ndarray]:
  v = np.zeros_like(x)
  for t, learning_rate in enumerate(rates):
    dx = gradient(x, t)
    v = mu * v - learning_rate * dx
    x = x + v
    yield x


def nesterov_lookahead(
  x: np.ndarray, gradient: Gradient, rates: Iterable[float], mu: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  v = np.zeros_like(x)
  for t, learning_rate in enumerate(rates):
    x_ahead = x + mu * v
    dx_ahead = gradient(x_ahead, t)
    v = mu * v - learning_rate * dx_ahead
    x = x + v
    yield x, x + mu * v


def nesterov(
  x: np.ndarray, gradient: Gradient, rates: Iterable[float], mu: float
) -> Iterator[np.ndarray]:
  v = np.zeros_like(x)
  for t, learning_rate in enumerate(rates):
    dx = gradient(x, t)
    v_prev = v
    v = mu * v - learning_rate * dx
    x = x + (-mu * v_prev + (1 + mu) * v)
    yield x


def adagrad(
  x: np.ndarray, gradient: Gradient, rates: Iterable[float], eps: float
) -> Iterator[np.ndarray]:
  cache = np.zeros_like(x)
  for t, learning_rate in enumerate(rates):
    dx = gradient(x, t)
    cache = cache + dx**2
    x = x + -learning_rate * dx / (np.sqrt(cache) + eps)
    yield x


def rmsprop(
  x: np.ndarray, gradient: Gradient, rates: Iterable[float], decay_rate: float, eps: float
) -> Iterator[np.ndarray]:
  cache = np.zeros_like(x)
  for t, learning_rate in enumerate(rates):
    dx = gradient(x, t)
    cache = decay_rate * cache + (1 - decay_rate) * dx**2
    x = x + -learning_rate * dx / (np.sqrt(cache) + eps)
    yield x


def adam(
  x: np.ndarray,
  gradient: Gradient,
  rates: Iterable[float],
  beta1: float,
  beta2: float,
  eps: float,
) -> Iterator[np.ndarray]:
  m, v = np.zeros_like(x), np.zeros_like(x)
  for t, learning_rate in enumerate(rates):
    dx = gradient(x, t)
    m = beta1 * m + (1 - beta1) * dx
    v = beta2 * v + (1 - beta2) * (dx**2)
    x = x + -learning_rate * m / (np.sqrt(v) + eps)
    yield x


def adam_of_the_paper(
  x: np.ndarray,
  gradient: Gradient,
  rates: Iterable[float],
  beta1: float,
  beta2: float,
  eps: float,
) -> Iterator[np.ndarray]:
  """Algorithm 1 of Kingma and Ba (2015): the notes' rule with the bias corrected."""
  m, v = np.zeros_like(x), np.zeros_like(x)
  for t, learning_rate in enumerate(rates):
    dx = gradient(x, t)
    m = beta1 * m + (1 - beta1) * dx
    v = beta2 * v + (1 - beta2) * (dx**2)
    m_hat = m / (1 - beta1 ** (t + 1))
    v_hat = v / (1 - beta2 ** (t + 1))
    x = x + -learning_rate * m_hat / (np.sqrt(v_hat) + eps)
    yield x
