"""Metrics against torch: LPIPS computed by torch's layers, Inception's weights from files that torch writes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from lh_jax import convert
from lh_jax import metrics
from lh_jax.convert import inception as inception_converter
from lh_jax.convert import lpips as lpips_converter
from lh_jax.convert import pickle_reader
from lh_jax.metrics import fid
from lh_jax.models import inception
from tests.parity import make_inception_golden as golden

pytestmark = pytest.mark.parity

# (stride, padding, tap) of each convolution, and where the image is pooled.
CONV, TAP = (1, 1, False), (1, 1, True)
PLANS = {
  'alex': ('AlexNet_0', 3, [(4, 2, True), 'pool', (1, 2, True), 'pool', TAP, TAP, TAP]),
  'vgg': (
    'VGG16_0',
    2,
    [CONV, TAP, 'pool', CONV, TAP, 'pool', CONV, CONV, TAP, 'pool', CONV, CONV, TAP, 'pool', CONV, CONV, TAP],
  ),
}


def torch_lpips(net, a, b):
  """LPIPS v0.1 of two (3, H, W) images in [0, 1], in float64."""
  source = pickle_reader.read_numpy_pickle(lpips_converter.default_source(net))
  trunk, window, plan = PLANS[net]
  x = 2 * torch.stack([a, b]).double() - 1
  shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[:, None, None]
  scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)[:, None, None]
  x, count, heads, total = (x - shift) / scale, 0, 0, 0.0
  for entry in plan:
    if entry == 'pool':
      x = torch.nn.functional.max_pool2d(x, window, 2)
      continue
    stride, padding, tap = entry
    layer = source[trunk][f'Conv_{count}']
    kernel = torch.from_numpy(layer['kernel'].transpose(3, 2, 0, 1).astype(np.float64))
    bias = torch.from_numpy(layer['bias'].astype(np.float64))
    x = torch.relu(torch.nn.functional.conv2d(x, kernel, bias, stride=stride, padding=padding))
    count += 1
    if tap:
      unit = x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
      head = torch.from_numpy(
        source[f'NetLinLayer_{heads}']['Conv_0']['kernel'].reshape(1, -1, 1, 1).astype(np.float64)
      )
      total += float(((unit[0] - unit[1]).pow(2)[None] * head).sum(1).mean())
      heads += 1
  return total


@pytest.mark.parametrize('net', ['alex', 'vgg'])
@pytest.mark.parametrize('size', [(64, 64), (131, 97)])
def test_lpips(net, size, tmp_path):
  rng = np.random.default_rng(0)
  a = rng.integers(0, 256, (*size, 3), np.uint8)
  b = np.clip(a + rng.normal(0, 30, a.shape), 0, 255).astype(np.uint8)
  path, _ = convert.convert_file(f'lpips_{net}', None, tmp_path / 'weights.safetensors')
  expected = torch_lpips(net, *(torch.from_numpy(image.transpose(2, 0, 1) / 255) for image in (a, b)))
  np.testing.assert_allclose(metrics.load_lpips(net, path)(a, b), expected, rtol=1e-5)


@pytest.mark.parametrize('zipped', [True, False])
def test_inception_weights_from_a_file_of_torch(zipped, tmp_path):
  like = inception.abstract_variables()
  state = golden.recipe(golden.shapes(like)) | {'Conv2d_1a_3x3.bn.num_batches_tracked': np.zeros((), np.int64)}
  state |= {'fc.weight': np.zeros((1008, 2048), np.float32), 'fc.bias': np.zeros(1008, np.float32)}
  torch.save(
    {name: torch.from_numpy(values) for name, values in state.items()},
    tmp_path / 'inception.pth',
    _use_new_zipfile_serialization=zipped,
  )
  path, _ = convert.convert_file('inception_fid', tmp_path / 'inception.pth', tmp_path / 'weights.safetensors')
  image = np.random.default_rng(0).integers(0, 256, (320, 310, 3), np.uint8)
  found = fid.load(path)(image)
  expected = fid.Inception(inception_converter.convert(state, like))(image)
  np.testing.assert_array_equal(found, expected)
