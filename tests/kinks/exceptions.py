"""Members of the corpus on which the difference of what is evaluated is not JAX's derivative.

Each with the reason. A test demands that they still disagree, so that the table stays true.
"""

import jax

_DRAWN_BY_REJECTION = (
  "random_gamma is opaque and runs in float32, by rejection, whose path is what is differenced; "
  "JAX differentiates it implicitly, at a fixed quantile"
)
_OPAQUE = "the sparse primitive is opaque and runs in float32, and `Frozen.opaque` lists it"
_WHERE_TRAP = "JAX's derivative is NaN: the infinite slope of the branch not taken, times 0"

EXCEPTIONS = {
  "losses.softmax_cross_entropy of some": _WHERE_TRAP,
  "numpy.where over a masked root": _WHERE_TRAP,
  "special.spence from 1": "JAX's derivative is NaN between 1 and 2",
  "solvers.odeint": "JAX solves the adjoint equation; what is differenced are the adaptive steps",
  "vmap of solvers.fixed point": "JAX's derivative is NaN at XLA's lowest level of optimization",
  **dict.fromkeys(
    (
      "sparse.BCOO matvec",
      "sparse.BCOO matmat",
      "sparse.BCOO todense",
      "sparse.BCOO sum and elementwise",
      "sparse.sparsified function",
    ),
    _OPAQUE,
  ),
  **dict.fromkeys(
    (
      "random.gamma in its shape",
      "random.loggamma in its shape",
      "random.beta in its shapes",
      "random.chisquare in its degrees",
      "random.dirichlet in its shapes",
      "random.f in its degrees",
      "random.generalized_normal in its power",
      "random.t in its degrees",
    ),
    _DRAWN_BY_REJECTION,
  ),
}
if jax.__version_info__ < (0, 12):
  EXCEPTIONS |= dict.fromkeys(
    ("complex.sign", "numpy.sign of complex"), "JAX takes 0 for the derivative of z / |z|"
  )

# These hold a compiled loop, which XLA rounds in its own way, even where nothing else is compiled.
NOT_BIT_FOR_BIT = {
  "special.exp1",
  "special.expn in x",
  "special.expi below 0",
  "solvers.custom_root",
  "vmap of solvers.custom_root",
  "vmap of solvers.Newton",
  "vmap of solvers.fixed point",
  "vmap of solvers.BFGS",
}
