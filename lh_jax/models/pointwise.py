"""What networks do to each pixel alone, in its fast form: the 1x1 convolution and the exact GELU."""

from __future__ import annotations

import functools
import math
from typing import Any

import flax.linen as nn
from flax.linen.dtypes import promote_dtype
import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x @ kernel for (..., C) and (C, F), reverse-mode derivatives only.

  The rule for the kernel is ours because the one that JAX finds computes its transpose: on the CPU, XLA then copies the
  gradient with its axes turned, and computes anew for each copy what the gradient is the sum of.
  """
  return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _product_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple]:
  return product(x, kernel), (x, kernel)


def _product_backward(saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
  x, kernel = saved
  pixels = tuple(range(x.ndim - 1))
  of_x = lax.dot_general(gradient, kernel, (((x.ndim - 1,), (1,)), ((), ())))
  of_kernel = lax.dot_general(x, gradient, ((pixels, pixels), ((), ())))
  return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


product.defvjp(_product_forward, _product_backward)


def _as_dot(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
  # Flax hands over what the caller of `Pointwise` may have asked for beyond a 1x1 convolution.
  plain = {'lhs_dilation': (1, 1), 'rhs_dilation': (1, 1), 'feature_group_count': 1, 'precision': None}
  asked = {name: options[name] for name, value in plain.items() if options.get(name, value) != value}
  if kernel.shape[:2] != (1, 1) or tuple(strides) != (1, 1) or padding not in ('SAME', 'VALID') or asked:
    raise ValueError(
      f'Pointwise is a plain 1x1 convolution, got a kernel of {kernel.shape}, {strides}, {padding}, {asked}'
    )
  return product(x, kernel[0, 0])


def _of_dense(x: jax.Array, kernel: jax.Array, dimensions: Any, precision: Any = None) -> jax.Array:
  if precision is not None:
    raise ValueError('Dense computes in the default precision')
  return product(x, kernel)


Dense = functools.partial(nn.Dense, dot_general=_of_dense)
# A convolution of 1x1 pixels written as the matrix product that it is: XLA's CPU convolution is up to twice as slow.
Pointwise = functools.partial(nn.Conv, kernel_size=(1, 1), conv_general_dilated=_as_dot)


class ScaledPointwise(nn.Module):
  """A matrix product for each pixel or token, times a learned scale of each output channel: ends a residual branch.

  The scale goes into the kernel. So the gradient that arrives is an operand of matrix products, and is computed once;
  where it is first multiplied by the scale, XLA computes it anew for every block from all that it is the sum of, at a
  cost that grows with the square of the depth.

  Attributes:
    features: channels out.
    kernel_size: leading axes of the parameter 'kernel', (1, 1) for that of a convolution; besides it there is 'bias'.
    dtype: of the computation; None is that of the inputs and parameters.
  """

  features: int
  kernel_size: tuple[int, ...] = (1, 1)
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, scale: jax.Array | None) -> jax.Array:
    """Maps (..., C) to (..., features); `scale` is (features,), None is 1."""
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), shape, jnp.float32).reshape(-1, self.features)
    bias = self.param('bias', nn.initializers.zeros, (self.features,), jnp.float32)
    if scale is not None:
      kernel, bias = kernel * scale[None], bias * scale
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
    return product(x, kernel) + bias.reshape((1,) * (x.ndim - 1) + (-1,))

  def multiply_adds(self, x: jax.Array, *_: Any) -> int:
    """Counts those of an input x, for `lh_jax.models.summary`."""
    return x.size * self.features


class Weights(nn.Module):
  """The parameters of a convolution, 'kernel' and 'bias', for a caller who computes it in a form of its own.

  Attributes:
    shape: of the kernel, HWIO.
    dtype: of what is returned; the parameters are float32.
    use_bias: without one, the bias that is returned is zero.
  """

  shape: tuple[int, ...]
  dtype: Any
  use_bias: bool = True

  @nn.compact
  def __call__(self) -> tuple[jax.Array, jax.Array]:
    """Returns (kernel, bias)."""
    kernel = self.param('kernel', nn.initializers.lecun_normal(), self.shape, jnp.float32).astype(self.dtype)
    if not self.use_bias:
      return kernel, jnp.zeros(self.shape[-1:], self.dtype)
    return kernel, self.param('bias', nn.initializers.zeros, self.shape[-1:], jnp.float32).astype(self.dtype)


def gelu(x: jax.Array) -> jax.Array:
  """The exact GELU, x Phi(x)."""
  return _gelu(x) if x.dtype == jnp.float32 else nn.gelu(x, approximate=False)


# By erf rather than by JAX's erfc: less than half the time, and wrong by no more than 1e-7 |x|. With a rule of ours, a
# training step keeps one array for the derivative instead of three.
@jax.custom_jvp
def _gelu(x: jax.Array) -> jax.Array:
  return x * _normal_cdf(x)


@_gelu.defjvp
def _gelu_derivative(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
  (x,), (tangent,) = primals, tangents
  cdf = _normal_cdf(x)
  density = jnp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
  return x * cdf, tangent * (cdf + x * density)


def _normal_cdf(x: jax.Array) -> jax.Array:
  return 0.5 + 0.5 * lax.erf(x * math.sqrt(0.5))
