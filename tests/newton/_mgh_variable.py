"""Problems 20 to 35 of Moré, Garbow and Hillstrom, whose formulae hold in any dimension.

The dimensions are those for which the paper knows the minimum, or else the usual ones; sources as
in `_mgh`. Matrices are constants, so that no residual loops over coordinates.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.newton._mgh import PROBLEMS, mgh
from tests.newton._problem import count, like

__all__ = ["PROBLEMS"]


WATSON_6 = [-0.01572508640146, 1.012434869369, -0.2329916259567]
WATSON_6 += [1.2604300878, -1.513728922722, 0.9929964324311]
WATSON_9 = [-1.530703652142e-05, 0.9997897039319, 0.01476396369355, 0.1463423282994]
WATSON_9 += [1.000821103004, -2.617731140518, 4.104403164478, -3.143612278556, 1.05262640801]


@mgh(20, np.zeros(9), [1.399760138105e-6], [WATSON_9], variable=True)
@mgh(20, np.zeros(6), [0.002287670053552], [WATSON_6], variable=True)
def watson(x):
  powers = (count(29)[:, None] / 29) ** (count(x.size) - 1)  # t_i ** (j - 1)
  slopes = np.hstack([np.zeros((29, 1)), powers[:, :-1] * count(x.size - 1)])
  first = like(x, slopes) @ x - (like(x, powers) @ x) ** 2 - 1
  return jnp.append(first, jnp.stack([x[0], x[1] - x[0] ** 2 - 1]))


@mgh(21, [-1.2, 1] * 5, [0], [[1] * 10], variable=True)
def extended_rosenbrock(x):
  odd, even = x[::2], x[1::2]
  return jnp.append(10 * (even - odd**2), 1 - odd)


@mgh(22, [3, -1, 0, 1] * 3, [0], [[0] * 12], variable=True)
def extended_powell_singular(x):
  a, b, c, d = (x[i::4] for i in range(4))
  parts = [a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2]
  return jnp.concatenate(parts)


@mgh(23, count(10), [7.087651467e-5], [[0.1581223011131] * 10], variable=True)
@mgh(23, count(4), [2.249977500900e-5], [[0.2500074995875] * 4], variable=True)
def penalty_1(x):
  return jnp.append(1e-5**0.5 * (x - 1), jnp.sum(x**2) - 0.25)


PENALTY_2_4 = [0.1999993333504, 0.1913167009928, 0.4801014853326, 0.5188454043902]
PENALTY_2_10 = [0.1999836051978, 0.01035064847129, 0.01960493448044, 0.03208906722069]
PENALTY_2_10 += [0.04993267739964, 0.07651399515399, 0.1186240728695]
PENALTY_2_10 += [0.1921448723356, 0.3473205869418, 0.3691643741594]


@mgh(24, np.full(10, 0.5), [2.936605374567e-4], [PENALTY_2_10], variable=True)
@mgh(24, np.full(4, 0.5), [9.376293007355e-6], [PENALTY_2_4], variable=True)
def penalty_2(x):
  n = x.size
  exp = jnp.exp(x / 10)
  pairs = exp[1:] + exp[:-1] - like(x, np.exp(count(n, 2) / 10) + np.exp(count(n - 1) / 10))
  singles = exp[1:] - math.exp(-0.1)
  last = like(x, count(n)[::-1]) @ x**2 - 1
  small = 1e-5**0.5 * jnp.append(pairs, singles)
  return jnp.concatenate([x[:1] - 0.2, small, last[None]])


@mgh(25, 1 - count(10) / 10, [0], [[1] * 10], variable=True)
def variably_dimensioned(x):
  total = like(x, count(x.size)) @ (x - 1)
  return jnp.append(x - 1, jnp.stack([total, total**2]))


TRIGONOMETRIC = [0.05515090398069, 0.05684061679474, 0.0587640017627, 0.06099060865676]
TRIGONOMETRIC += [0.06362621369586, 0.06684317945276, 0.2081615185699, 0.1643630958856]
TRIGONOMETRIC += [0.08500689568851, 0.09143145071471]


# The second minimum, Kuntsevich's, is where most methods end; there are others.
@mgh(26, np.full(10, 0.1), [0, 2.795056121881e-5], [[0] * 10, TRIGONOMETRIC], variable=True)
def trigonometric(x):
  cos = jnp.cos(x)
  return x.size - jnp.sum(cos) + like(x, count(x.size)) * (1 - cos) - jnp.sin(x)


BROWN = [[1] * 10, [0.9794303033498619] * 9 + [1.2056969665013828], [0] * 9 + [11]]


# The first is at (a, ..., a, a**-9) where 10 a**10 - 11 a**9 + 1 = 0, the second at the last point.
@mgh(27, np.full(10, 0.5), [0, 1], BROWN, variable=True)
def brown_almost_linear(x):
  return jnp.append(x[:-1] + jnp.sum(x) - (x.size + 1), jnp.prod(x) - 1)


def grid(n):
  """The step and the inner points of an even grid on [0, 1]."""
  return 1 / (n + 1), count(n) / (n + 1)


BOUNDARY = [-0.04316498251876, -0.08157715653539, -0.1144857143805, -0.1409735768626]
BOUNDARY += [-0.159908696182, -0.1698772023128, -0.1690899837812]
BOUNDARY += [-0.1552495352218, -0.1253558916789, -0.07541653368589]


def neighbours(x):
  """What stands before and after each coordinate, 0 beyond the ends."""
  return jnp.pad(x, (1, 0))[:-1], jnp.pad(x, (0, 1))[1:]


@mgh(28, grid(10)[1] * (grid(10)[1] - 1), [0], [BOUNDARY], variable=True)
def discrete_boundary_value(x):
  h, t = grid(x.size)
  before, after = neighbours(x)
  return 2 * x - before - after + h**2 * (x + like(x, t) + 1) ** 3 / 2


# The same equation as 28: the same zero.
@mgh(29, grid(10)[1] * (grid(10)[1] - 1), [0], [BOUNDARY], variable=True)
def discrete_integral_equation(x):
  h, t = grid(x.size)
  kernel = np.minimum.outer(t, t) * (1 - np.maximum.outer(t, t))
  return x + h / 2 * (like(x, kernel) @ (x + like(x, t) + 1) ** 3)


TRIDIAGONAL = [-0.5707221320112, -0.6818069499843, -0.7022100760177, -0.7055106298951]
TRIDIAGONAL += [-0.7049061557287, -0.7014966070299, -0.6918893223548]
TRIDIAGONAL += [-0.6657965144059, -0.5960351090264, -0.4164122575287]


# Local minima are many, as Kuntsevich says; his list has six, not all of them confirmed.
@mgh(30, -np.ones(10), [0], [TRIDIAGONAL], variable=True)
def broyden_tridiagonal(x):
  before, after = neighbours(x)
  return (3 - 2 * x) * x - before - 2 * after + 1


BANDED = [-0.4283028635873, -0.4765964243563, -0.5196524636469, -0.5580993248322]
BANDED += [-0.5925061568295, -0.6245036821995, -0.6232394714406]
BANDED += [-0.6213938417966, -0.6204535966591, -0.5864692707204]
BANDED_2 = [0.2171722390587, 0.3064671500377, 0.3567860972742, 0.4483948941361, 0.5776379509982]
BANDED_2 += [0.7131035097615, 0.8239564802738, 0.9219093371688, 0.9969927785961, 0.9634622703375]
BANDED_3 = [0.2107138580959, 0.2609766859743, 0.2279476724365, 0.1970255887394, 0.2032296940376]
BANDED_3 += [
  0.2219159780309,
  0.1628122365896,
  0.04830252822017,
  -0.07935658424045,
  -0.1531251866827,
]


# The second and the third minimum are Kuntsevich's.
@mgh(
  31,
  -np.ones(10),
  [0, 2.680219920726, 3.057278432426],
  [BANDED, BANDED_2, BANDED_3],
  variable=True,
)
def broyden_banded(x):
  offset = np.subtract.outer(count(x.size), count(x.size))  # i - j
  band = (offset <= 5) & (offset >= -1) & (offset != 0)
  return x * (2 + 5 * x**2) + 1 - like(x, band) @ (x * (1 + x))


# 32 to 34 have m = 20 residuals. The minima are the paper's m - n, m (m - 1) / (2 (2 m + 1)) and
# (m**2 + 3 m - 6) / (2 (2 m - 3)); those of 33 and 34 are attained on hyperplanes.
@mgh(32, np.ones(10), [10], [-np.ones(10)], variable=True)
def linear_full_rank(x):
  return jnp.pad(x, (0, 20 - x.size)) - jnp.sum(x) / 10 - 1


@mgh(33, np.ones(10), [380 / 82], [[3 / 41] + [0] * 9], variable=True)
def linear_rank_1(x):
  return like(x, count(20)) * (like(x, count(x.size)) @ x) - 1


@mgh(34, np.ones(10), [454 / 74], [[0, 3 / 74] + [0] * 8], variable=True)
def linear_rank_1_zero(x):
  rows, columns = count(20) - 1, count(x.size)
  rows[-1] = columns[0] = columns[-1] = 0
  return like(x, rows) * (like(x, columns) @ x) - 1


CHEBYQUAD = [0.04315276015102, 0.1930908403842, 0.2663287068903, 0.5]
CHEBYQUAD += [0.5, 0.7336712931097, 0.8069091596158, 0.956847239849]


@mgh(35, count(8) / 9, [0.003516873725678], [CHEBYQUAD], variable=True)
def chebyquad(x):
  shifted = 2 * x - 1

  def climb(last_two, _):
    before, last = last_two
    return (last, 2 * shifted * last - before), jnp.mean(last)

  _, means = jax.lax.scan(climb, (jnp.ones_like(x), shifted), length=x.size)
  degree = count(x.size)
  # Over [0, 1] an even polynomial of Chebyshev has the mean -1 / (degree**2 - 1), an odd one 0.
  even = degree % 2 == 0
  return means + like(x, np.divide(1, degree**2 - 1, out=np.zeros_like(degree), where=even))
