"""Which primitive is what: winner, smooth, structural or opaque.

A smooth primitive is run on each value as it is. A winner decides something, and says how; a
structural primitive holds programs, and has a rule that runs them. Everything else is opaque: it is
run as it is and listed in the result, because a kink inside it would go unseen.
"""

import abc
import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Any

import jax

Rule = Callable[..., list[Any]]  # (interpreter, equation, values) -> values


class PrimitiveClass(enum.Enum):
  """What the interpreter does with a primitive."""

  WINNER = "decides on the point's values, and hands the decision on to the moved ones"
  SMOOTH = "has no kink, and is run on the moved values as it is"
  STRUCTURAL = "holds programs, which are interpreted in their turn"
  OPAQUE = "cannot be seen into, and is run as it is and listed"


@dataclasses.dataclass(frozen=True)
class Call:
  """One use of a primitive, as a winner's rule sees it."""

  name: str
  params: dict[str, Any]
  bind: Callable[[Sequence[Any]], list[Any]]  # runs the primitive on operands


class Winner(abc.ABC):
  """How a primitive decides, and what follows from a decision. See `register`."""

  def applies(self, call: Call, operands: Sequence[Any]) -> bool:
    """Whether this use decides anything; where it does not, it is smooth."""
    return True

  @abc.abstractmethod
  def decide(self, call: Call, point: list[Any], rates: list[Any] | None) -> Any:
    """Decides at the point, as an array that differs where the decision does.

    `rates` are the operands' derivatives along a direction: ties are then decided by them.
    """

  @abc.abstractmethod
  def follow(self, call: Call, decision: Any, point: list[Any], moved: list[Any]) -> list[Any]:
    """Gives the results at moved operands under the decision."""

  def plain(self, call: Call, operands: list[Any]) -> list[Any]:
    """Runs the primitive itself."""
    return call.bind(operands)

  def value(self, call: Call, decision: Any, point: list[Any]) -> list[Any]:
    """Gives the results at the point, once the decision is known."""
    return self.plain(call, point)

  def changed(self, call: Call, a: Any, b: Any) -> jax.Array:
    """Compares two decisions, one truth value a unit."""
    return a != b

  def margins(self, call: Call, decision: Any, point: list[Any]) -> jax.Array | None:
    """Gives how far each unit is from deciding otherwise: `(*units, candidates)`, 0 is a tie.

    Infinite where there is no other candidate; None where the notion makes no sense.
    """
    return None

  def loses(self, call: Call, point: list[Any], is_active: list[bool]) -> jax.Array | None:
    """Says for each unit whether what depends on the arguments loses, and so is cut off."""
    return None


# Where a name is missing here and has no rule, it is opaque. Those on integers, keys and masks
# only never meet a moved value.
_SMOOTH = set(
  """
  acos acosh add add_any asin asinh atan atanh bessel_i0e bessel_i1e broadcast_in_dim
  broadcast_to cbrt cholesky cholesky_update complex concatenate conj conv_general_dilated
  copy cos cosh cumlogsumexp cumprod cumsum device_put digamma div dot_general dynamic_slice
  dynamic_update_slice eig eigh erf erf_inv erfc exp exp2 expm1 fft gather geqrf householder_product
  igamma igamma_grad_a igammac imag integer_pow layout_constraint lgamma log1p log2 logistic mul
  name neg one_minus_square optimization_barrier ormqr pad polygamma polynomial qr
  ragged_dot_general real reciprocal reduce_prod reduce_sum reduce_window_sum
  regularized_incomplete_beta reshape reshard rev select_n sharding_constraint sin
  sinh slice split square squeeze stack sub svd symmetric_product tan tanh tie tile transpose
  triangular_solve tridiagonal_solve unstack zeros_like zeta all_gather all_gather_invariant
  all_gather_reduced all_to_all pbroadcast ppermute psum psum_invariant pvary reduce_scatter
  reduced_vary_cast reduced_vary_cast_p unreduced_psum unreduced_reduce_scatter vary_unreduced_cast
  vary_unreduced_cast_p preduced ragged_all_to_all
  and after_all axis_index clz create_token iota iota_2x32_shape lu_pivots_to_permutation mulhi not
  or philox2x32 philox4x32 platform_index population_count random_bits random_clone random_fold_in
  random_seed random_split random_unwrap random_wrap reduce_and reduce_or reduce_xor
  rng_bit_generator rng_uniform shift_left shift_right_arithmetic shift_right_logical threefry2x32
  threefry4x32 xor dimension_size dim_as_value shape_assertion shard_alike empty empty2
  """.split()  # noqa: SIM905, a table of words
)
# Listed by name so that a new primitive of JAX, which is opaque as well, is noticed.
_OPAQUE = set(
  """
  accum_grad_in_ref add_dependency addupdate all_gather_done all_gather_start
  all_gather_reduced_start
  all_to_all_done all_to_all_start assert_consumed_value async_load bcoo_dot_general
  bcoo_dot_general_sampled bcoo_extract bcoo_fromdense bcoo_sort_indices bcoo_spdot_general
  bcoo_sum_duplicates bcoo_todense bcoo_transpose bcsr_dot_general bcsr_extract bcsr_fromdense
  bcsr_todense bitcast bitcast_convert_type box_get box_set buffer_callback call_exported
  call_hi_primitive_linearized
  check compute_on coo_fromdense coo_matmat coo_matvec coo_spmm coo_spmv coo_todense core_map
  create_linear csr_fromdense csr_matmat csr_matvec csr_spmm csr_spmv csr_todense cudnn_fusion
  custom_fusion custom_jvp_call_jaxpr custom_lin custom_partitioning dce_sink debug_callback
  debug_print dot_product_attention_bwd dot_product_attention_bwd_wrapper
  dot_product_attention_fp8_bwd dot_product_attention_fp8_bwd_wrapper dot_product_attention_fp8_fwd
  dot_product_attention_fp8_fwd_wrapper dot_product_attention_fwd dot_product_attention_fwd_wrapper
  einshape_lo empty_ref ffi_call free_ref freeze from_edtype fused_call fusible geqp3 get
  global_array_to_host_local_array has_memory_space hessenberg host_local_array_to_global_array
  inspect_sharding io_callback jaxpr_call layout_cast linear_call mpmd_map new_box new_ref new_log
  log_extend log_read pallas_call parallel_loop pbroadcast_done pbroadcast_start pin pipeline_body
  ppermute_done ppermute_start precv print_layout psend psum_done psum_start psum_invariant_start
  pure_callback random_gamma reduce_scatter_done reduce_scatter_start remat_opt
  remove_memory_space rnn_bwd rnn_fwd run_scoped run_state scaled_dot scaled_matmul
  scaled_matmul_wrapper scan_count schur select_and_scatter spsolve stage swap to_edtype todense
  tpu_custom_call tridiagonal unpin unreduced_pmax unreduced_pmin unreduced_psum_start
  unreduced_reduce_scatter_start with_memory_space_constraint xla_metadata_call xla_metadata_value
  stochastic_round all_reduce_population_count all_reduce_ffs _copysign unique
  consume pbroadcast_dynamic program_order relayout unreachable
  """.split()  # noqa: SIM905
)
_RULES: dict[str, tuple[PrimitiveClass, Rule | Winner]] = {}


def structural(*names: str) -> Callable[[Rule], Rule]:
  """Puts the rule of a primitive that holds programs into the table."""
  return lambda rule: _put(PrimitiveClass.STRUCTURAL, names, rule)


def smooth(*names: str) -> Callable[[Rule], Rule]:
  """Puts a rule into the table for a primitive without kinks that cannot just be run."""
  return lambda rule: _put(PrimitiveClass.SMOOTH, names, rule)


def winner(*names: str) -> Callable[[type[Winner]], type[Winner]]:
  """Puts a winner into the table."""

  def put(kind: type[Winner]) -> type[Winner]:
    _put(PrimitiveClass.WINNER, names, kind())
    return kind

  return put


def _put(kind: PrimitiveClass, names: Sequence[str], rule: Any) -> Any:
  for name in names:
    if classify(name) is not PrimitiveClass.OPAQUE:
      raise ValueError(
        f"The primitive `{name}` already is {classify(name).name.lower()}. A primitive has one "
        "class; leave out the second."
      )
    _RULES[name] = (kind, rule)
  return rule


def looked_up(name: str) -> tuple[PrimitiveClass, Any]:
  """Gives the class of a primitive, and its rule; None where it is just run."""
  known = _RULES.get(name)
  if known is not None:
    return known
  return (PrimitiveClass.SMOOTH if name in _SMOOTH else PrimitiveClass.OPAQUE), None


def is_listed(name: str) -> bool:
  """Whether the table knows a primitive at all, be it as opaque."""
  return name in _RULES or name in _SMOOTH or name in _OPAQUE


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
  return looked_up(getattr(primitive, "name", primitive))[0]


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
  _put(PrimitiveClass.SMOOTH, [name], None)


def register(primitive: Any) -> Callable[[type[Winner]], type[Winner]]:
  """Says how a primitive of your own decides; a class decorator.

  The class derives from `Winner` and has two methods. `decide(call, point, rates)` gives the
  decision as an array; `rates` is None, or the operands' derivatives along a direction, which then
  decide exact ties. `follow(call, decision, point, moved)` gives the results at moved operands, as
  a list; at `moved == point` they are the primitive's own. With `margins` too, `sites` can say how
  far from a tie each unit is. `call.params` holds the equation's parameters, `call.bind(operands)`
  runs it.

  Args:
    primitive: a JAX primitive, or its name.

  Returns:
    A decorator that puts the class into the table and hands it back.

  Raises:
    ValueError: if the primitive already has a class other than opaque.

  Example:
    >>> import jax.numpy as jnp, kinkopt
    >>> @kinkopt.kinks.register("my_abs")
    ... class MyAbs(kinkopt.kinks.Winner):
    ...   def decide(self, call, point, rates):
    ...     return point[0] >= 0
    ...
    ...   def follow(self, call, decision, point, moved):
    ...     return [jnp.where(decision, moved[0], -moved[0])]
    >>> kinkopt.kinks.classify("my_abs").name
    'WINNER'

  References:
    See `classify`.
  """
  return winner(getattr(primitive, "name", primitive))
