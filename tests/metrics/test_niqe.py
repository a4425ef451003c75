import jax
import numpy as np
import pytest
from scipy import io
from scipy.ndimage import convolve
from scipy.special import gamma

from lh_jax.metrics import niqe


def photograph(seed, size=(200, 300), least=0.0):
  """Something with the statistics of edges and texture, not of white noise."""
  rng = np.random.default_rng(seed)
  rough = rng.standard_normal((*size, 3)).cumsum(0).cumsum(1)
  rough = 60 * rough / rough.std() + 20 * rng.standard_normal((*size, 1)) * np.linspace(least, 1, size[1])[:, None]
  return np.clip(128 + rough, 0, 255).astype(np.uint8)


def fitted(values):
  """Asymmetric generalised Gaussian of a block, by exhaustive search: shape, left and right scale."""
  values = values.ravel()
  shapes = np.arange(0.2, 10.001, 0.001)
  table = gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
  left, right = np.sqrt(np.mean(values[values < 0] ** 2)), np.sqrt(np.mean(values[values > 0] ** 2))
  ratio = left / right
  target = np.mean(np.abs(values)) ** 2 / np.mean(values**2) * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
  shape = shapes[np.argmin((table - target) ** 2)]
  scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
  return shape, left * scale, right * scale


def reference_features(image):
  """The features in float64, block by block, as the equations have them."""
  rgb = image.astype(np.float64)
  plane = np.round(16 + rgb @ np.array([65.481, 128.553, 24.966]) / 255)
  rows, columns = plane.shape[0] // 96, plane.shape[1] // 96
  plane = plane[: rows * 96, : columns * 96]
  offsets = np.arange(-3, 4)
  window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (7 / 6) ** 2))
  window /= window.sum()
  found = []
  for side in (96, 48):
    mean = convolve(plane, window, mode='nearest')
    deviation = np.sqrt(np.abs(convolve(plane**2, window, mode='nearest') - mean**2))
    normalised = (plane - mean) / (deviation + 1)
    blocks = [
      normalised[i * side : (i + 1) * side, j * side : (j + 1) * side] for i in range(rows) for j in range(columns)
    ]
    scale_features = []
    for block in blocks:
      shape, left, right = fitted(block)
      features = [shape, (left + right) / 2]
      for shift in ((0, 1), (1, 0), (1, 1), (-1, 1)):
        shape, left, right = fitted(block * np.roll(block, shift, axis=(0, 1)))
        features += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
      scale_features.append(features)
    found.append(scale_features)
    plane = half_by_matrices(plane)
  return np.concatenate(found, axis=1)


def half_by_matrices(plane):
  """MATLAB's imresize by 0.5, from the definition of its kernel and its mirrored borders."""
  for _ in range(2):
    n = plane.shape[0]
    matrix = np.zeros((n // 2, n))
    for i in range(n // 2):
      taps = np.arange(2 * i - 5, 2 * i + 7)
      d = np.abs(taps - (2 * i + 0.5)) / 2
      weights = np.where(d <= 1, 1.5 * d**3 - 2.5 * d**2 + 1, np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0))
      mirrored = np.where(taps < 0, -1 - taps, np.where(taps >= n, 2 * n - 1 - taps, taps))
      np.add.at(matrix[i], mirrored, weights / weights.sum())
    plane = (matrix @ plane).T
  return plane


def test_features_are_those_of_the_equations():
  image = photograph(0)
  features, sharpness = niqe.block_features(image)
  expected = reference_features(image)
  assert features.shape == expected.shape == (6, niqe.FEATURES) and sharpness.shape == (6,)
  # Shapes are read from a table whose steps are 0.001.
  np.testing.assert_allclose(features, expected, rtol=2e-3, atol=1.1e-3)


def test_half_size():
  plane = np.random.default_rng(0).uniform(0, 255, (12, 20))
  np.testing.assert_allclose(niqe.halve(plane.astype(np.float32)), half_by_matrices(plane), rtol=1e-5, atol=1e-3)


def test_score_is_the_distance_of_two_gaussians():
  image = photograph(1, least=0.7)
  rng = np.random.default_rng(0)
  model = niqe.fit([photograph(seed, (384, 384), least=0.7) for seed in range(2, 6)])
  expected = reference_features(image)
  offset = model.mean - expected.mean(axis=0)
  covariance = (model.covariance + np.cov(expected, rowvar=False)) / 2
  np.testing.assert_allclose(niqe.score(image, model), np.sqrt(offset @ np.linalg.pinv(covariance) @ offset), rtol=0.02)
  noisy = np.clip(image + rng.normal(0, 40, image.shape), 0, 255).astype(np.uint8)
  assert niqe.score(noisy, model) > 1.5 * niqe.score(image, model)
  assert niqe.score(image, model, luma='gray') != niqe.score(image, model)


def test_flat_blocks_are_left_out():
  image = photograph(3)
  image[:96, :96] = 255
  features, sharpness = niqe.block_features(image)
  assert np.isnan(features[0]).all() and np.isfinite(features[1:]).all() and np.isfinite(sharpness).all()
  model = niqe.Model(np.zeros(36), np.eye(36))
  assert np.isfinite(niqe.score(image, model))
  with pytest.raises(ValueError, match='NIQE got an image with 0 blocks that are not flat; a covariance needs'):
    niqe.score(np.full((96, 192, 3), 7, np.uint8), model)


def test_mscn_of_a_flat_image_is_zero():
  normalised, deviation = jax.jit(niqe.mscn)(np.full((9, 9), 200.3, np.float32))
  assert not np.any(normalised) and not np.any(deviation)


def test_only_sharp_blocks_are_fitted(monkeypatch):
  sharpness = np.array([1.0, 0.7, 0.8])
  rows = np.random.default_rng(0).normal(size=(3, 36))
  monkeypatch.setattr(niqe, 'block_features', lambda image, luma: (rows + image, sharpness))
  images = np.arange(20.0)
  expected = np.concatenate([rows[[0, 2]] + image for image in images])
  np.testing.assert_allclose(niqe.fit(images).mean, expected.mean(axis=0))
  np.testing.assert_allclose(niqe.fit(images).covariance, np.cov(expected, rowvar=False))


@pytest.mark.parametrize('form', ['saved', 'matlab', 'other names'])
def test_models_are_read_back(tmp_path, form):
  rng = np.random.default_rng(0)
  model = niqe.Model(rng.normal(size=36), np.eye(36) + 0.1)
  path = tmp_path / 'model'
  if form == 'saved':
    niqe.save(path, model)
  elif form == 'matlab':
    path = tmp_path / 'modelparameters.mat'
    io.savemat(path, {'mu_prisparam': model.mean[None], 'cov_prisparam': model.covariance})
  else:
    path = tmp_path / 'pris.npz'
    np.savez(path, mu_pris_param=model.mean, cov_pris_param=model.covariance, gaussian_window=np.ones((7, 7)))
  loaded = niqe.load(path)
  np.testing.assert_array_equal(loaded.mean, model.mean)
  np.testing.assert_array_equal(loaded.covariance, model.covariance)


def test_errors(tmp_path):
  image = np.zeros((96, 95, 3), np.uint8)
  with pytest.raises(ValueError, match='NIQE got an image of 96x95 pixels; a block is 96x96'):
    niqe.block_features(image)
  with pytest.raises(ValueError, match=r'NIQE got an image of float32 \(96, 95, 3\); it must be uint8'):
    niqe.block_features(image.astype(np.float32))
  with pytest.raises(ValueError, match="NIQE got an unknown luma 'u'; luma must be one of y, gray"):
    niqe.block_features(image, luma='u')
  with pytest.raises(ValueError, match='a NIQE model of 0 sharp blocks; more than 36 are needed'):
    niqe.fit([])
  with pytest.raises(FileNotFoundError, match='no such NIQE model. Give the modelparameters.mat published'):
    niqe.load(tmp_path / 'absent.mat')
  (tmp_path / 'broken').write_bytes(b'MATLAB nothing')
  with pytest.raises(ValueError, match='not a readable NIQE model'):
    niqe.load(tmp_path / 'broken')
  np.savez(tmp_path / 'short.npz', mu_prisparam=np.zeros(18), cov_prisparam=np.eye(36))
  with pytest.raises(ValueError, match=r'a NIQE model holds \(36,\) finite numbers named one of mu_prisparam'):
    niqe.load(tmp_path / 'short.npz')
