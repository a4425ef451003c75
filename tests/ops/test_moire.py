"""Moiré: the optics against a picture drawn bar by bar, the mosaic against scipy, and the stripes that come of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from lh_jax.ops import light
from lh_jax.ops import moire

screen_gain = jax.jit(moire.screen_gain, static_argnums=(1, 2))


@pytest.mark.parametrize('lit', [0.28, 0.85])
def test_grating_is_blurred_bars(lit):
  pitch, blur, samples = 0.5, 0.45, 1000  # samples to a screen pixel
  place = np.arange(8 * samples) / samples
  bars = (np.abs(place - np.round(place)) < lit / 2) / lit
  blurred = scipy.ndimage.gaussian_filter1d(bars, blur * pitch * samples, mode='wrap')
  np.testing.assert_allclose(moire.grating(jnp.asarray(place, jnp.float32), lit, pitch, blur), blurred, atol=0.01)


@pytest.mark.parametrize('colour', range(3))
def test_interpolation_of_the_mosaic_is_bilinear(colour):
  rng = np.random.default_rng(0)
  site = np.array([[0, 1], [1, 2]])[np.arange(10)[:, None] % 2, np.arange(13)[None] % 2] == colour
  raw = np.where(site, rng.random((10, 13)), 0).astype(np.float32)
  # Averages of the two or four nearest photosites of the colour, where there is none.
  kernel = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]] if colour == 1 else [[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
  expected = scipy.ndimage.convolve(raw, kernel)[1:-1, 1:-1]
  found = np.asarray(moire.interpolate(jnp.asarray(raw), quarter=colour != 1))
  np.testing.assert_allclose(found, expected, atol=1e-6)
  np.testing.assert_array_equal(found[site[1:-1, 1:-1]], raw[1:-1, 1:-1][site[1:-1, 1:-1]])


@functools.cache
def _gain(seed: int) -> np.ndarray:
  return np.asarray(screen_gain(jax.random.key(seed), 192, 192))


@pytest.mark.parametrize('seed', range(4))
def test_an_even_screen_gets_wide_coloured_stripes_of_the_same_mean_light(seed):
  gain = _gain(seed)
  assert gain.min() >= 0.0
  np.testing.assert_allclose(gain.mean(axis=(0, 1)), 1.0, atol=0.02)
  # Red against green: the screen's subpixels stand a third apart, so the beats do too, and the stripes have hues.
  hue = gain[..., 0] - gain[..., 1]
  window = np.hanning(192)[:, None] * np.hanning(192)[None]
  spectrum = np.abs(np.fft.fft2((hue - hue.mean()) * window))
  y, x = np.unravel_index(spectrum.argmax(), spectrum.shape)
  period = 1 / np.hypot(np.fft.fftfreq(192)[y], np.fft.fftfreq(192)[x])
  assert 8 < period <= 192
  assert hue.std() > 0.1


def test_a_small_image_is_a_piece_of_the_frame():
  """The stripes of small images are no narrower or wider than those of large ones: same change from pixel to pixel."""

  def change(size: int) -> float:
    slow = (
      scipy.ndimage.uniform_filter(np.asarray(screen_gain(jax.random.key(s), size, size)), (4, 4, 0)) for s in range(6)
    )
    return float(np.mean([np.abs(np.diff(gain[2:-2, 2:-2], axis=0)).mean() for gain in slow]))

  assert change(64) == pytest.approx(change(256), rel=0.25)


def test_contrast_is_proportional_to_severity_and_black_stays_black():
  grey, key = jnp.full((48, 48, 3), 0.4), jax.random.key(1)
  degrade = jax.jit(moire.moire)
  contrast = {}
  for severity in (0.0, 0.3, 0.6):
    seen = np.asarray(light.srgb_to_linear(degrade(key, grey, jnp.float32(severity))))
    contrast[severity] = seen / seen.mean(axis=(0, 1)) - 1
  np.testing.assert_allclose(contrast[0.0], 0.0, atol=1e-4)
  np.testing.assert_allclose(contrast[0.6], 2 * contrast[0.3], atol=0.02)
  assert np.abs(contrast[0.6]).max() > 0.1
  assert np.asarray(degrade(key, jnp.zeros((8, 8, 3)), jnp.float32(1.0))).max() == 0.0


def test_a_4k_image_takes_little_more_memory_than_itself():
  shape = jax.ShapeDtypeStruct((2160, 3840, 3), jnp.float32)
  compiled = jax.jit(moire.moire).lower(jax.random.key(0), shape, jax.ShapeDtypeStruct((), jnp.float32)).compile()
  image = 2160 * 3840 * 3 * 4
  assert compiled.memory_analysis().temp_size_in_bytes < 4 * image
