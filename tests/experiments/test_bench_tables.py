"""`experiments/bench_tables.py`: numbers of the results as they are, twins beside each other, sizes compared openly."""

import json
import sys

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import bench_tables  # noqa: E402

MADE_BY = {'lh_jax': '1', 'jax': '2', 'cpu': 'Some CPU, 2 cores'}


def test_tables(tmp_path):
  rows = [
    {'metric': 'ssim_rgb', 'seconds': 0.5, 'peak_gb': 1.0},
    {'metric': 'skimage_ssim_rgb', 'seconds': 5.25, 'peak_gb': 1.5},
    {'metric': 'lpips_vgg', 'not_measured': 'no weights'},
  ]
  (tmp_path / 'metrics_cpu.json').write_text(json.dumps(MADE_BY | {'size': '3840x2160', 'rows': rows}))
  row = {'task': 'haze', 'degrade_s': 0.04, 'synthesise_s': 0.17, 'peak_gb': 0.9}
  (tmp_path / 'synthesis_cpu.json').write_text(json.dumps(MADE_BY | {'size': [3840, 2160], 'rows': [row]}))
  need = {'phase': 'restorer', 'crop': 64, 'images_per_sec': 47.1}
  row = {'source': 'crops of 512', 'images_per_sec': 204.4, 'cpu_ms_per_image': 9.5}
  data = MADE_BY | {'threads': 2, 'crop': 64, 'rows': [row], 'training_needs': need}
  (tmp_path / 'data_cpu.json').write_text(json.dumps(data))
  text = bench_tables.section(tmp_path)
  assert '| `ssim_rgb` | 0.50 | 1.00 | 5.25 | 1.50 |' in text and 'skimage_ssim' not in text
  assert '| `lpips_vgg` | not measured |  |  |  |' in text
  assert '| haze | 0.17 | 0.04 | 0.90 |' in text
  assert '| crops of 512 | 204.4 | 9.5 |' in text and '| training takes at most (restorer) | 47.1 |  |' in text
  assert text.count('Some CPU, 2 cores, lh_jax 1, JAX 2') == 3 and 'not the same' not in text
  (tmp_path / 'data_cpu.json').write_text(json.dumps(data | {'crop': 256}))
  assert 'samples of 256 px, training of 64 px: not the same samples' in bench_tables.section(tmp_path)
