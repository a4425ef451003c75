import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lh_jax import metrics
from lh_jax.metrics import similarity


def pixels(image):
  return np.clip(np.round(image), 0, 255).astype(np.uint8)


def pair(kind, noise, size=(64, 83)):
  rng = np.random.default_rng(0)
  uniform = rng.uniform(0, 1, (*size, 3))
  y, x = np.mgrid[0 : size[0], 0 : size[1]]
  smooth = 127 + 100 * np.sin(x / 30) * np.cos(y / 20)
  image = {
    'texture': 255 * uniform,
    'bright': 245 + 10 * uniform,
    'dark': 3 * uniform,
    'smooth': np.stack([smooth] * 3, -1),
  }[kind]
  return pixels(image), pixels(image + rng.normal(0, noise, image.shape))


def reference_ssim(a, b):
  return structural_similarity(
    a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1
  )


@pytest.mark.parametrize('kind', ['texture', 'bright', 'dark', 'smooth'])
@pytest.mark.parametrize('noise', [0.3, 20])
def test_scores_are_those_of_scikit_image(kind, noise):
  a, b = pair(kind, noise)
  scores = metrics.evaluate_pair(a, b)
  rgb = [image.astype(np.float64) for image in (a, b)]
  luma = [16 + image @ np.array([65.481, 128.553, 24.966])[:, None] / 255 for image in rgb]
  expected = {
    'psnr_rgb': peak_signal_noise_ratio(a, b),
    'ssim_rgb': reference_ssim(*rgb),
    'psnr_y': peak_signal_noise_ratio(*luma, data_range=255),
    'ssim_y': reference_ssim(*luma),
  }
  assert set(scores) == set(expected)
  for name, value in expected.items():
    assert isinstance(scores[name], float)
    np.testing.assert_allclose(scores[name], value, atol=2e-5, err_msg=name)


@pytest.mark.parametrize('kind', ['texture', 'dark', 'smooth'])
def test_windows_are_those_of_scikit_image(kind):
  a, b = (image.astype(np.float64) for image in pair(kind, 30, size=(24, 29)))
  options = {'data_range': 255, 'channel_axis': -1}
  gaussian = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False}
  # scikit-image averages 5 pixels inside the border: of an image continued by 5, exactly the full map.
  wide = [np.pad(image, ((5, 5), (5, 5), (0, 0)), mode='edge') for image in (a, b)]
  expected = {
    'gaussian': structural_similarity(a, b, **options, **gaussian),
    'gaussian_full': structural_similarity(*wide, **options, **gaussian),
    'uniform': structural_similarity(a, b, **options),
  }
  assert set(expected) == set(similarity.WINDOWS)
  for window, value in expected.items():
    ours = metrics.ssim(a[None], b[None], max_value=255.0, window=window)[0]
    np.testing.assert_allclose(ours, value, atol=2e-5, err_msg=window)
  assert np.diff(sorted(expected.values())).min() > 1e-4  # so that one window cannot stand in for another


def test_psnr_by_hand():
  a = np.zeros((2, 4, 4, 3), np.float32)
  b = a.copy()
  b[0] += 0.1  # mean squared error 0.01: 20 dB
  b[1, :2] += 0.1  # half of the pixels: 3.0103 dB more
  np.testing.assert_allclose(metrics.psnr(a, b, max_value=1.0), [20, 20 + 10 * np.log10(2)], atol=1e-4)


def test_values_are_per_image_and_do_not_change_with_the_scale():
  pairs = zip(pair('texture', 5), pair('dark', 5))
  a, b = (jnp.stack([jnp.asarray(x, jnp.float32) for x in images]) for images in pairs)
  for metric in (metrics.psnr, metrics.ssim):
    batch = metric(a, b, max_value=255.0)
    assert batch.shape == (2,) and batch.dtype == jnp.float32
    for i in range(2):
      np.testing.assert_allclose(metric(a[i : i + 1], b[i : i + 1], max_value=255.0)[0], batch[i], rtol=1e-5)
    np.testing.assert_allclose(metric(a / 255, b / 255, max_value=1.0), batch, rtol=1e-4)
    jitted = jax.jit(metric, static_argnames='max_value')(a, b, max_value=255.0)
    np.testing.assert_allclose(jitted, batch, rtol=1e-5)


def test_equal_images():
  a, _ = pair('smooth', 1)
  scores = metrics.evaluate_pair(a, a)
  assert scores['psnr_y'] == scores['psnr_rgb'] == np.inf
  np.testing.assert_allclose([scores['ssim_y'], scores['ssim_rgb']], 1, atol=1e-6)


def test_gradients_are_finite_where_one_pair_is_equal():
  a = jax.random.uniform(jax.random.key(0), (2, 12, 12, 3))
  b = a.at[1].add(0.1)
  for metric in (metrics.psnr, metrics.ssim):
    gradient = jax.grad(lambda a: metric(a, b, max_value=1.0)[1])(a)
    assert np.isfinite(gradient).all() and np.abs(gradient[1]).max() > 0


def test_errors():
  image = np.zeros((11, 11, 3), np.uint8)
  metrics.evaluate_pair(image, image)
  with pytest.raises(ValueError, match='images of 10x11 pixels; the window needs 11x11'):
    metrics.evaluate_pair(image[:10], image[:10])
  with pytest.raises(ValueError, match=r'a pair of sizes \(11, 11\) and \(10, 11\); they must be equal'):
    metrics.evaluate_pair(image, image[:10])
  with pytest.raises(ValueError, match=r'shapes \(11, 11, 3\) and \(11, 11, 3\)'):
    metrics.psnr(image, image, max_value=255.0)
  with pytest.raises(ValueError, match="unknown SSIM window 'box'; window must be one of gaussian, gaussian_full"):
    metrics.ssim(image[None], image[None], max_value=255.0, window='box')
  with pytest.raises(ValueError, match='images of 6x11 pixels; the window needs 7x7'):
    metrics.ssim(image[None, :6], image[None, :6], max_value=255.0, window='uniform')
  with pytest.raises(ValueError, match=r'got an image of float32 \(11, 11, 3\); it must be uint8 \(H, W, 3\)'):
    metrics.evaluate_pair(image.astype(np.float32), image)
  with pytest.raises(ValueError, match=r'got an image of uint8 \(11, 11\)'):
    metrics.evaluate_pair(image, image[..., 0])
