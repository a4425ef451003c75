"""`experiments/aot_gpu.py` measures compiled programs and describes cards; here on the CPU, without the CUDA plugin."""

import json
import re
import sys

import jax
import pytest

from lh_jax import networks as networks_lib
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import aot_gpu  # noqa: E402
import gpu_cards  # noqa: E402

CARD = gpu_cards.CARDS['rtx3090']


@pytest.fixture(name='networks')
def _networks(tiny_config):
  sections = {name: tiny_config[name].to_dict() for name in networks_lib.SECTIONS}
  return networks_lib.build(sections)


@pytest.fixture(name='small', autouse=True)
def _small(monkeypatch):
  monkeypatch.setattr(aot_gpu, 'SIZES', {'small': (48, 208)})


def test_target_config():
  text = gpu_cards.target_config(CARD)
  fields = dict(re.findall(r'(\w+): ([\w".]+)', text))
  assert fields['core_count'] == '82'
  assert fields['device_memory_size'] == str(24 * 2**30)
  assert fields['memory_bandwidth'] == '936000000000'
  assert fields['clock_rate_ghz'] == '1.695'
  assert fields['shared_memory_per_block_optin'] == str(99 * 1024)
  assert 'cuda_compute_capability { major: 8 minor: 6 }' in text
  assert 'device_description_str: "NVIDIA GeForce RTX 3090"' in text
  assert text.count('{') == text.count('}')


@pytest.mark.parametrize('card', gpu_cards.CARDS.values(), ids=list(gpu_cards.CARDS))
def test_cards_agree_with_themselves(card):
  """Cores x 2 x clock is the data sheet's float32 rate; each unit is at least as fast as the next."""
  assert card.multiprocessors * 128 * 2 * card.clock_ghz / 1e3 == pytest.approx(card.fp32, rel=0.01)
  assert card.bf16 > card.tf32 >= card.fp32
  assert card.source


def test_programs(networks):
  whole, encode, latent, decode = aot_gpu.programs(networks, 'small', tile=32)
  assert [p.runs for p in (whole, encode, latent, decode)] == [1, 3, 1, 4]
  shapes = [jax.eval_shape(p.function, *p.shapes)[0].shape for p in (encode, latent, decode)]
  assert shapes == [(1, 6, 16, 8), (1, 6, 26, 8), (1, 48, 128, 3)]
  assert jax.eval_shape(whole.function, *whole.shapes).shape == (1, 48, 208, 3)


def test_measure(networks):
  rows = []
  for program in aot_gpu.programs(networks, 'small', tile=32):
    if not program.name.startswith('restore'):
      compiled, elapsed = aot_gpu.compile_for(program, None)
      rows.append(aot_gpu.measure(program, CARD, compiled) | {'compile_seconds': elapsed})
  whole, encode, decode = rows
  for row in rows:
    numbers = [value for value in row.values() if isinstance(value, int | float)]
    assert min(numbers) > 0, row
    assert row['peak_bytes'] >= row['argument_bytes'] + row['temp_bytes']
    assert row['roofline_ms'] == max(row['compute_ms'], row['traffic_ms']) <= row['by_kernel_ms'] * (1 + 1e-9)
    json.dumps(row)
  # Every multiply-add of the VAE is a convolution here, and the merged LoRA branches come on top; a border where the
  # window meets padding counts in full in both.
  for row in (encode, decode):
    assert 1.0 <= sum(row['operations'].values()) / row['model_operations'] < 1.2
  assert whole['operations']['fp32'] > 0  # the restorer's Fourier transforms

  text = aot_gpu.table(rows)
  assert len(text.splitlines()) == 2 + 3 and 'RTX 3090' in text
  summed = aot_gpu.totals(rows)
  assert [total['mode'] for total in summed] == ['whole', 'tiled']
  assert summed[1]['peak_bytes'] == max(encode['peak_bytes'], decode['peak_bytes'])
  assert summed[1]['roofline_ms'] == pytest.approx(3 * encode['roofline_ms'] + 4 * decode['roofline_ms'])
  assert len(aot_gpu.table(summed).splitlines()) == 2 + 2


def test_without_the_plugin(monkeypatch):
  def missing(*args, **kwargs):
    raise NotImplementedError('topology not implemented for cuda')

  monkeypatch.setattr(aot_gpu.topologies, 'get_topology_desc', missing)
  with pytest.raises(SystemExit, match='The CUDA plugin is missing .*: install what the docstring'):
    aot_gpu.main(['--cards', 'rtx3090'])


def test_the_stored_result_fits_the_target():
  """RTX 3090 (compiled, not run): a whole 4K image in bfloat16 within 6 GB."""
  report = json.loads((ROOT / 'experiments' / 'results' / 'aot_gpu.json').read_text())
  assert report['dtype'] == 'bfloat16' and set(report['cards']) == set(gpu_cards.CARDS)
  (peak,) = (
    total['peak_bytes']
    for total in report['totals']
    if (total['card'], total['size'], total['mode']) == (*aot_gpu.PAPER_CASE, 'whole')
  )
  assert peak < 6e9
