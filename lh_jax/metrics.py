"""PSNR and SSIM, and the pair of them that restoration papers report.

Contract: images (B, H, W, C) on the scale [0, max_value], one float32 value per image. `psnr` and `ssim` are pure,
jittable and differentiable; `evaluate_pair` takes the uint8 pixels that are written to disk, without border crop. It
gives the two values on luma, the headline of the UHD restoration papers, and on RGB, because luma hides colour errors.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lh_jax.ops.color import rgb_to_y

WINDOW = 11
SIGMA = 1.5


def psnr(a: jax.Array, b: jax.Array, *, max_value: float) -> jax.Array:
  """Peak signal-to-noise ratio, 10 log10(max_value^2 / mean squared error), over all pixels and channels.

  Args:
    a: (B, H, W, C) in [0, max_value]; not clipped here.
    b: the same shape.
    max_value: peak of the scale.

  Returns:
    (B,) float32 in dB; infinite where the images are equal.

  Raises:
    ValueError: the shapes differ or are not (B, H, W, C).
  """
  _check_shapes(a, b)
  error = jnp.square(a.astype(jnp.float32) - b.astype(jnp.float32))
  mse = jnp.mean(error, axis=(1, 2, 3)) / max_value**2
  # The argument of the logarithm is kept positive, so that a gradient through the other images stays finite.
  equal = mse <= 0
  return jnp.where(equal, jnp.inf, -10.0 * jnp.log10(jnp.where(equal, 1.0, mse)))


def ssim(a: jax.Array, b: jax.Array, *, max_value: float) -> jax.Array:
  """Structural similarity (Wang et al. 2004, IEEE TIP 13(4)), averaged over channels and over the valid region.

  Gaussian window of 11 x 11 pixels with sigma 1.5, C1 = (0.01 max_value)^2, C2 = (0.03 max_value)^2, population
  covariance. Equal to scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
  use_sample_covariance=False)`, whose mean is over the same region, 5 pixels inside the border.

  Args:
    a: (B, H, W, C) in [0, max_value], at least 11 x 11 pixels.
    b: the same shape.
    max_value: peak of the scale.

  Returns:
    (B,) float32 in [-1, 1].

  Raises:
    ValueError: the shapes differ, are not (B, H, W, C), or are smaller than the window.
  """
  _check_shapes(a, b)
  if min(a.shape[1:3]) < WINDOW:
    raise ValueError(f'ssim got images of {a.shape[1]}x{a.shape[2]} pixels; the window needs {WINDOW}x{WINDOW}')

  # One channel at a time, picked inside the loop: a channel of a 4K image takes ten maps of 33 MB.
  def channel(index: jax.Array) -> jax.Array:
    return _ssim_plane(
      lax.dynamic_index_in_dim(a, index, axis=-1, keepdims=False),
      lax.dynamic_index_in_dim(b, index, axis=-1, keepdims=False),
      max_value=max_value,
    )

  return jnp.mean(lax.map(channel, jnp.arange(a.shape[-1])), axis=0)


def evaluate_pair(restored: np.ndarray, reference: np.ndarray) -> dict[str, float]:
  """Scores one restored image against its reference.

  Args:
    restored: (H, W, 3) uint8 RGB, at least 11 x 11 pixels.
    reference: the same shape and dtype.

  Returns:
    'psnr_y', 'ssim_y' on the unrounded BT.601 luma with peak 255, 'psnr_rgb', 'ssim_rgb' on RGB with peak 255. The
    PSNR of equal images is infinite.

  Raises:
    ValueError: the shapes differ, are not (H, W, 3), are smaller than the window, or the dtype is not uint8.
  """
  for name, image in (('restored', restored), ('reference', reference)):
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
      raise ValueError(f'evaluate_pair got a {name} image of {image.dtype} {image.shape}; it must be uint8 (H, W, 3)')
  _check_shapes(restored[None], reference[None])
  return {name: float(value) for name, value in _score(restored, reference).items()}


@jax.jit
def _score(restored: jax.Array, reference: jax.Array) -> dict[str, jax.Array]:
  a, b = restored[None].astype(jnp.float32), reference[None].astype(jnp.float32)
  y_a, y_b = rgb_to_y(a / 255.0), rgb_to_y(b / 255.0)
  return {
    'psnr_y': psnr(y_a, y_b, max_value=255.0)[0],
    'ssim_y': ssim(y_a, y_b, max_value=255.0)[0],
    'psnr_rgb': psnr(a, b, max_value=255.0)[0],
    'ssim_rgb': ssim(a, b, max_value=255.0)[0],
  }


def _check_shapes(a: jax.Array, b: jax.Array) -> None:
  if a.shape != b.shape or a.ndim != 4:
    raise ValueError(f'a metric got images of shapes {a.shape} and {b.shape}; they must be equal and (B, H, W, C)')


def _ssim_plane(a: jax.Array, b: jax.Array, *, max_value: float) -> jax.Array:
  """SSIM of one channel: (B, H, W) twice to (B,)."""
  # SSIM does not change with the scale, so the constants are those of a peak of 1. The shift to [-0.5, 0.5] keeps
  # E[x^2] - E[x]^2 from cancelling in float32: variances do not see it, means get it back.
  shift = 0.5
  a = a.astype(jnp.float32) / max_value - shift
  b = b.astype(jnp.float32) / max_value - shift
  # Stacked, the five maps are written once; filtered one by one, XLA makes three times the temporaries on the CPU.
  mean_a, mean_b, aa, bb, ab = _blur(jnp.stack([a, b, a * a, b * b, a * b]))
  var_a = aa - mean_a * mean_a
  var_b = bb - mean_b * mean_b
  covariance = ab - mean_a * mean_b
  mean_a, mean_b = mean_a + shift, mean_b + shift
  c1, c2 = 0.01**2, 0.03**2
  structure = (2.0 * covariance + c2) / (var_a + var_b + c2)
  luminance = (2.0 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
  return jnp.mean(luminance * structure, axis=(1, 2))


@functools.cache
def _window() -> tuple[float, ...]:
  offsets = np.arange(WINDOW) - WINDOW // 2
  weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
  return tuple((weights / weights.sum()).tolist())


def _blur(x: jax.Array) -> jax.Array:
  """Separable Gaussian window over the valid region: (..., H, W) to (..., H - 10, W - 10)."""
  for axis in (-2, -1):
    n = x.shape[axis] - WINDOW + 1
    x = sum(weight * lax.slice_in_dim(x, i, i + n, axis=axis) for i, weight in enumerate(_window()))
  return x
