"""`experiments/bench_metrics.py` measures, agrees with its twins, and says what it could not measure."""

import json
import os
import subprocess
import sys

from tests.conftest import ROOT

SCRIPT = ROOT / 'experiments' / 'bench_metrics.py'


def test_rows_and_twins(tmp_path):
  names = ['ssim_rgb', 'skimage_ssim_rgb', 'ciede2000', 'skimage_ciede2000', 'lpips_alex']
  output = tmp_path / 'results' / 'metrics.json'
  result = subprocess.run(
    [sys.executable, SCRIPT, '--size', '64x48', '--repeats', '1', '-o', output, '--metrics', *names],
    capture_output=True,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'LH_JAX_CACHE': str(tmp_path)},
  )
  assert result.returncode == 0, result.stderr
  report = json.loads(output.read_text())
  rows = {row['metric']: row for row in report['rows']}
  assert report['size'] == '64x48' and {'lh_jax', 'jax', 'python', 'device', 'cpu'} <= report.keys()
  assert list(rows) == names
  for name in ('ssim_rgb', 'ciede2000'):
    assert abs(rows[name]['value'] - rows[f'skimage_{name}']['value']) < 1e-3
    assert rows[name]['seconds'] > 0
    assert rows[name]['peak_gb'] >= rows[name]['peak_gb_before'] > 0
  assert 'python -m lh_jax.convert lpips_alex' in rows['lpips_alex']['not_measured']
  assert '| lpips_alex | not measured:' in result.stdout
