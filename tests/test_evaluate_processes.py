"""lh_jax.evaluate on two processes that compute together: every image once, and one result."""

import json

import jax
import numpy as np
from PIL import Image
import pytest

from lh_jax import evaluate
from lh_jax import exports
from lh_jax import networks as networks_lib

from tests import processes

# Two of each process's devices share the rows of its images.
PROCESS = """
import json, pathlib
from lh_jax import evaluate, parallel
workdir, data = map(pathlib.Path, sys.argv[1:3])
exec(sys.argv[3])
process = {'of': parallel.jax.process_index(), 'pad': 'x' * parallel.jax.process_index()}
assert parallel.gather(process) == [{'of': 0, 'pad': ''}, {'of': 1, 'pad': 'x'}]
config = conftest.tiny_config()
config.evaluate.update({'source': 'folder', 'path': str(data), 'lpips': 'none', 'devices': 2})
try:
  say('ROWS', json.dumps(evaluate.evaluate(config, workdir)))
except (RuntimeError, ValueError) as error:
  say('FAILED', error)
"""


def start(workdir, data, change=''):
  """Runs both processes and returns the last line of what each printed."""
  return [lines[-1] for lines, _ in processes.run(PROCESS, workdir, data, change)]


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


# The second process's image.
FAILS = """
from lh_jax import judge
plain = judge.Judge._evaluate
def evaluate_but_b(self, unit, *others):
  if unit.name == 'b.png':
    raise RuntimeError('out of memory')
  plain(self, unit, *others)
judge.Judge._evaluate = evaluate_but_b
"""


def test_a_failure_of_one_process_ends_both(run):
  workdir, data = run
  lines = start(workdir, data, FAILS)
  assert all('The evaluation failed on process 1' in line and 'out of memory' in line for line in lines)
  path = data / 'b.png'
  path.write_bytes(path.read_bytes()[:-200])
  lines = start(workdir, data)
  assert lines[0] == lines[1] and 'b.png' in lines[0] and 'it is cut short' in lines[0]
  assert not (workdir / 'evaluation').exists()
