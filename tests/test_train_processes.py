"""lh_jax.train and lh_jax.restore on two processes of four devices: the result of one process of eight."""

import json
import signal
import time

import jax
import numpy as np
from PIL import Image
import pytest

from lh_jax import exports
from lh_jax import preemption
from lh_jax import restore
from lh_jax import train

from tests import processes

# Sums over the devices of two processes are taken in another order, and Adam turns tiny gradients into steps of the
# learning rate's size; over ten steps. Measured: 2e-5 at most.
TOLERANCE = 2e-4

TRAIN = """
import pathlib, time
from lh_jax import preemption, train
workdir, mesh = pathlib.Path(sys.argv[1]), eval(sys.argv[2])
config = conftest.tiny_config()
config.stage1.crop_size = config.stage2.crop_size = 64
config.mesh.update(mesh)
if len(sys.argv) > 3:
  exec(sys.argv[3])
try:
  hosts.agree_on_run(config, sys.argv[1])
  train.train(config, workdir)
except preemption.Preempted as notice:
  say(notice)
  sys.exit(preemption.EXIT_CODE)
except ValueError as error:
  say(error)
"""
RESTORE = """
import pathlib
from lh_jax import restore
config = conftest.tiny_config()
model, source, target, report = sys.argv[1:]
config.restore.update({'input': source, 'output': target, 'checkpoint': model, 'report': report})
sys.exit(restore.restore_config(config, pathlib.Path(model)))
"""


@pytest.fixture(scope='module', name='one')
def _one(tmp_path_factory):
  """What one process of eight devices trains."""
  from tests import conftest

  workdir = tmp_path_factory.mktemp('one')
  config = conftest.tiny_config()
  config.stage1.crop_size = config.stage2.crop_size = 64  # 'space' needs rows of the deepest features on every device.
  train.train(config, workdir)
  return workdir


def difference(one, other):
  """The largest difference of two exports' parameters."""
  trees = [exports.load(workdir).params for workdir in (one, other)]
  return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), *trees)))


def test_both_stages_end_with_the_parameters_of_one_process(one, tmp_path):
  """On data, fsdp and space axes of two; over the data axis alone, see the next test."""
  # Pictures are computed by both and written by one.
  pictures = 'config.train.update({"tensorboard": True, "image_steps": 2})'
  written = processes.run(TRAIN, tmp_path, {'fsdp': 2, 'space': 2}, pictures)
  assert list(tmp_path.glob('events.out.tfevents.*'))
  assert 'stage2 6/6' in written[0][1] and 'stage2' not in written[1][1], 'process 0 speaks for all'
  assert difference(one, tmp_path) < TOLERANCE
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert len(lines) == len((one / 'metrics.jsonl').read_text().splitlines()), 'process 0 writes for all'


def test_a_notice_to_one_process_stops_both_and_loses_nothing(one, tmp_path):
  slow = 'step = preemption.Notice.came\npreemption.Notice.came = lambda notice: time.sleep(0.5) or step(notice)'
  running = processes.begin(TRAIN, tmp_path, {}, slow)
  deadline = time.monotonic() + processes.TIMEOUT
  while not (tmp_path / 'metrics.jsonl').is_file() or not (tmp_path / 'metrics.jsonl').read_text():
    assert time.monotonic() < deadline and all(process.poll() is None for process in running)
    time.sleep(0.05)
  running[1].send_signal(signal.SIGTERM)
  first, second = processes.end(running, code=preemption.EXIT_CODE)
  assert first[0] == second[0] and 'the same command goes on' in first[0][0]
  processes.run(TRAIN, tmp_path, {})
  assert difference(one, tmp_path) < TOLERANCE


def test_processes_that_disagree_end_alike(tmp_path):
  change = 'import jax\nconfig.train.seed = jax.process_index()'
  (first, _), (second, _) = processes.run(TRAIN, tmp_path, {}, change)
  expected = 'The processes disagree on the configuration: train.seed is 0 on process 0 and 1 on 1.'
  assert first == second == [expected] and not (tmp_path / 'checkpoints').exists()


@pytest.mark.parametrize('before', ['a new run', 'one that was begun on process 0'])
def test_a_work_directory_that_is_not_shared(tmp_path, before):
  """The same relative name, in another folder on each process."""
  if before != 'a new run':
    (tmp_path / '0' / 'run' / 'checkpoints' / 'stage1').mkdir(parents=True)
  apart = f'import jax, os\nhere = {str(tmp_path)!r} + f"/{{jax.process_index()}}"\nos.makedirs(here, exist_ok=True)'
  (first, _), (second, _) = processes.run(TRAIN, 'run', {}, apart + '\nos.chdir(here)')
  expected = 'process 1 does not see what process 0 writes' if before == 'a new run' else 'of which some have none'
  assert first == second and 'The processes see different checkpoints in run/checkpoints/stage1' in first[0]
  assert expected in first[0] and 'storage that all hosts share' in first[0]


def test_a_folder_is_restored_once(one, tmp_path):
  """Three files do not divide over two processes; one of them is damaged."""
  (tmp_path / 'in').mkdir()
  for name in 'abcd':
    pixels = np.random.default_rng(ord(name)).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'in' / f'{name}.png')
  (tmp_path / 'in' / 'd.png').write_bytes(b'no image')
  processes.end(
    processes.begin(RESTORE, one, tmp_path / 'in', tmp_path / 'two', tmp_path / 'report.json'),
    code=1,
  )
  report = json.loads((tmp_path / 'report.json').read_text())
  assert report['processes'] == 2 and report['totals'] == {
    'files': 4,
    'restored': 3,
    'skipped': 0,
    'failed': 1,
    'not_reached': 0,
  }
  assert [entry['input'][-5:] for entry in report['files']] == ['a.png', 'b.png', 'c.png', 'd.png']
  assert restore.main([str(tmp_path / 'in'), '-o', str(tmp_path / 'alone'), '--checkpoint', str(one)]) == 1
  for name in 'abc':
    alone, shared = (np.asarray(Image.open(tmp_path / half / f'{name}.png')) for half in ('alone', 'two'))
    np.testing.assert_array_equal(alone, shared)
