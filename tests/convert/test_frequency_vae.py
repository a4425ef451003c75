"""Conversion of the authors' VAE: every tensor has its place; what is wrong is listed; files that are cut are refused.

That the places are the right ones shows in tests/models/vae/test_frequency.py, by the values of the authors' code.
"""

import jax
import numpy as np
import pytest
import safetensors.numpy

from lh_jax import convert
from lh_jax import weight_files
from lh_jax.convert import frequency_vae
from lh_jax.convert import layouts
from lh_jax.convert import sources
from lh_jax.models import vae

from tests.conftest import ROOT
from tests.parity import make_frequency_vae_golden as recipe


@pytest.fixture
def tensors():
  """A checkpoint of the tiny VAE."""
  with np.load(ROOT / 'tests' / 'fixtures' / 'frequency_vae_golden.npz') as file:
    shapes = {str(name): tuple(map(int, shape.split('x'))) for name, shape in zip(file['names'], file['shapes'])}
  return recipe.weights(shapes)


@pytest.fixture(scope='module')
def like():
  model = vae.build(preset='tiny_fe', decoder_blocks=(2, 2, 2))
  return jax.eval_shape(model.init, jax.random.key(0))


def test_every_tensor_has_its_place(tensors, like):
  converted = weight_files.flatten(layouts.convert(tensors, like, frequency_vae.LAYOUTS))
  assert converted.keys() == weight_files.flatten(like).keys() and len(converted) == len(tensors)
  for ours, theirs in (
    ('encoder/down1/kernel', 'encoder.down.0.downsample.conv.weight'),
    ('decoder/up2/phase1/kernel', 'decoder.up.2.upsample.Fup.pha_fuse.0.weight'),
  ):
    np.testing.assert_array_equal(converted[ours], tensors[theirs].transpose(2, 3, 1, 0))


def test_what_does_not_fit_is_listed(tensors, like):
  del tensors['encoder.mid.block_1.ampconv0.2.bias']
  tensors['encoder.mid.block_9.norm1.weight'] = np.zeros(3, np.float32)
  tensors['quant_conv.weight'] = tensors['quant_conv.weight'][:-1]
  with pytest.raises(ValueError, match='3 tensors do not match the model in the authors') as error:
    layouts.convert(tensors, like, frequency_vae.LAYOUTS)
  for problem in (
    'missing: encoder.mid.block_1.ampconv0.2.bias',
    'unknown: encoder.mid.block_9.norm1.weight',
    'shape: quant_conv.weight is',
  ):
    assert problem in str(error.value)


def test_files(tensors, like, tmp_path, monkeypatch):
  family = sources.FAMILIES['frequency_vae']
  monkeypatch.setitem(
    sources.FAMILIES, 'frequency_vae', sources.Family(lambda name: like, family.convert, family.packaged)
  )
  source = tmp_path / 'net_g.safetensors'
  safetensors.numpy.save_file(tensors, source)
  out, written = convert.convert_file('lh_fe_vae', source, tmp_path / 'out.safetensors')
  params, metadata = weight_files.load(out, like)
  assert written and metadata['name'] == 'lh_fe_vae'
  image = recipe.image((16, 16))
  model = vae.build(preset='tiny_fe', decoder_blocks=(2, 2, 2))
  assert np.isfinite(model.decode(params['decoder'], model.encode(params['encoder'], image)[0])).all()
  source.write_bytes(source.read_bytes()[:-100])
  with pytest.raises(ValueError, match='net_g.safetensors'):
    convert.convert_file('lh_fe_vae', source, tmp_path / 'other.safetensors')


@pytest.mark.parametrize('name, code, latent', [('lh_fe_vae', 32, 32), ('uhd_processer_vae', 4, 16)])
def test_published_sizes(name, code, latent):
  like = sources.FAMILIES['frequency_vae'].abstract(name)
  assert like['encoder']['to_latent']['kernel'].shape == (1, 1, 2 * code, 2 * latent)
