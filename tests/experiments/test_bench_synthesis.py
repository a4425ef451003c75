"""`experiments/bench_synthesis.py` runs, prints a row for each task and writes them."""

import json
import os
import subprocess
import sys

from tests.conftest import ROOT


def test_prints_and_writes_a_row_for_each_task(tmp_path):
  command = [sys.executable, str(ROOT / 'experiments' / 'bench_synthesis.py'), '--size', '16x12', '--repeats', '1']
  environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
  result = subprocess.run(
    [*command, '--tasks', 'noise25', '-o', str(tmp_path / 'found.json')],
    capture_output=True,
    text=True,
    env=environment,
  )
  assert result.returncode == 0, result.stderr
  report = json.loads((tmp_path / 'found.json').read_text())
  assert {'lh_jax', 'jax', 'python', 'device', 'cpu'} <= report.keys()
  assert report['size'] == [16, 12] and [row['task'] for row in report['rows']] == ['noise25']
  assert all(value >= 0 for name, value in report['rows'][0].items() if name != 'task')
  assert result.stdout.splitlines()[-1].startswith('| noise25 | ')
