"""lh_jax.evaluate on two processes that compute together: every image once, and one result."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest

from lh_jax import evaluate
from lh_jax import exports
from lh_jax import networks as networks_lib

from tests.conftest import ROOT

TIMEOUT = 300.0

# Two of each process's devices share the rows of its images.
PROCESS = """
import json, pathlib, sys
sys.path.insert(0, ROOT)
port, process, workdir, data = sys.argv[1:]
import jax
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
jax.distributed.initialize(f'127.0.0.1:{port}', 2, int(process))
from tests import conftest
from lh_jax import evaluate, parallel
assert jax.process_count() == 2 and parallel.gather({'of': int(process), 'pad': 'x' * int(process)}) == [
  {'of': 0, 'pad': ''}, {'of': 1, 'pad': 'x'}
]
config = conftest.tiny_config()
config.evaluate.update({'source': 'folder', 'path': data, 'lpips': 'none', 'devices': 2})
try:
  print('ROWS', json.dumps(evaluate.evaluate(config, pathlib.Path(workdir))))
except RuntimeError as error:
  print('FAILED', error)
"""


def start(workdir, data):
  """Runs both processes and returns the last line of what each printed."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    port = probe.getsockname()[1]
  code = PROCESS.replace('ROOT', repr(str(ROOT)))
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', code, str(port), str(process), str(workdir), str(data)],
      env=os.environ | {'JAX_PLATFORMS': 'cpu'},
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
    )
    for process in range(2)
  ]
  lines = []
  for process in processes:
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, err
    lines.append(next(line for line in reversed(out.splitlines()) if line.startswith(('ROWS', 'FAILED'))))
  return lines


@pytest.fixture(name='run')
def _run(tmp_path, tiny_config):
  sections = {name: tiny_config[name].to_dict() for name in networks_lib.SECTIONS}
  params = jax.device_get(jax.jit(networks_lib.build(sections).init)(jax.random.key(0)))
  exports.save(tmp_path / 'run' / 'export', exports.Export(sections=sections, params=params, stage='stage2'))
  rng = np.random.default_rng(0)
  (tmp_path / 'data').mkdir()
  for name in 'abc':
    pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'data' / f'{name}.png')
  return tmp_path / 'run', tmp_path / 'data'


def test_two_processes_give_the_result_of_one(run, tiny_config):
  """Three images do not divide over two processes."""
  workdir, data = run
  first, second = start(workdir, data)
  assert first == second and first.startswith('ROWS ')
  report = json.loads((workdir / 'evaluation' / 'results.json').read_text())
  assert report['processes'] == 2 and report['rows'] == json.loads(first.removeprefix('ROWS '))
  lines = (workdir / 'evaluation' / 'images.csv').read_text().splitlines()[1:]
  assert [line.split(',')[2] for line in lines] == ['a.png', 'b.png', 'c.png']
  assert '3 of 3 scored images' in (workdir / 'evaluation' / 'report.html').read_text()
  tiny_config.evaluate.update({'source': 'folder', 'path': str(data), 'lpips': 'none'})
  (alone,) = evaluate.evaluate(tiny_config, workdir)
  assert report['rows'] == [pytest.approx(alone, abs=2e-3)]


def test_a_failure_of_one_process_ends_both(run):
  workdir, data = run
  path = data / 'b.png'  # the second process's
  path.write_bytes(path.read_bytes()[:-200])
  lines = start(workdir, data)
  assert all('The evaluation failed on process 1' in line and 'b.png' in line for line in lines)
  assert not (workdir / 'evaluation').exists()
