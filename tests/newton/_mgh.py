"""Problems 1 to 19 of Moré, Garbow and Hillstrom, whose dimension is fixed.

"Testing unconstrained optimization software", ACM TOMS 7 (1981), 17-41: formulae, data, starts and
minima are the paper's, the minima carried from its six digits to ten by Newton steps. What is not
in the paper has its source beside it: often A. Kuntsevich and F. Kappel, who published further
local minima with SolvOpt (1997); of theirs, those stand here that Newton steps confirm. The lists
are not complete: Bard's and Kowalik's functions have minima between their poles, Osborne's second
many.
"""

import math

import jax.numpy as jnp
import numpy as np

from tests.newton._problem import Problem, count, like

# The eighteen of the paper that make its set for unconstrained minimisation (and Algorithm 566).
UNCONSTRAINED = {3, 4, 5, 7, 9, 11, 12, 14, 16, 18, 20, 21, 22, 23, 24, 25, 26, 35}

PROBLEMS: list[Problem] = []  # complete once `_mgh_variable` is read too


def mgh(number, start, minima, minimisers=(), *, factors=(1, 10, 100), variable=False):
  """Enters a residual function as problem `number`, with `start` and its multiples to start at.

  `variable` says that the formula holds in any dimension: the name then ends with this one. A
  start at the origin has no multiples, and would come three times; Algorithm 566 starts where every
  coordinate is the factor instead, and so do we. `factors` ends where the loss overflows float64.
  """
  start = np.asarray(start, np.float64)
  multiples = {1: start} | {k: k * start if start.any() else k + start for k in factors[1:]}

  def enter(residual):
    problem = Problem(
      name=residual.__name__ + (f"_{start.size}" if variable else ""),
      residual=residual,
      starts=tuple(multiples.values()),
      start_names=tuple(f"{k}x" for k in multiples),
      minima=tuple(map(float, minima)),
      minimisers=tuple(np.asarray(x, np.float64) for x in minimisers),
      is_unconstrained_set=number in UNCONSTRAINED,
    )
    PROBLEMS.append(problem)
    return residual

  return enter


@mgh(1, [-1.2, 1], [0], [[1, 1]])
def rosenbrock(x):
  return jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


@mgh(2, [0.5, -2], [0, 48.98425367924], [[5, 4], [11.4127789869, -0.8968052532745]])
def freudenstein_and_roth(x):
  a, b = x
  return jnp.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


@mgh(3, [0, 1], [0], [[1.0981593297e-05, 9.106146739866]])
def powell_badly_scaled(x):
  return jnp.stack([1e4 * x[0] * x[1] - 1, jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.0001])


@mgh(4, [1, 1], [0], [[1e6, 2e-6]])
def brown_badly_scaled(x):
  return jnp.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


@mgh(5, [1, 1], [0], [[3, 0.5]])
def beale(x):
  return like(x, [1.5, 2.25, 2.625]) - x[0] * (1 - jnp.stack([x[1], x[1] ** 2, x[1] ** 3]))


# Ten residuals. The second minimum, Kuntsevich's, is at (-inf, 0.3315) and (0.3315, -inf). At 100
# times the start there is exp(400), squared.
@mgh(
  6,
  [0.3, 0.4],
  [124.3621823556, 259.5801901],
  [[0.2578252136704, 0.2578252136704]],
  factors=(1, 10),
)
def jennrich_and_sampson(x):
  i = like(x, count(10))
  return 2 + 2 * i - (jnp.exp(i * x[0]) + jnp.exp(i * x[1]))


@mgh(7, [-1, 0, 0], [0], [[1, 0, 0]])
def helical_valley(x):
  # The paper's arctan(x2 / x1), with 1/2 added where x1 < 0, jumps at x1 = 0 > x2. This is the same
  # angle with no `where` in it; arctan2(x2, x1) would jump at the start.
  turns = 0.25 + jnp.arctan2(-x[0], x[1]) / (2 * math.pi)
  return jnp.stack([10 * (x[2] - 10 * turns), 10 * (jnp.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2]])


BARD = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]


# The second minimum is at (0.8406, -inf, -inf).
@mgh(8, [1, 1, 1], [0.00821487730658, 17.4286], [[0.08241055974979, 1.13303609203, 2.343695178643]])
def bard(x):
  u = count(15)
  v = 16 - u
  w = np.minimum(u, v)
  return like(x, BARD) - (x[0] + like(x, u) / (like(x, v) * x[1] + like(x, w) * x[2]))


GAUSSIAN = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]
GAUSSIAN = [*GAUSSIAN, 0.3989, *reversed(GAUSSIAN)]


@mgh(9, [0.4, 1, 0], [1.127932769619e-8], [[0.3989561378388, 1.000019084488, 0]])
def gaussian(x):
  t = like(x, (8 - count(15)) / 2)
  return x[0] * jnp.exp(-x[1] * (t - x[2]) ** 2 / 2) - like(x, GAUSSIAN)


MEYER = [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744]
MEYER += [8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]


@mgh(10, [0.02, 4000, 250], [87.94585517], [[0.005609636471028, 6181.346346286, 345.2236346241]])
def meyer(x):
  return x[0] * jnp.exp(x[1] / (like(x, 45 + 5 * count(16)) + x[2])) - like(x, MEYER)


# 99 residuals, as in Algorithm 566. The paper prints `m i` for the minus sign. Ten times the start
# is the minimiser.
@mgh(11, [5, 2.5, 0.15], [0], [[50, 25, 1.5]])
def gulf_research(x):
  t = count(99) / 100
  distance = jnp.abs(like(x, 25 + (-50 * np.log(t)) ** (2 / 3)) - x[1])
  return jnp.exp(-(distance ** x[2]) / x[0]) - like(x, t)


# Ten residuals. Besides two minimisers there is the line x1 = x2, x3 = 0, of which this is a point.
@mgh(12, [0, 10, 20], [0], [[1, 10, 1], [10, 1, -1], [4, 4, 0]])
def box_3d(x):
  t = count(10) / 10
  gap = like(x, np.exp(-t) - np.exp(-10 * t))
  t = like(x, t)
  return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * gap


@mgh(13, [3, -1, 0, 1], [0], [[0, 0, 0, 0]])
def powell_singular(x):
  a, b, c, d = x
  return jnp.stack([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


@mgh(14, [-3, -1, -3, -1], [0], [[1, 1, 1, 1]])
def wood(x):
  a, b, c, d = x
  first = [10 * (b - a**2), 1 - a, 90**0.5 * (d - c**2), 1 - c]
  return jnp.stack([*first, 10**0.5 * (b + d - 2), (b - d) / 10**0.5])


KOWALIK = [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
KOWALIK_U = [4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625]


# The second minimum is at (inf, -14.07, -inf, -inf).
@mgh(
  15,
  [0.25, 0.39, 0.415, 0.39],
  [3.075056038492e-4, 1.02734e-3],
  [[0.192806934579, 0.1912823287344, 0.1230565069263, 0.1360623306838]],
)
def kowalik_and_osborne(x):
  u = like(x, KOWALIK_U)
  return like(x, KOWALIK) - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


# Twenty residuals.
@mgh(
  16,
  [25, 5, -5, -1],
  [85822.20162635],
  [[-11.59443990476, 13.20363005121, -0.4034394881769, 0.2367787744557]],
)
def brown_and_dennis(x):
  t = count(20) / 5
  exp, sin, cos = (like(x, f(t)) for f in (np.exp, np.sin, np.cos))
  return (x[0] + like(x, t) * x[1] - exp) ** 2 + (x[2] + x[3] * sin - cos) ** 2


OSBORNE_1 = [0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751]
OSBORNE_1 += [0.718, 0.685, 0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490]
OSBORNE_1 += [0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406]


@mgh(
  17,
  [0.5, 1.5, -1, 0.01, 0.02],
  [5.464894697483e-5],
  [[0.375410052107, 1.935846912712, -1.464687136613, 0.01286753464006, 0.02212269966167]],
)
def osborne_1(x):
  t = like(x, 10 * (count(33) - 1))
  return like(x, OSBORNE_1) - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


# Thirteen residuals. The paper has the second minimum alone; the first is how the data were made.
# The second lies on the line x5 = x1, x3 + x6 = 2.326..., and is a saddle where x3 x6 > 0.
@mgh(
  18,
  [1, 2, 1, 1, 1, 1],
  [0, 0.0056556499255],
  [
    [1, 10, 1, 5, 4, 3],
    [4, 10, 3, 5, 1, 1],
    [1.71141599472, 17.68319818095, 3.326287321838, 5.186561551993, 1.71141599472, -1],
  ],
)
def biggs_exp6(x):
  t = count(13) / 10
  y = like(x, np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t))
  t = like(x, t)
  return x[2] * jnp.exp(-t * x[0]) - x[3] * jnp.exp(-t * x[1]) + x[5] * jnp.exp(-t * x[4]) - y


# The 18th is 0.626: with the 0.625 of some copies the minimum is 0.0401686.
OSBORNE_2 = [1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746]
OSBORNE_2 += [0.679, 0.608, 0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649]
OSBORNE_2 += [0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395]
OSBORNE_2 += [0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653]
OSBORNE_2 += [0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739]
OSBORNE_2 += [0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054]
OSBORNE_2_MINIMISER = [1.309977154627, 0.431553794603, 0.6336616989607, 0.5994305347859]
OSBORNE_2_MINIMISER += [0.754183226328, 0.9042885798596, 1.365811835237, 4.823698817227]
OSBORNE_2_MINIMISER += [2.398684866132, 4.568874597668, 5.675341470581]


@mgh(
  19,
  [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5],
  [0.04013773629355],
  [OSBORNE_2_MINIMISER],
)
def osborne_2(x):
  t = like(x, (count(65) - 1) / 10)
  bumps = [x[i] * jnp.exp(-((t - x[7 + i]) ** 2) * x[4 + i]) for i in (1, 2, 3)]
  return like(x, OSBORNE_2) - (x[0] * jnp.exp(-t * x[4]) + bumps[0] + bumps[1] + bumps[2])
