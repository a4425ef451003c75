"""The bundled weights: whole, the default, and as good as the committed results say."""

import json

import numpy as np
import pytest

import lh_jax
from lh_jax import exports
from lh_jax import measure
from lh_jax import networks
from lh_jax import protocols
from lh_jax import restore
from lh_jax import results
from lh_jax import synthesis
from lh_jax.data import image_files
from lh_jax.data import sources
from lh_jax.models import lora
from tests.conftest import ROOT

TASK, ALPHAS = 'noise25', (0.0, 0.5, 1.0)


@pytest.fixture(name='tried', scope='module')
def _tried():
  """What `experiments/bundled.py` measured of these weights."""
  report = json.loads((ROOT / 'experiments' / 'results' / 'bundled.json').read_text(encoding='utf-8'))
  sha256 = results.file_hash(exports.BUNDLED / 'params.safetensors')
  return [tried for tried in report['tries'] if tried['sha256'] == sha256][-1]


def test_is_a_whole_model_in_few_megabytes():
  export = exports.load(exports.BUNDLED)
  assert export.stage == 'stage2' and set(export.params) == set(networks.PARTS)
  assert not lora.is_zero(export.params['encoder_lora']) and not lora.is_zero(export.params['decoder_lora'])
  assert (exports.BUNDLED / 'params.safetensors').stat().st_size < 6e6
  config = json.loads((exports.BUNDLED / 'config.json').read_text(encoding='utf-8'))
  assert {name: config[name] for name in networks.SECTIONS} == export.sections


def test_has_a_model_card(tried):
  text = (exports.BUNDLED / 'README.md').read_text(encoding='utf-8')
  for heading in ('## Training', '## Data', '## Measured', '## Known failures', '## Licence'):
    assert heading in text
  assert tried['sha256'] in text


def test_metrics_of_the_embedded_photograph(tried):
  """PSNR within what other hardware may round to, 0.02 dB."""
  (item,) = sources.embedded(split='test')
  clean = synthesis.crop(item['clean'], (tried['crop'], tried['crop']))
  settings = {'severity': tried['severity'], 'seed': tried['seed']}
  degraded = synthesis.synthesise(clean, name=item['name'], task=TASK, **settings)
  (row,) = [row for row in tried['rows'] if (row['set'], row['task']) == ('embedded', TASK)]
  scores = measure.Measure.load(protocols.get('rgb'), lpips='none')
  for alpha, found in zip(ALPHAS, lh_jax.Restorer.from_pretrained().sweep(degraded, ALPHAS)):
    psnr = scores.score(found.image, clean)['psnr_rgb']
    assert psnr == pytest.approx(row[f'psnr_rgb_alpha_{alpha:g}'], abs=0.02)


def test_is_what_lh_restore_takes(tmp_path):
  image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
  image_files.write_image(tmp_path / 'in.png', image)
  report = tmp_path / 'report.json'
  assert restore.main([str(tmp_path / 'in.png'), '-o', str(tmp_path / 'out.png'), '--report', str(report)]) == 0
  assert json.loads(report.read_text())['checkpoint'] == 'bundled'
  expected = lh_jax.Restorer.from_pretrained().restore(image)
  np.testing.assert_array_equal(image_files.to_uint8(image_files.read_rgb(tmp_path / 'out.png')), expected)
