"""A run that is stopped and started again, in new processes, ends with the same bits as one that is not.

Data order, optimizers, averages and all.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np

from lh_jax import exports

from tests.conftest import ROOT

# Stops the process in the middle of the loop, after the checkpoint of the given step, as a lost machine would.
WORKER = """
import os, pathlib, sys
sys.path.insert(0, {root!r})
from tests import conftest
from lh_jax import checkpoint, train

workdir, stop = pathlib.Path(sys.argv[1]), sys.argv[2]
config = conftest.tiny_config()
config.stage1.reconstruction_steps = 2
config.optim.stage1.method = 'muon'
save = checkpoint.Checkpointer.save

def save_and_die(self, step, state):
  save(self, step, state)
  if f'{{self._directory.name}}/{{step}}' == stop:
    self._manager.wait_until_finished()
    os._exit(9)

checkpoint.Checkpointer.save = save_and_die
train.train(config, workdir)
"""


def run(workdir: pathlib.Path, *, stop: str) -> int:
  script = WORKER.format(root=str(ROOT))
  return subprocess.run(
    [sys.executable, '-c', script, str(workdir), stop],
    check=False,
    timeout=600,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
  ).returncode


def losses(workdir):
  """The last written metrics of every step, without speeds."""
  found = {}
  for line in (workdir / 'metrics.jsonl').read_text().splitlines():
    values = json.loads(line)
    stage = next(name.split('/')[0] for name in values if name.startswith('stage'))
    found[stage, values['step']] = {name: value for name, value in values.items() if not name.startswith('perf/')}
  return found


def test_resumed_equals_uninterrupted(tmp_path):
  """Stage 1 is stopped at 2 of 4; stage 2 at 4 of 6, where FHF gives way to PHF."""
  assert run(tmp_path / 'whole', stop='') == 0
  pieces = tmp_path / 'pieces'
  for stop in ('stage1/2', 'stage2/4'):
    assert run(pieces, stop=stop) == 9
  assert run(pieces, stop='') == 0
  whole, resumed = (exports.load(tmp_path / name) for name in ('whole', 'pieces'))
  assert whole.stage == resumed.stage == 'stage2'
  jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
  assert losses(pieces) == losses(tmp_path / 'whole')
  shutil.rmtree(tmp_path)
