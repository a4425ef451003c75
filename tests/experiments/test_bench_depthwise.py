"""`experiments/bench_depthwise.py` runs and prints a row per case."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'experiments' / 'bench_depthwise.py'


def run(*arguments):
  environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
  return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, env=environment)


def test_prints_a_row_per_case():
  result = run('--sizes', '6x8', '--channels', '4', '--kernels', '3', '--batch', '1', '--repeats', '1')
  assert result.returncode == 0, result.stderr
  rows = [line for line in result.stdout.splitlines() if line.strip().startswith('6x8')]
  assert len(rows) == 1 and len(rows[0].split('|')) == 3


def test_bad_size():
  result = run('--sizes', '1x2x3')
  assert result.returncode == 2
  assert "'1x2x3' is not a size; give PIXELS or HEIGHTxWIDTH" in result.stderr
