"""Resampling with the conventions of PyTorch's `interpolate(align_corners=False)`, which the published models assume.

Contract: `resize_bilinear` maps (B, H, W, C) to (B, h, w, C) in the input's dtype, computed in float32, without
antialiasing; `interpolation_matrix` is the one-dimensional operator as a float64 NumPy matrix, for fixed sizes.
`jax.image.resize` differs in its defaults: it antialiases when it shrinks, and its cubic has a = -0.5.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

KINDS = ('linear', 'cubic')


def resize_bilinear(images: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Resizes bilinearly: half-pixel centres, borders clamped, no antialiasing.

  A doubling of both sides is computed from shifted copies: cheap at any size, and local, so that it tiles and
  shards exactly. Every other size is a product with two matrices, exact to float32 on every backend.

  Args:
    images: (B, H, W, C).
    size: (h, w) of the result, in pixels.

  Returns:
    (B, h, w, C) in the dtype of images.

  Raises:
    ValueError: h or w is below 1.
  """
  h, w = size
  if h < 1 or w < 1:
    raise ValueError(f'resize_bilinear got the size {h}x{w}; height and width must be at least 1')
  n_rows, n_columns = images.shape[1:3]
  if (h, w) == (n_rows, n_columns):
    return images
  x = images.astype(jnp.float32)
  if (h, w) == (2 * n_rows, 2 * n_columns):
    return upsample_bilinear_2x(x).astype(images.dtype)
  rows = jnp.asarray(interpolation_matrix(n_rows, h, kind='linear'), jnp.float32)
  columns = jnp.asarray(interpolation_matrix(n_columns, w, kind='linear'), jnp.float32)
  # The default precision of a product is bfloat16 on TPUs and may be TF32 on GPUs.
  x = jnp.einsum('ph,bhwc->bpwc', rows, x, precision=lax.Precision.HIGHEST)
  x = jnp.einsum('qw,bpwc->bpqc', columns, x, precision=lax.Precision.HIGHEST)
  return x.astype(images.dtype)


def upsample_bilinear_2x(x: jax.Array) -> jax.Array:
  """Doubles both sides bilinearly with shifted copies, equal to `resize_bilinear` at that size.

  Output 2i of an axis is 1/4 x[i-1] + 3/4 x[i], output 2i+1 is 3/4 x[i] + 1/4 x[i+1], the border clamped.

  Args:
    x: (B, H, W, C).

  Returns:
    (B, 2 H, 2 W, C) in the dtype of x, computed in it.
  """
  for axis in (1, 2):
    n = x.shape[axis]
    padded = pad_edge(x, [(1, 1) if i == axis else (0, 0) for i in range(4)])
    before = lax.slice_in_dim(padded, 0, n, axis=axis)
    after = lax.slice_in_dim(padded, 2, n + 2, axis=axis)
    pairs = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis=axis + 1)
    x = pairs.reshape(x.shape[:axis] + (2 * n,) + x.shape[axis + 1 :])
  return x


def pad_edge(x: jax.Array, widths: Sequence[tuple[int, int]]) -> jax.Array:
  """Repeats the border, as `jnp.pad(mode='edge')`, and leaves axes without padding alone.

  `jnp.pad` takes slices along every axis, padded or not: the derivative of one along a batch that is split over devices
  sends whole activations between all of them, although they are zero.

  Args:
    x: array.
    widths: (before, after) for each axis.

  Returns:
    The padded array.
  """
  for axis, (before, after) in enumerate(widths):
    if before or after:
      first = lax.slice_in_dim(x, 0, 1, axis=axis)
      last = lax.slice_in_dim(x, x.shape[axis] - 1, None, axis=axis)
      x = lax.concatenate([first] * before + [x] + [last] * after, axis)
  return x


def interpolation_matrix(
  n_in: int, n_out: int, *, kind: str, scale: float | None = None, antialias: bool = False
) -> np.ndarray:
  """The matrix M of a one-dimensional resampling, out = M @ in.

  Output i samples the input at (i + 0.5) / scale - 0.5. The cubic kernel is that of Keys (1981, IEEE TASSP 29(6))
  with a = -0.75, or a = -0.5 with antialiasing, as PyTorch has them. Without antialiasing, taps beyond the border
  repeat the border pixel; with it they are dropped and each row is normalised. Rows sum to 1.

  Args:
    n_in: input samples.
    n_out: output samples.
    kind: 'linear' or 'cubic'.
    scale: output samples per input sample; None means n_out / n_in. DINOv2 passes (n_out + 0.1) / n_in.
    antialias: widen the kernel by 1 / scale when shrinking.

  Returns:
    (n_out, n_in) float64.

  Raises:
    ValueError: unknown kind, a size below 1, or a scale that is not positive.
  """
  if kind not in KINDS:
    raise ValueError(f'unknown interpolation kind {kind!r}; known kinds: {", ".join(KINDS)}')
  if n_in < 1 or n_out < 1:
    raise ValueError(f'interpolation_matrix got n_in={n_in}, n_out={n_out}; both must be at least 1')
  scale = n_out / n_in if scale is None else scale
  if not scale > 0:
    raise ValueError(f'interpolation_matrix got scale={scale}; it must be positive')
  stretch = min(scale, 1.0) if antialias else 1.0
  radius = (1.0 if kind == 'linear' else 2.0) / stretch
  source = (np.arange(n_out) + 0.5) / scale - 0.5
  taps = np.arange(int(np.ceil(2 * radius)) + 1)
  columns = np.floor(source - radius).astype(int)[:, None] + taps[None, :]
  weights = _kernel((columns - source[:, None]) * stretch, kind=kind, a=-0.5 if antialias else -0.75)
  if antialias:
    weights = np.where((columns >= 0) & (columns < n_in), weights, 0.0)
  matrix = np.zeros((n_out, n_in))
  rows = np.broadcast_to(np.arange(n_out)[:, None], columns.shape)
  np.add.at(matrix, (rows, np.clip(columns, 0, n_in - 1)), weights)
  return matrix / matrix.sum(axis=1, keepdims=True)


def _kernel(distance: np.ndarray, *, kind: str, a: float) -> np.ndarray:
  d = np.abs(distance)
  if kind == 'linear':
    return np.maximum(1.0 - d, 0.0)
  near = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
  far = ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
  return np.where(d <= 1.0, near, np.where(d < 2.0, far, 0.0))
