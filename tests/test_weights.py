"""The bundled weights: what they make of scikit-image's photograph, beside the values of when they were committed."""

import json

import numpy as np
import pytest

import lh_jax
from lh_jax import exports
from lh_jax import results
from lh_jax import synthesis
from lh_jax.data import sources
from lh_jax.metrics import similarity
from lh_jax.models import lora

CARD = exports.BUNDLED / 'README.md'
SIZE = (256, 256)  # width and height of the middle that is measured
# PSNR of RGB in dB: the input, then alpha 0, 0.5 and 1.
MEASURED = {
  'low_light': (11.88, 26.37, 26.27, 26.17),
  'haze': (11.01, 19.85, 19.9, 19.93),
  'blur': (26.58, 27.09, 27.08, 27.07),
  'rain': (22.18, 28.99, 28.86, 28.7),
  'snow': (18.73, 27.87, 27.73, 27.58),
  'noise15': (24.64, 31.23, 31.27, 31.31),
  'noise25': (20.28, 29.32, 29.37, 29.41),
  'noise50': (14.61, 26.95, 26.98, 27.01),
}


@pytest.fixture(name='clean', scope='module')
def _clean():
  return synthesis.crop(sources.embedded(split='test')[0]['clean'], SIZE)


@pytest.fixture(name='model', scope='module')
def _model():
  return lh_jax.Restorer.from_pretrained()


@pytest.mark.parametrize('task', MEASURED)
def test_what_they_make_of_a_photograph(model, clean, task):
  degraded = synthesis.synthesise(clean, name='chelsea.png', task=task, severity=0.5, seed=0)
  restored = [result.image for result in model.sweep(degraded, (0.0, 0.5, 1.0))]
  pairs = [(np.float32(image)[None], np.float32(clean)[None]) for image in (degraded, *restored)]
  found = [float(similarity.psnr(*pair, max_value=255.0)[0]) for pair in pairs]
  np.testing.assert_allclose(found, MEASURED[task], atol=0.05)
  assert min(found[1:]) > found[0]


def test_both_branches_are_there(model, clean):
  params = exports.load(exports.BUNDLED).params
  assert not any(lora.is_zero(params[branch]) for branch in ('encoder_lora', 'decoder_lora'))
  first, last = (result.image.astype(int) for result in model.sweep(clean, (0.0, 1.0)))
  assert np.abs(first - last).max() > 1


def test_the_folder_is_small_and_whole():
  assert {file.name for file in exports.BUNDLED.iterdir()} == {'README.md', 'config.json', 'params.safetensors'}
  assert sum(file.stat().st_size for file in exports.BUNDLED.iterdir()) < 8e6
  assert json.loads((exports.BUNDLED / 'config.json').read_text(encoding='utf-8'))['stage'] == 'stage2'


def test_the_card_is_of_these_weights():
  text = CARD.read_text(encoding='utf-8')
  assert f'`{results.file_hash(exports.BUNDLED / "params.safetensors")}`' in text
  for heading in ('Training', 'Data', 'Measured', 'Known failures', 'Licence'):
    assert f'\n## {heading}\n' in text
