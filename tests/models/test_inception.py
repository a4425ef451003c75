"""FID's Inception network against features that an independent implementation gave."""

import jax
import numpy as np
import pytest

from lh_jax.convert import inception as converter
from lh_jax.models import inception
from tests.parity import make_inception_golden as golden


@pytest.fixture(scope='module')
def state():
  return golden.recipe(golden.shapes(inception.abstract_variables()))


def test_features_are_those_of_torch_fidelity(state):
  variables = converter.convert(state, inception.abstract_variables())
  images = golden.picture()[None].astype(np.float32) / 127.5 - 1.0
  found = jax.jit(inception.Inception().apply)(variables, images)
  expected = np.load(golden.FIXTURE)['features']
  assert found.shape == (1, inception.FEATURES)
  # Features that vary, so that agreement means something.
  assert expected.std() > 0.1
  np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_size():
  shapes = dict(golden.shapes(inception.abstract_variables()))
  # torchvision's Inception-v3 without its classifier and its auxiliary head: 94 convolutions with normalisation.
  assert len(shapes) == 94 * 5
  assert sum(np.prod(shape) for name, shape in shapes.items() if 'running' not in name) == 21_785_568
  assert shapes['Mixed_7c.branch3x3dbl_3b.conv.weight'] == (384, 384, 3, 1)


def test_every_difference_is_listed_at_once(state):
  like = inception.abstract_variables()
  complete = state | {'fc.weight': np.zeros((1008, 2048)), 'fc.bias': np.zeros(1008)}
  complete['Mixed_5b.branch1x1.bn.num_batches_tracked'] = np.zeros(())
  converter.convert(complete, like)
  torchvision = complete | {'fc.bias': np.zeros(1000), 'AuxLogits.fc.bias': np.zeros(1000)}
  torchvision['Conv2d_1a_3x3.conv.weight'] = np.zeros((32, 3, 5, 5))
  del torchvision['Mixed_7c.branch_pool.bn.weight']
  with pytest.raises(ValueError) as error:
    converter.convert(torchvision, like)
  for line in (
    '4 tensors do not match the Inception network of FID',
    'missing: Mixed_7c.branch_pool.bn.weight (192,)',
    'shape: Conv2d_1a_3x3.conv.weight is (32, 3, 5, 5), expected (32, 3, 3, 3)',
    'unknown: AuxLogits.fc.bias (1000,)',
    'fc.bias has 1000 classes, expected 1008',
  ):
    assert line in str(error.value)
