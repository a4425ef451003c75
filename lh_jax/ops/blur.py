"""Blur: camera motion, defocus, and the plain Gaussian.

Contract: images are float32 RGB in [0, 1]. Motion and defocus mix light, so they act on linear light, where a bright
lamp draws a bright trail, as it does in a photograph. Kernels are non-negative and sum to 1, so the mean light is
kept. Sizes are pixels of the photograph at full resolution; they shrink only when the image is too small to hold
them. One image is convolved by the discrete Fourier transform: the cost does not grow with the kernel.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.ops.light import linear_to_srgb
from lh_jax.ops.light import srgb_to_linear

KERNEL_SIZE = 33  # side of the largest blur kernel, pixels
GAUSSIAN_TAPS = 21  # 5.25 standard deviations wide at sigma 4, the largest in use

_PATH_POINTS = 96  # at least two a pixel along the longest path
_DEFOCUS_SHARE = 0.6  # largest defocus radius over half the kernel's side


def fast_fft_length(length: int) -> int:
  """The smallest even number of the form 2^a 3^b 5^c that is at least `length`: transforms of it are fast.

  Args:
    length: positive.

  Returns:
    The length to pad to.
  """
  candidate = length + length % 2
  while True:
    rest = candidate
    for factor in (2, 3, 5):
      while rest % factor == 0:
        rest //= factor
    if rest == 1:
      return candidate
    candidate += 2


def convolve(image: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves every channel with one kernel, mirroring the image at its borders.

  Args:
    image: (H, W, C).
    kernel: (k, k), k odd and at most 2 min(H, W) - 1.

  Returns:
    (H, W, C), the shape of the image.
  """
  height, width, _ = image.shape
  reach = kernel.shape[0] // 2
  padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode='reflect')
  shape = tuple(fast_fft_length(n) for n in padded.shape[:2])
  channels = jnp.moveaxis(padded, -1, 0)
  spectrum = jnp.fft.rfft2(channels, s=shape) * jnp.fft.rfft2(kernel, s=shape)[None]
  full = jnp.fft.irfft2(spectrum, s=shape)
  valid = full[:, 2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]
  return jnp.moveaxis(valid, 0, -1)


def _kernel_size(height: int, width: int) -> int:
  return min(KERNEL_SIZE, 2 * (min(height, width) // 4) + 1)


def motion_kernel(key: jax.Array, length: jax.Array, *, size: int) -> jax.Array:
  """The trace of a camera that moves during the exposure.

  With probability 0.4 the path is straight, otherwise it bends smoothly at uneven speed; random paths as the source of
  blur kernels: Boracchi and Foi, "Modeling the Performance of Image Restoration from Motion Blur", IEEE TIP 2012.

  Args:
    key: decides the path's shape and direction.
    length: scalar, the path's extent in pixels, 0..size-1; 0 gives the unit impulse.
    size: side of the kernel, odd.

  Returns:
    (size, size), non-negative, sum 1.
  """
  shape_key, phase_key, straight_key, turn_key = jax.random.split(key, 4)
  time = jnp.linspace(0.0, 1.0, _PATH_POINTS)
  bends = jax.random.normal(shape_key, (3,)) * jnp.array([1.6, 0.9, 0.35])
  bends = jnp.where(jax.random.bernoulli(straight_key, 0.4), jnp.array([0.0, 0.0, 0.35]) * bends, bends)
  phases = jax.random.uniform(phase_key, (3,), maxval=2 * jnp.pi)
  waves = jnp.sin(time[:, None] * jnp.array([np.pi, 2 * np.pi, 2 * np.pi])[None] + phases[None])
  heading = jax.random.uniform(turn_key, maxval=2 * jnp.pi) + waves[:, :2] @ bends[:2]
  speed = jnp.exp(bends[2] * waves[:, 2])
  path = jnp.cumsum(jnp.stack([speed * jnp.sin(heading), speed * jnp.cos(heading)], axis=1), axis=0)
  path = path - 0.5 * (path.max(axis=0) + path.min(axis=0))[None]
  farthest = jnp.max(jnp.sqrt(jnp.sum(path**2, axis=1)))
  path = path * (0.5 * length / farthest)
  # Each point spreads over its four neighbours (bilinear splat); the sum over points is one matrix product.
  grid = jnp.arange(size, dtype=jnp.float32) - size // 2
  rows, columns = (jnp.maximum(0.0, 1.0 - jnp.abs(path[:, axis, None] - grid[None])) for axis in (0, 1))
  return jnp.matmul(rows.T, columns, precision='highest') / _PATH_POINTS


def disk_kernel(radius: jax.Array, *, size: int) -> jax.Array:
  """The image of a point by a lens out of focus: a disk with an antialiased edge (geometric optics).

  Args:
    radius: scalar, pixels, 0..(size-1)/2; 0 gives the unit impulse.
    size: side of the kernel, odd.

  Returns:
    (size, size), non-negative, sum 1.
  """
  grid = jnp.arange(size, dtype=jnp.float32) - size // 2
  distance = jnp.sqrt((grid**2)[:, None] + (grid**2)[None, :])
  disk = jnp.clip(radius + 0.5 - distance, 0.0, 1.0)
  return disk / disk.sum()


def blur(key: jax.Array, image: jax.Array, severity: jax.Array) -> jax.Array:
  """Motion blur or defocus, by the toss of a coin, in linear light.

  At severity 1 the camera's path is 24 to 32 pixels long, or the defocus radius is 7.2 to 9.6 pixels.

  Args:
    key: decides the kind, the extent and the path.
    image: (H, W, 3) in [0, 1].
    severity: scalar in [0, 1]; 0 leaves the image.

  Returns:
    (H, W, 3) in [0, 1].
  """
  kind_key, extent_key, path_key = jax.random.split(key, 3)
  size = _kernel_size(*image.shape[:2])
  extent = severity * (size - 1) * jax.random.uniform(extent_key, minval=0.75)
  motion = motion_kernel(path_key, extent, size=size)
  defocus = disk_kernel(_DEFOCUS_SHARE * extent / 2, size=size)
  kernel = jnp.where(jax.random.bernoulli(kind_key), motion, defocus)
  light = convolve(srgb_to_linear(image), kernel)
  return jnp.clip(linear_to_srgb(jnp.clip(light, 0.0, 1.0)), 0.0, 1.0)


def gaussian_blur(images: jax.Array, sigma: jax.Array) -> jax.Array:
  """Gaussian blur of display values with one strength for each image; separable, 21 taps, mirrored borders.

  Args:
    images: (B, H, W, C).
    sigma: (B,) standard deviations in pixels, 0..4; 0 leaves the image.

  Returns:
    (B, H, W, C).
  """
  reach = GAUSSIAN_TAPS // 2
  offsets = jnp.arange(-reach, reach + 1, dtype=images.dtype)
  weights = jnp.exp(-0.5 * (offsets[None] / jnp.maximum(sigma, 1e-3)[:, None]) ** 2)
  weights = weights / weights.sum(axis=1, keepdims=True)
  for axis in (1, 2):
    pads = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
    padded = jnp.pad(images, pads, mode='reflect')
    length = images.shape[axis]
    # Shifted multiply-adds: fused into one pass, and far faster on CPU than a depthwise convolution.
    images = sum(
      weights[:, tap, None, None, None] * jax.lax.slice_in_dim(padded, tap, tap + length, axis=axis)
      for tap in range(GAUSSIAN_TAPS)
    )
  return images
