"""Blur kernels, the transform behind them, and the Gaussian, against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from lh_jax.ops import blur

SIZE = 33
# Compiled once; operation by operation each would cost seconds.
motion_kernel = jax.jit(blur.motion_kernel, static_argnames='size')


@pytest.mark.parametrize('seed', range(4))
def test_motion_kernel_keeps_the_light_and_has_the_length_asked_for(seed):
  kernel = np.asarray(motion_kernel(jax.random.key(seed), jnp.float32(24.0), size=SIZE))
  assert (kernel >= 0).all()
  np.testing.assert_allclose(kernel.sum(), 1.0, atol=1e-5)
  y, x = np.nonzero(kernel)
  # Splatting adds less than a pixel at either end; a bent path is shorter from end to end than its extent.
  extent = np.hypot(y - SIZE // 2, x - SIZE // 2).max()
  assert 11.0 <= extent <= 13.5


def test_kernels_of_no_extent_are_the_impulse():
  impulse = np.zeros((SIZE, SIZE))
  impulse[SIZE // 2, SIZE // 2] = 1.0
  np.testing.assert_allclose(motion_kernel(jax.random.key(0), jnp.float32(0.0), size=SIZE), impulse, atol=1e-6)
  np.testing.assert_allclose(blur.disk_kernel(jnp.float32(0.0), size=SIZE), impulse, atol=1e-6)


def test_disk_kernel_is_round_and_flat():
  kernel = np.asarray(blur.disk_kernel(jnp.float32(8.0), size=SIZE))
  np.testing.assert_allclose(kernel.sum(), 1.0, atol=1e-5)
  np.testing.assert_array_equal(kernel, kernel.T)
  np.testing.assert_allclose(kernel[16, 16], 1 / (np.pi * 8.0**2), rtol=0.02)
  assert kernel[16, 7] == 0.0 and kernel[16, 8] > 0.0


def test_motion_paths_differ_by_key():
  kernels = [motion_kernel(jax.random.key(seed), jnp.float32(24.0), size=SIZE) for seed in (0, 1)]
  assert np.abs(kernels[0] - kernels[1]).sum() > 0.5


@pytest.mark.parametrize(('height', 'width', 'size'), [(20, 31, 9), (8, 8, 5), (5, 7, 9)])
def test_convolve_is_scipys(height, width, size):
  rng = np.random.default_rng(0)
  image, kernel = rng.random((height, width, 3), np.float32), rng.random((size, size), np.float32)
  expected = np.stack([scipy.ndimage.convolve(image[..., c], kernel, mode='mirror') for c in range(3)], axis=-1)
  convolved = jax.jit(blur.convolve)(jnp.asarray(image), jnp.asarray(kernel))
  np.testing.assert_allclose(convolved, expected, rtol=1e-5, atol=1e-5)


def test_blur_keeps_the_mean_light_of_a_flat_picture_and_draws_bright_trails():
  image = jnp.full((48, 48, 3), 0.02).at[24, 24].set(1.0)
  blurred = np.asarray(jax.jit(blur.blur)(jax.random.key(0), image, jnp.float32(0.3)))
  # Averaging display values would leave at most 1/8 anywhere; light spreads brighter than that.
  assert blurred.max() > 0.15
  np.testing.assert_allclose(blurred[:8, :8], 0.02, atol=1e-4)


def test_gaussian_blur_is_scipys_with_a_strength_for_each_image():
  images = np.random.default_rng(0).random((3, 12, 35, 3), np.float32)
  sigma = np.array([0.0, 0.7, 4.0], np.float32)
  blurred = jax.jit(blur.gaussian_blur)(jnp.asarray(images), jnp.asarray(sigma))
  np.testing.assert_allclose(blurred[0], images[0], atol=1e-6)
  for i in (1, 2):
    expected = images[i].astype(np.float64)
    for axis in (0, 1):
      # Not truncated at a number of deviations but at 10 pixels.
      expected = scipy.ndimage.gaussian_filter1d(expected, sigma[i], axis=axis, mode='mirror', radius=10)
    np.testing.assert_allclose(blurred[i], expected, atol=1e-5)


@pytest.mark.parametrize(('length', 'expected'), [(1, 2), (7, 8), (96, 96), (97, 100), (3872, 3888), (2192, 2250)])
def test_fast_fft_length(length, expected):
  assert blur.fast_fft_length(length) == expected
