"""Checkpoints of NAFNet, Restormer and SFHformer: wrappers, order of channels, and all that can be wrong with them."""

import json

import numpy as np
import pytest

from lh_jax import convert
from lh_jax import published
from lh_jax import weight_files
from lh_jax.convert import restorers as converter
from lh_jax.models import restorers
from lh_jax.models.restorers import pixel

from tests.parity import make_restorers_golden as recipe


@pytest.fixture(params=sorted(recipe.NETWORKS), name='network')
def _network(request):
  """(module, its checkpoint under the official names)."""
  with np.load(recipe.FIXTURE) as file:
    shapes = json.loads(str(file[f'{request.param}/shapes']))
  return restorers.build(**recipe.NETWORKS[request.param], channels=3), recipe.weights(shapes)


def test_every_problem_is_listed(network):
  module, tensors = network
  names = sorted(name for name in tensors if name.endswith('.weight') and tensors[name].ndim == 4)
  lost, bent = next(name for name in names if 'FFC' not in name), names[-1]
  assert lost != bent
  broken = {name: array for name, array in tensors.items() if name != lost}
  broken |= {bent: tensors[bent][:-1], 'head.weight': np.zeros(3, np.float32)}
  with pytest.raises(ValueError) as error:
    converter.convert(broken, module)
  message = str(error.value)
  assert message.startswith('3 tensors do not match the model in the official layout')
  assert f'missing: {lost} ' in message and f'shape: {bent} is ' in message and 'unknown: head.weight (3,)' in message


def test_kernels_before_a_pixel_shuffle_need_all_their_axes(network):
  """Their channels are put into another order, which a kernel without its axes of length 1 would miss."""
  module, tensors = network
  name = next(name for name in ('ups.0.0.weight', 'up2_1.body.0.weight', 'upsample3.proj.0.weight') if name in tensors)
  shape = tensors[name].shape
  flat = {**tensors, name: tensors[name].reshape(shape[0], -1)}
  with pytest.raises(ValueError) as error:
    converter.convert(flat, module)
  assert str(error.value).splitlines()[1:] == [f'  shape: {name} is {flat[name].shape}, expected {shape}']


def test_nothing_is_lost(network):
  """Every number of the checkpoint is in the variables, but for those that the authors' own code does not use."""
  module, tensors = network
  found = weight_files.flatten(converter.convert(tensors, module))
  idle = ('.bn2.', '.norm1.body.', '.conv_layer.') if isinstance(module, restorers.SFHformer) else ()
  used = [array for name, array in tensors.items() if not any(part in name for part in idle)]
  total = lambda arrays: (sum(a.size for a in arrays), sum(float(np.abs(a).sum(dtype=np.float64)) for a in arrays))
  assert total(found.values()) == pytest.approx(total(used), rel=1e-9)


def test_files_as_they_are_published(tmp_path, monkeypatch):
  """Inside 'state_dict' with the prefix of torch.nn.DataParallel, beside counters; and cut short."""
  with np.load(recipe.FIXTURE) as file:
    tensors = recipe.weights(json.loads(str(file['sfhformer/shapes'])))
  monkeypatch.setitem(pixel.NETWORKS, 'sfhformer_l', recipe.NETWORKS['sfhformer'])
  state = {f'module.{name}': array for name, array in tensors.items()}
  state |= {
    name.replace('running_mean', 'num_batches_tracked'): np.int64(7) * np.ones((), np.int64)
    for name in state
    if name.endswith('running_mean')
  }
  source = tmp_path / 'trained.safetensors'
  weight_files.save(source, state)
  out, _ = convert.convert_file('sfhformer_l', source, tmp_path / 'out.safetensors')
  variables, metadata = weight_files.load(out)
  assert metadata['name'] == 'sfhformer_l' and set(variables) == {'params', 'batch_stats'}
  expected = converter.convert(tensors, restorers.build(**recipe.NETWORKS['sfhformer'], channels=3))
  for name, array in weight_files.flatten(expected).items():
    np.testing.assert_array_equal(weight_files.flatten(variables)[name], array)
  source.write_bytes(source.read_bytes()[:-100])
  with pytest.raises(ValueError, match='sfhformer_l: .*not a whole safetensors file'):
    convert.convert_file('sfhformer_l', source, tmp_path / 'other.safetensors')


def test_every_network_says_where_its_weights_are():
  for name in pixel.NETWORKS:
    assert published.FILES[name].licence and f'python -m lh_jax.convert {name}' in published.how_to_get(name)
  assert published.FILES['restormer_deraining'].addresses == (
    'https://github.com/swz30/Restormer/releases/download/v1.0/deraining.pth',
  )
  assert 'NAFNet-SIDD-width64.pth' in published.how_to_get('nafnet_sidd_width64')
