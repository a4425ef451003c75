"""Norm, SiLU and 3x3 convolution in one pass: the pre-activated convolution of which the VAE's blocks consist.

Contract: `norm_silu_conv` is one function, Conv3(SiLU(LayerNorm(x))) + offset + residual, zero padding, in two forms
that agree to float32 rounding. 'direct' is XLA's convolution. 'winograd' computes 4x4 outputs from 6x6 inputs
(Lavin & Gray 2016, arXiv:1509.09308), with a quarter of the multiplications, one strip of rows after the other, so
that what lies between norm and result stays in the cache: for float32 inference on CPUs. Its grid of 4x4 outputs
starts at the corner of the array, so two windows of an image whose origins are multiples of 4 apart give the same
bits away from their margins, provided that each has at least 64x64 pixels: for smaller arrays XLA orders the sums of a
norm otherwise, here as in 'direct'.
"""

from __future__ import annotations

import functools
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from lh_jax.models import layers

METHODS = ('direct', 'winograd', 'auto')
TILE = 4
# Pixels of a strip: what its 36 transformed channels take (9 MB at 64 channels) fits a last-level cache, and the
# products are long enough to be shared among threads.
STRIP = 16384


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """B^T (6, 6), G (6, 3) and A^T (4, 6) of F(4, 3) by Toom-Cook: A^T ((G g) * (B^T d)) correlates d with g.

  The usual points 0, 1, -1, 2, -2 round twice as badly as these, whose powers are closer to 1 and exact in float32.
  """
  points = (0.0, 0.75, -0.75, 1.5, -1.5)
  data, kernel = np.zeros((6, 6)), np.zeros((6, 3))
  for row, point in enumerate(points):
    others = [other for other in points if other != point]
    data[row, :5] = np.poly(others)[::-1]
    kernel[row] = np.power(point, range(3)) / np.prod([point - other for other in others])
  data[5], kernel[5, 2] = np.poly(points)[::-1], 1.0
  result = np.zeros((TILE, 6))
  result[:, :5] = np.power(np.asarray(points), np.arange(TILE)[:, None])
  result[-1, 5] = 1.0
  return data, kernel, result


DATA, KERNEL, RESULT = _transforms()


def norm_silu_conv(
  x: jax.Array,
  norm: tuple[jax.Array, jax.Array],
  conv: tuple[jax.Array, jax.Array],
  residual: jax.Array | None = None,
  *,
  epsilon: float,
  method: str,
) -> jax.Array:
  """Conv3(SiLU(LayerNorm(x))) + offset + residual, zero padding, same size.

  Args:
    x: (B, H, W, C) float32.
    norm: scale and bias of the norm over each pixel's channels, each (C,).
    conv: kernel (3, 3, C, F) and offset (F,).
    residual: (B, H, W, F), or None.
    epsilon: added to the variance.
    method: 'direct', 'winograd', or 'auto': winograd on the CPU, direct elsewhere, resolved when the program is
      lowered.

  Returns:
    (B, H, W, F) float32.

  Raises:
    ValueError: x is not float32, the kernel does not fit, or the method is unknown.
  """
  if method not in METHODS:
    raise ValueError(f'unknown convolution method {method!r}; known methods: {", ".join(METHODS)}')
  if x.dtype != jnp.float32:
    raise ValueError(f'norm_silu_conv got {x.dtype} activations; it takes float32: use the layers one by one')
  if conv[0].shape[:3] != (3, 3, x.shape[-1]):
    raise ValueError(
      f'norm_silu_conv got a kernel of shape {conv[0].shape} for {x.shape[-1]} channels; '
      f'it must be (3, 3, {x.shape[-1]}, features)'
    )
  direct = functools.partial(_direct, epsilon=epsilon)
  winograd = functools.partial(_winograd, epsilon=epsilon)
  if method == 'direct':
    return direct(x, norm, conv, residual)
  if method == 'winograd':
    return winograd(x, norm, conv, residual)
  return lax.platform_dependent(x, norm, conv, residual, cpu=winograd, default=direct)


class Parameters(nn.Module):
  """The parameters of a layer without the layer, for a form that computes several layers at once.

  Attributes:
    entries: (name, initializer, shape) of each.
  """

  entries: tuple[tuple[str, Any, tuple[int, ...]], ...]

  @nn.compact
  def __call__(self) -> tuple[jax.Array, ...]:
    return tuple(self.param(name, init, shape, jnp.float32) for name, init, shape in self.entries)


def layer(
  x: jax.Array,
  features: int,
  *,
  names: tuple[str, str],
  norm: str,
  method: str,
  conv_dtype: Any,
  kernel_init: Any = nn.initializers.lecun_normal(),
  residual: jax.Array | None = None,
) -> jax.Array:
  """Conv3(SiLU(N(x))) + residual, inside a compact module; the form changes neither names nor shapes of parameters.

  Args:
    x: (B, H, W, C); its dtype is that of the norm.
    features: channels of the result.
    names: of the norm and of the convolution.
    norm: see `layers.make_norm`.
    method: 'direct' layer by layer, else see `norm_silu_conv`; other norms and dtypes are always direct.
    conv_dtype: dtype of the convolution and of the result.
    kernel_init: of the convolution.
    residual: (B, H, W, features), or None.

  Returns:
    (B, H, W, features) in conv_dtype.

  Raises:
    ValueError: unknown norm or method.
  """
  if method == 'direct' or norm != 'layer' or x.dtype != jnp.float32 or conv_dtype != jnp.float32:
    h = nn.silu(layers.make_norm(norm, dtype=x.dtype, name=names[0])(x))
    y = nn.Conv(features, (3, 3), dtype=conv_dtype, kernel_init=kernel_init, name=names[1])(h)
    return y if residual is None else residual + y
  c, zeros = x.shape[-1], nn.initializers.zeros
  scale_bias = Parameters((('scale', nn.initializers.ones, (c,)), ('bias', zeros, (c,))), name=names[0])()
  kernel_bias = Parameters(
    (('kernel', kernel_init, (3, 3, c, features)), ('bias', zeros, (features,))), name=names[1]
  )()
  return norm_silu_conv(x, scale_bias, kernel_bias, residual, epsilon=layers.EPSILON, method=method)


def _norm_silu(x: jax.Array, scale: jax.Array, bias: jax.Array, *, epsilon: float) -> jax.Array:
  shape = (1,) * (x.ndim - 1) + (-1,)
  centred = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
  return jax.nn.silu(centred * lax.rsqrt(variance + epsilon) * scale.reshape(shape) + bias.reshape(shape))


def _direct(x, norm, conv, residual, *, epsilon):
  kernel, offset = conv
  h = _norm_silu(x, *norm, epsilon=epsilon)
  y = lax.conv_general_dilated(h, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  y = y + offset.reshape(1, 1, 1, -1)
  return y if residual is None else residual + y


def _winograd(x, norm, conv, residual, *, epsilon):
  kernel, offset = conv
  b, h, w, _ = x.shape
  below, right = -h % TILE, -w % TILE
  if below or right:
    margins = ((0, 0), (0, below), (0, right), (0, 0))
    x = jnp.pad(x, margins)
    residual = None if residual is None else jnp.pad(residual, margins)
  height, width, features = h + below, w + right, kernel.shape[-1]
  rows = min(height, max(TILE, STRIP // width // TILE * TILE))
  strips = -(-height // rows)
  lines = x.reshape(b * height, width, -1)
  kernels = jnp.einsum('ai,bj,ijcf->bacf', *2 * [jnp.asarray(KERNEL, x.dtype)], kernel, precision='highest')
  kernels = kernels.reshape(36, *kernel.shape[2:])

  def strip(index, y):
    # The last strip overlaps the one before it, where it computes the same bits.
    image, top = index // strips, jnp.minimum(index % strips * rows, height - rows)

    # One gather of whole rows, halo included: slices joined afterwards take longer to compile and no less to run.
    source = top - 1 + jnp.arange(rows + 2)
    part = jnp.take(lines, image * height + jnp.clip(source, 0, height - 1), axis=0, mode='clip')
    inside = ((source >= 0) & (source < h))[:, None] & (jnp.arange(width) < w)[None]
    part = jnp.where(inside[..., None], _norm_silu(part, *norm, epsilon=epsilon), 0.0)
    part = _tiles(jnp.pad(part, ((0, 2), (1, 3), (0, 0))), kernels) + offset.reshape(1, 1, -1)
    if residual is not None:
      part = part + lax.dynamic_slice(residual, (image, top, 0, 0), (1, rows, width, features))[0]
    return lax.dynamic_update_slice(y, part[None], (image, top, 0, 0))

  y = lax.fori_loop(0, b * strips, strip, jnp.zeros((b, height, width, features), x.dtype))
  return y[:, :h, :w]


def _combine(coefficients: np.ndarray, parts: list[jax.Array]) -> jax.Array:
  """Sum of coefficients * parts; the zeros and ones cost nothing."""
  terms = [part if c == 1 else float(c) * part for c, part in zip(coefficients, parts) if c]
  return functools.reduce(jnp.add, terms)


def _tiles(x: jax.Array, kernels: jax.Array) -> jax.Array:
  """Correlates a padded strip (4 t + 4, 4 s + 4, C) with transformed kernels (36, C, F): (4 t, 4 s, F)."""
  t, s, c = x.shape[0] // TILE - 1, x.shape[1] // TILE - 1, x.shape[2]
  # The barriers keep XLA from merging the steps, which would compute each intermediate once per use.
  step = lax.optimization_barrier
  x = step(x).reshape(t + 1, TILE, 4 * s + 4, c)
  parts = [x[:-1, i] for i in range(TILE)] + [x[1:, i] for i in range(2)]
  x = step(jnp.stack([_combine(row, parts) for row in DATA])).reshape(6, t, s + 1, TILE, c)
  parts = [x[:, :, :-1, j] for j in range(TILE)] + [x[:, :, 1:, j] for j in range(2)]
  x = step(jnp.stack([_combine(row, parts) for row in DATA]).reshape(36, t * s, c))
  x = lax.dot_general(x, kernels, (((2,), (1,)), ((0,), (0,))), precision=lax.Precision.HIGHEST)
  x = step(x).reshape(6, 6, t, s, -1)
  x = step(jnp.stack([_combine(row, list(x)) for row in RESULT], axis=3))
  return jnp.stack([_combine(row, list(x)) for row in RESULT], axis=1).reshape(TILE * t, TILE * s, -1)
