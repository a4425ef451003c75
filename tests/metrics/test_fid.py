"""The Frechet distance against scipy's matrix root, the clean resize against Pillow, and what happens without weights."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
from scipy import linalg

from lh_jax import weight_files
from lh_jax.metrics import fid
from lh_jax.models import inception
from lh_jax.ops import resize


def gathered(vectors):
  statistics = fid.Statistics.empty(vectors.shape[1])
  for vector in vectors:
    statistics.add(vector[None])
  return statistics


def test_distance_is_that_of_the_matrix_root():
  rng = np.random.default_rng(0)
  mix = rng.standard_normal((12, 12))
  a, b = rng.standard_normal((50, 12)) @ mix, 0.3 + rng.standard_normal((60, 12))
  root = linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
  expected = np.sum((a.mean(0) - b.mean(0)) ** 2)
  expected += np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root)
  np.testing.assert_allclose(fid.distance(gathered(a), gathered(b)), expected, rtol=1e-9)
  np.testing.assert_allclose(fid.distance(gathered(b), gathered(a)), expected, rtol=1e-9)


def test_distance_by_hand():
  # One feature: (difference of means)^2 + (difference of deviations)^2 = 3^2 + (2 - 1)^2 times the variance of -1, 1.
  a, b = np.array([[-1.0], [1.0]]), np.array([[1.0], [5.0]])
  np.testing.assert_allclose(fid.distance(gathered(a), gathered(b)), 9 + (np.sqrt(8) - np.sqrt(2)) ** 2)


def test_fewer_images_than_features():
  rng = np.random.default_rng(0)
  a = rng.standard_normal((5, 30))
  assert abs(fid.distance(gathered(a), gathered(a))) < 1e-5
  shifted = fid.distance(gathered(a), gathered(a + 1))
  np.testing.assert_allclose(shifted, 30, rtol=1e-6)


def test_statistics_of_parts_are_those_of_the_whole():
  vectors = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
  whole = gathered(vectors)
  merged = gathered(vectors[:4]).merge(gathered(vectors[4:]))
  for found, expected in zip(merged.moments(), whole.moments()):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
  np.testing.assert_allclose(whole.moments()[1], np.cov(vectors.astype(np.float64), rowvar=False), rtol=1e-10)
  assert whole.products.dtype == np.float64


@pytest.mark.parametrize('size', [(400, 333), (120, 500)])
def test_resize_is_pillows_on_floats(size):
  image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  rows, columns = (
    jnp.asarray(resize.interpolation_matrix(side, fid.SIDE, kind='cubic', antialias=True), jnp.float32) for side in size
  )
  channels = [Image.fromarray(image[..., i].astype(np.float32)) for i in range(3)]
  resized = [channel.resize((fid.SIDE, fid.SIDE), Image.Resampling.BICUBIC) for channel in channels]
  expected = np.clip(np.stack([np.asarray(channel) for channel in resized], -1), 0, 255)
  np.testing.assert_allclose(fid.shrink(image, rows, columns), expected, atol=2e-3)


def test_images_become_features():
  rng = np.random.default_rng(0)
  leaves, tree = jax.tree.flatten(inception.abstract_variables())
  arrays = [np.abs(rng.standard_normal(leaf.shape, np.float32)) / np.prod(leaf.shape[:-1]) for leaf in leaves]
  variables = jax.tree.unflatten(tree, arrays)
  extract = fid.Inception(variables)
  image = rng.integers(0, 256, (fid.SIDE, fid.SIDE, 3), np.uint8)
  features = extract(image)
  assert features.shape == (1, inception.FEATURES) and features.dtype == np.float32
  direct = jax.jit(inception.Inception().apply)(variables, image[None].astype(np.float32) / 127.5 - 1.0)
  np.testing.assert_allclose(features, direct, rtol=1e-4, atol=1e-6)
  statistics = fid.Statistics.empty()
  statistics.add(features)
  with pytest.raises(ValueError, match='FID got 1 images or patches in a set; a covariance needs at least 2'):
    statistics.moments()
  with pytest.raises(ValueError, match=r'FID got an image of float32 \(2, 2, 3\); it must be uint8'):
    extract(np.zeros((2, 2, 3), np.float32))


def test_patches_tile_the_image():
  image = np.random.default_rng(0).integers(0, 256, (2 * 299 + 7, 299 + 298, 3), np.uint8)
  patches = fid.patches(image)
  assert patches.shape == (2, 299, 299, 3)
  np.testing.assert_array_equal(patches[1], image[299:598, :299])
  assert len(fid.patches(np.zeros((2160, 3840, 3), np.uint8))) == 7 * 12
  with pytest.raises(ValueError, match='patch FID got an image of 298x299 pixels; a patch is 299x299'):
    fid.patches(image[:298, :299])


def test_without_weights_there_is_no_fid(monkeypatch, tmp_path):
  monkeypatch.setenv('LH_JAX_CACHE', str(tmp_path))
  with pytest.raises(
    FileNotFoundError, match="metric 'inception_fid' are not there. Download https://.*/pt_inception-2015"
  ):
    fid.load()
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), inception.abstract_variables())
  weight_files.save(tmp_path / 'inception_fid.safetensors', zeros, {'name': 'inception_fid'})
  assert isinstance(fid.load(), fid.Inception)
