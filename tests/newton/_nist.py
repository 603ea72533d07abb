"""The 27 nonlinear regressions of the Statistical Reference Datasets, with their models.

https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml, by the National Institute of Standards and
Technology, in the public domain. A file in `nist` holds the numbers of one set as they are there:
the certified residual sum of squares; a line for each parameter, with its value in start 1, in
start 2, and certified to 11 digits; and a line for each observation, y first.
"""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from tests.newton._problem import Problem, like

FOLDER = pathlib.Path(__file__).parent / "nist"


def three_decays(b, x):
  return sum(b[i] * jnp.exp(-b[i + 1] * x) for i in (0, 2, 4))


def two_bells(b, x):
  bells = (b[i] * jnp.exp(-((x - b[i + 1]) ** 2) / b[i + 2] ** 2) for i in (2, 5))
  return b[0] * jnp.exp(-b[1] * x) + sum(bells)


def ratio_of_cubics(b, x):
  return (b[0] + x * (b[1] + x * (b[2] + x * b[3]))) / (1 + x * (b[4] + x * (b[5] + x * b[6])))


def waves(b, x):
  def wave(period, cos, sin):
    angle = 2 * math.pi * x / period
    return cos * jnp.cos(angle) + sin * jnp.sin(angle)

  return b[0] + wave(12, b[1], b[2]) + wave(b[3], b[4], b[5]) + wave(b[6], b[7], b[8])


def saturation(b, x):
  return b[0] * (1 - jnp.exp(-b[1] * x))


def decay_over_line(b, x):
  return jnp.exp(-b[0] * x) / (b[1] + b[2] * x)


def logistic(b, x):
  return b[0] / (1 + jnp.exp(b[1] - b[2] * x))


# In NIST's order, by difficulty: lower, average, higher.
MODELS = {
  "Misra1a": saturation,
  "Chwirut2": decay_over_line,
  "Chwirut1": decay_over_line,
  "Lanczos3": three_decays,
  "Gauss1": two_bells,
  "Gauss2": two_bells,
  "DanWood": lambda b, x: b[0] * x ** b[1],
  "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
  "Kirby2": lambda b, x: (b[0] + x * (b[1] + x * b[2])) / (1 + x * (b[3] + x * b[4])),
  "Hahn1": ratio_of_cubics,
  "Nelson": lambda b, x: b[0] - b[1] * x[0] * jnp.exp(-b[2] * x[1]),  # of log(y)
  "MGH17": lambda b, x: b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4]),
  "Lanczos1": three_decays,
  "Lanczos2": three_decays,
  "Gauss3": two_bells,
  "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
  "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
  "Roszman1": lambda b, x: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / math.pi,
  "ENSO": waves,
  "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
  "Thurber": ratio_of_cubics,
  "BoxBOD": saturation,
  "Rat42": logistic,
  "MGH10": lambda b, x: b[0] * jnp.exp(b[1] / (x + b[2])),
  "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
  "Rat43": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
  "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
}


def read(name: str):
  """The sum of squares, the parameters (start 1, start 2, certified), and y with the predictors."""
  blocks = (FOLDER / f"{name}.dat").read_text().split("#")[1:]  # each is a headline and its rows
  total, parameters, data = (np.loadtxt(block.splitlines()[1:], ndmin=2) for block in blocks)
  return total.item(), parameters.T, data.T


def regression(name: str) -> Problem:
  total, (start_1, start_2, certified), (y, *predictors) = read(name)
  model = MODELS[name]
  y = np.log(y) if name == "Nelson" else y

  def residual(b: jax.Array) -> jax.Array:
    xs = [like(b, x) for x in predictors]
    return like(b, y) - model(b, xs[0] if len(xs) == 1 else xs)

  return Problem(
    name=name,
    residual=residual,
    starts=(start_1, start_2),
    start_names=("start 1", "start 2"),
    minima=(total,),
    minimisers=(certified,),
  )


PROBLEMS = [regression(name) for name in MODELS]
