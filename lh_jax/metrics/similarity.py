"""PSNR and SSIM, with the windows that published protocols use, and the pair that restoration papers report.

Contract: images (B, H, W, C) on the scale [0, max_value], one float32 value per image. `psnr` and `ssim` are pure,
jittable and differentiable; `evaluate_pair` takes the uint8 pixels that are written to disk. It gives the two values
on luma, the headline of the UHD restoration papers, and on RGB, because luma hides colour errors.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lh_jax.metrics import images
from lh_jax.ops.color import rgb_to_y

SIGMA = 1.5
# name: (pixels on a side, whether the map has the size of the image). On the full map the border pixels repeat.
WINDOWS = {'gaussian': (11, False), 'gaussian_full': (11, True), 'uniform': (7, False)}


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


def ssim(a: jax.Array, b: jax.Array, *, max_value: float, window: str = 'gaussian') -> jax.Array:
  """Structural similarity (Wang et al. 2004, IEEE TIP 13(4)), averaged over channels and over the map.

  C1 = (0.01 max_value)^2, C2 = (0.03 max_value)^2. The windows, and scikit-image's `structural_similarity` that each
  equals:

  * 'gaussian': 11 x 11 pixels, sigma 1.5, population covariance, over the valid region (as the UHD restoration papers
    compute it). `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`, whose mean is over that region.
  * 'gaussian_full': the same window at every pixel, the image continued by its border pixels (UHDformer).
  * 'uniform': 7 x 7 pixels of equal weight, sample covariance, over the valid region: scikit-image's defaults.

  Args:
    a: (B, H, W, C) in [0, max_value], at least as large as the window.
    b: the same shape.
    max_value: peak of the scale.
    window: key of WINDOWS.

  Returns:
    (B,) float32 in [-1, 1].

  Raises:
    ValueError: unknown window; or the shapes differ, are not (B, H, W, C), or are smaller than the window.
  """
  _check_shapes(a, b)
  if window not in WINDOWS:
    raise ValueError(f'unknown SSIM window {window!r}; window must be one of {", ".join(WINDOWS)}')
  side = WINDOWS[window][0]
  if min(a.shape[1:3]) < side:
    raise ValueError(f'ssim got images of {a.shape[1]}x{a.shape[2]} pixels; the window needs {side}x{side}')

  # One channel at a time, picked inside the loop: a channel of a 4K image takes ten maps of 33 MB.
  def channel(index: jax.Array) -> jax.Array:
    return _ssim_plane(
      lax.dynamic_index_in_dim(a, index, axis=-1, keepdims=False),
      lax.dynamic_index_in_dim(b, index, axis=-1, keepdims=False),
      max_value=max_value,
      window=window,
    )

  return jnp.mean(lax.map(channel, jnp.arange(a.shape[-1])), axis=0)


def evaluate_pair(
  restored: np.ndarray, reference: np.ndarray, *, border: int = 0, window: str = 'gaussian', ssim_side: int = 0
) -> dict[str, float]:
  """Scores one restored image against its reference.

  Args:
    restored: (H, W, 3) uint8 RGB, at least 11 x 11 pixels inside the border.
    reference: the same shape and dtype.
    border: pixels left out on each side.
    window: of SSIM, key of WINDOWS.
    ssim_side: images are averaged over blocks until their smaller side has about these pixels, for SSIM alone; 0 leaves
      them.

  Returns:
    'psnr_y', 'ssim_y' on the unrounded BT.601 luma with peak 255, 'psnr_rgb', 'ssim_rgb' on RGB with peak 255. The
    PSNR of equal images is infinite.

  Raises:
    ValueError: the images are not both uint8 (H, W, 3), their shapes differ or are smaller than the window.
  """
  images.check_pair('evaluate_pair', restored, reference)
  found = _score(restored, reference, border=border, window=window, ssim_side=ssim_side)
  return {name: float(value) for name, value in found.items()}


@functools.partial(jax.jit, static_argnames=('border', 'window', 'ssim_side'))
def _score(
  restored: jax.Array, reference: jax.Array, *, border: int, window: str, ssim_side: int
) -> dict[str, jax.Array]:
  height, width, _ = restored.shape
  rgb = [
    image[None, border : height - border, border : width - border].astype(jnp.float32)
    for image in (restored, reference)
  ]
  found = {}
  for colour, pair in (('y', [rgb_to_y(image / 255.0) for image in rgb]), ('rgb', rgb)):
    found[f'psnr_{colour}'] = psnr(*pair, max_value=255.0)[0]
    if ssim_side:
      pair = [_averaged(image, ssim_side) for image in pair]
    found[f'ssim_{colour}'] = ssim(*pair, max_value=255.0, window=window)[0]
  return found


def _averaged(image: jax.Array, side: int) -> jax.Array:
  """(1, H, W, C), its smaller side brought near `side` by PyTorch's adaptive average pooling, as matrix products."""
  ratio = max(1, round(min(image.shape[1:3]) / side))
  rows, columns = (jnp.asarray(pooling_weights(length, length // ratio)) for length in image.shape[1:3])
  return jnp.einsum('ih,bhwc,jw->bijc', rows, image, columns, precision='highest')


def pooling_weights(length: int, cells: int) -> np.ndarray:
  """Returns the (cells, length) float32 matrix of PyTorch's adaptive average pooling along one axis.

  Cell i is the mean from floor(i length / cells) to ceil((i + 1) length / cells), so that cells may overlap.
  """
  weights = np.zeros((cells, length), np.float32)
  for cell in range(cells):
    first, last = cell * length // cells, -(-(cell + 1) * length // cells)
    weights[cell, first:last] = 1.0 / (last - first)
  return weights


def _check_shapes(a: jax.Array, b: jax.Array) -> None:
  if a.shape != b.shape or a.ndim != 4:
    raise ValueError(f'a metric got images of shapes {a.shape} and {b.shape}; they must be equal and (B, H, W, C)')


def _ssim_plane(a: jax.Array, b: jax.Array, *, max_value: float, window: str) -> jax.Array:
  """SSIM of one channel: (B, H, W) twice to (B,)."""
  # SSIM does not change with the scale, so the constants are those of a peak of 1. The shift to [-0.5, 0.5] keeps
  # E[x^2] - E[x]^2 from cancelling in float32: variances do not see it, means get it back.
  shift = 0.5
  a = a.astype(jnp.float32) / max_value - shift
  b = b.astype(jnp.float32) / max_value - shift
  side, full = WINDOWS[window]
  if full:
    a, b = (jnp.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)), mode='edge') for x in (a, b))
  # Stacked, the five maps are written once; filtered one by one, XLA makes three times the temporaries on the CPU.
  mean_a, mean_b, aa, bb, ab = _blur(jnp.stack([a, b, a * a, b * b, a * b]), _weights(window))
  unbiased = side**2 / (side**2 - 1) if window == 'uniform' else 1.0
  var_a = unbiased * (aa - mean_a * mean_a)
  var_b = unbiased * (bb - mean_b * mean_b)
  covariance = unbiased * (ab - mean_a * mean_b)
  mean_a, mean_b = mean_a + shift, mean_b + shift
  c1, c2 = 0.01**2, 0.03**2
  structure = (2.0 * covariance + c2) / (var_a + var_b + c2)
  luminance = (2.0 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
  return jnp.mean(luminance * structure, axis=(1, 2))


@functools.cache
def _weights(window: str) -> tuple[float, ...]:
  """The window along one axis, of sum 1."""
  side = WINDOWS[window][0]
  if window == 'uniform':
    return (1.0 / side,) * side
  weights = np.exp(-0.5 * ((np.arange(side) - side // 2) / SIGMA) ** 2)
  return tuple((weights / weights.sum()).tolist())


def _blur(x: jax.Array, weights: tuple[float, ...]) -> jax.Array:
  """Separable window over the valid region: (..., H, W) to (..., H - n + 1, W - n + 1) for n weights."""
  for axis in (-2, -1):
    n = x.shape[axis] - len(weights) + 1
    x = sum(weight * lax.slice_in_dim(x, i, i + n, axis=axis) for i, weight in enumerate(weights))
  return x
