"""The Gauss-Newton matrix: the curvature of the loss, without that of the model.

Where a loss is a convex function of a model's outputs, `J^T H J`, with the Jacobian `J` of the
outputs and the Hessian `H` of the loss over them, has no negative eigenvalue anywhere, costs no
second derivative of the model, and is the whole Hessian where the outputs fit.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kinkopt._coordinates import split_real
from kinkopt.newton._columns import unit_products
from kinkopt.newton._curvature import Curvature, Linearization, check_batch_size
from kinkopt.newton._matrix import Blocks, Matrix
from kinkopt.newton._point import Parts, Point, scalar


@dataclasses.dataclass(frozen=True)
class GaussNewton(Curvature):
  """The curvature of a convex loss of a model's outputs, as if the model were linear.

  Args:
    output_fn: `(params, **kwargs) -> outputs`, the model or the residuals: any tree of real arrays.
    loss_fn: `(outputs, **kwargs) -> scalar`, convex. None stands for half the sum of squares, which
      makes `output_fn` the residuals `r` of `0.5 * sum(r**2)`.
    batch_size: how many columns of the Jacobian are made at once; see `Hessian`.

  The loss that is minimised must be `loss_fn(output_fn(params))`, up to terms without curvature:
  for a sum of squares without the half pass `loss_fn=lambda r: jnp.sum(r**2)`. A regulariser
  belongs among the outputs.

  Numerics:
    With `m` outputs the dense matrix costs `n` products with the Jacobian and a product of
    matrices, and the memory of the Jacobian, `m * n`. With `loss_fn` its Hessian is never written
    out.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import kinkopt
    >>> t, y = jnp.array([0.0, 1.0, 2.0]), jnp.array([2.0, 1.0, 0.5])
    >>> residual = lambda p: p["a"] * jnp.exp(-p["b"] * t) - y
    >>> loss = lambda p: 0.5 * jnp.sum(residual(p) ** 2)
    >>> tx = kinkopt.newton.newton(curvature=kinkopt.newton.GaussNewton(residual))
    >>> params = {"a": 1.0, "b": 0.0}
    >>> state = tx.init(params)
    >>> for _ in range(6):
    ...   updates, state = tx.update(jax.grad(loss)(params), state, params, value_fn=loss)
    ...   params = optax.apply_updates(params, updates)
    >>> print(f"{params['a']:.4f} {params['b']:.4f}")
    2.0000 0.6931

  References:
    Nocedal and Wright, "Numerical Optimization" (2006), section 10.3; Schraudolph (2002) for losses
    other than squares.
  """

  output_fn: Callable[..., Any]
  loss_fn: Callable[..., Any] | None = None
  batch_size: int | None = None

  def __post_init__(self) -> None:
    check_batch_size(self)

  def at(self, point: Point) -> Linearization:
    model = point.on_parts(self.output_fn)
    outputs, jvp = jax.linearize(lambda parts: split_real(model(parts))[0], point.parts)
    vjp = jax.linear_transpose(jvp, point.parts)
    curve = self._curve(point, jax.eval_shape(model, point.parts), outputs)

    def mv(parts: Parts) -> Parts:
      (product,) = vjp(curve(jvp(parts)))
      return product

    def matrix() -> Matrix:
      rows = unit_products(jvp, point.parts, self.batch_size)
      curved = rows if self.loss_fn is None else jax.vmap(curve)(rows)
      flat = lambda array: array.reshape(len(array), -1)  # noqa: E731
      products = [
        jnp.matmul(flat(a), flat(b).T, precision="highest").astype(point.dtype)
        for a, b in zip(rows, curved)
      ]
      return Blocks.full(sum(products, jnp.zeros([], point.dtype)))

    return Linearization(mv, matrix)

  def _curve(self, point: Point, like: Any, outputs: Parts) -> Callable[[Parts], Parts]:
    """Gives the product with the Hessian of the loss over the outputs."""
    if self.loss_fn is None:
      return lambda parts: parts
    loss, named = self.loss_fn, point.named_arguments(self.loss_fn)
    _, join = split_real(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like))
    gradient = jax.grad(lambda parts: scalar("loss_fn", loss(join(parts), **named)))
    return jax.linearize(gradient, outputs)[1]
