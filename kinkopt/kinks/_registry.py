"""Which primitive is what: winner, smooth, structural or opaque.

A smooth primitive is run on each value as it is. A winner and a structural primitive have a rule,
put into the table by a decorator in the file of its family. Everything else is opaque: it is run as
it is and listed in the result, because a kink inside it would go unseen.
"""

import enum
from collections.abc import Callable
from typing import Any

Rule = Callable[..., list[Any]]  # (interpreter, equation, values) -> values


class PrimitiveClass(enum.Enum):
  """What the interpreter does with a primitive."""

  WINNER = "decides on the point's values, and hands the decision on to the moved ones"
  SMOOTH = "has no kink, and is run on the moved values as it is"
  STRUCTURAL = "holds programs, which are interpreted in their turn"
  OPAQUE = "cannot be seen into, and is run as it is and listed"


# Where a name is missing here and has no rule, it is opaque. Those on integers, keys and masks
# only never meet a moved value.
_SMOOTH = set(
  """
  acos acosh add add_any asin asinh atan atan2 atanh bessel_i0e bessel_i1e broadcast_in_dim
  broadcast_to cbrt cholesky complex concatenate conj conv_general_dilated copy cos cosh
  cumlogsumexp cumprod cumsum digamma div dot_general dynamic_slice dynamic_update_slice eigh
  erf erf_inv erfc exp exp2 expm1 fft gather householder_product igamma igammac imag integer_pow
  lgamma log log1p log2 logistic mul name neg one_minus_square optimization_barrier pad
  polygamma polynomial pow qr real reciprocal reduce_prod reduce_sum reduce_window_sum
  regularized_incomplete_beta reshape reshard rev rsqrt select_n sharding_constraint sin sinh
  slice split sqrt square squeeze stack sub svd symmetric_product tan tanh tile transpose
  triangular_solve tridiagonal_solve unstack zeta and clz iota not or population_count
  random_bits random_clone random_fold_in random_seed random_split random_unwrap random_wrap
  reduce_and reduce_or reduce_xor rng_bit_generator shift_left shift_right_arithmetic
  shift_right_logical threefry2x32 xor
  """.split()  # noqa: SIM905, a table of words
)
_RULES: dict[str, tuple[PrimitiveClass, Rule]] = {}


def winner(*names: str) -> Callable[[Rule], Rule]:
  """Puts a winner's rule into the table."""
  return _put(PrimitiveClass.WINNER, names)


def structural(*names: str) -> Callable[[Rule], Rule]:
  """Puts the rule of a primitive that holds programs into the table."""
  return _put(PrimitiveClass.STRUCTURAL, names)


def smooth(*names: str) -> Callable[[Rule], Rule]:
  """Puts a rule into the table for a primitive without kinks that cannot just be run."""
  return _put(PrimitiveClass.SMOOTH, names)


def _put(kind: PrimitiveClass, names: tuple[str, ...]) -> Callable[[Rule], Rule]:
  def put(rule: Rule) -> Rule:
    for name in names:
      if name in _RULES or name in _SMOOTH:
        raise ValueError(
          f"The primitive `{name}` already is {classify(name).name.lower()}. A primitive has one "
          "class; leave out the second."
        )
      _RULES[name] = (kind, rule)
    return rule

  return put


def rule_of(name: str) -> Rule | None:
  """Gives the rule of a winner or a structural primitive, and None for the others."""
  return _RULES[name][1] if name in _RULES else None


def classify(primitive: Any) -> PrimitiveClass:
  """Says what the interpreter does with a primitive.

  Args:
    primitive: a JAX primitive, or its name.

  Returns:
    Its class; what is not in the table is opaque.

  Example:
    >>> import kinkopt
    >>> kinkopt.kinks.classify("max").name
    'WINNER'
    >>> kinkopt.kinks.classify("pallas_call").name
    'OPAQUE'

  References:
    Selection functions: Scholtes (2012), "Introduction to Piecewise Differentiable Equations".
  """
  name = getattr(primitive, "name", primitive)
  if name in _RULES:
    return _RULES[name][0]
  return PrimitiveClass.SMOOTH if name in _SMOOTH else PrimitiveClass.OPAQUE


def declare_smooth(primitive: Any) -> None:
  """Declares that a primitive of your own has no kink.

  Args:
    primitive: a JAX primitive, or its name. From now on it is run on the moved values, in float64,
      and no longer listed as opaque.

  Returns:
    Nothing; the table is the process's own.

  Raises:
    ValueError: if the primitive already has a class other than opaque.

  Example:
    >>> import kinkopt
    >>> kinkopt.kinks.declare_smooth("my_convolution")
    >>> kinkopt.kinks.classify("my_convolution").name
    'SMOOTH'

  References:
    See `classify`.
  """
  name = getattr(primitive, "name", primitive)
  if classify(name) is not PrimitiveClass.OPAQUE:
    raise ValueError(
      f"The primitive `{name}` already is {classify(name).name.lower()}. A primitive has one "
      "class; leave out the declaration."
    )
  _SMOOTH.add(name)
