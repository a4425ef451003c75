"""PSNR and SSIM, and the pair of them that restoration papers report.

Contract: images (B, H, W, C) on the scale [0, max_value], one float32 value per image. `psnr` and `ssim` are pure and
jittable; `evaluate_pair` takes the uint8 pixels that are written to disk, without border crop. The protocol is that of
the UHD restoration papers (Supp. Sec. 1): luma as the headline, and RGB beside it, because luma hides colour errors.
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
  mse = _mean(error) / max_value**2
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
    raise ValueError(f'ssim got images of {a.shape[1]}x{a.shape[2]} pixels; its window needs at least {WINDOW}x{WINDOW}')
  # SSIM does not change with the scale. The shift to [-0.5, 0.5] keeps E[x^2] - E[x]^2 from cancelling in float32;
  # covariances do not see it, means get it back.
  shift = 0.5
  a = a.astype(jnp.float32) / max_value - shift
  b = b.astype(jnp.float32) / max_value - shift
  # One channel at a time: five maps of a 4K image are 0.2 GB each channel.
  per_channel = lax.map(
    lambda pair: _ssim_map_mean(pair[0], pair[1], shift=shift), (jnp.moveaxis(a, -1, 0), jnp.moveaxis(b, -1, 0))
  )
  return jnp.mean(per_channel, axis=0)


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


def _mean(x: jax.Array) -> jax.Array:
  """Mean over all axes but the first, in two barred steps: one running float32 sum over a 4K image loses digits."""
  rows = lax.optimization_barrier(jnp.mean(x, axis=tuple(range(2, x.ndim))))
  return jnp.mean(rows, axis=1)


def _ssim_map_mean(a: jax.Array, b: jax.Array, *, shift: float) -> jax.Array:
  """SSIM of (B, H, W) images on the scale [-shift, 1 - shift], per image."""
  mean_a, mean_b = _blur(a), _blur(b)
  var_a = _blur(a * a) - mean_a * mean_a
  var_b = _blur(b * b) - mean_b * mean_b
  covariance = _blur(a * b) - mean_a * mean_b
  mean_a, mean_b = mean_a + shift, mean_b + shift
  c1, c2 = 0.01**2, 0.03**2
  structure = (2.0 * covariance + c2) / (var_a + var_b + c2)
  return _mean(structure * (2.0 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1))


@functools.cache
def _window() -> tuple[float, ...]:
  offsets = np.arange(WINDOW) - WINDOW // 2
  weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
  return tuple((weights / weights.sum()).tolist())


def _blur(x: jax.Array) -> jax.Array:
  """Separable Gaussian window over the valid region: (B, H, W) to (B, H - 10, W - 10)."""
  for axis in (1, 2):
    n = x.shape[axis] - WINDOW + 1
    x = sum(weight * lax.slice_in_dim(x, i, i + n, axis=axis) for i, weight in enumerate(_window()))
    # Fused, the second pass would compute the first one again for each of its taps.
    x = lax.optimization_barrier(x)
  return x
