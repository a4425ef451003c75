"""experiments/kill_training.py: what is seen from outside, and a few kills."""

import pathlib
import random
import subprocess
import sys

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))

import kill_training


def test_what_is_left_of_an_earlier_kill_is_no_save(tmp_path):
  assert not kill_training.unfinished(tmp_path)
  half = tmp_path / 'checkpoints' / 'stage2' / '2.orbax-checkpoint-tmp'
  (half.parent / '1').mkdir(parents=True)
  half.mkdir()
  before = kill_training.unfinished(tmp_path)
  assert len(before) == 1 and not kill_training.unfinished(tmp_path) - before
  half.rename(half.parent / 'elsewhere')
  assert not kill_training.unfinished(tmp_path)
  half.mkdir()
  assert kill_training.unfinished(tmp_path) - before


# Prints what a training would, and then works until it is killed.
CHILD = """
import pathlib, sys, time
workdir, lines, save = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
print(lines, flush=True)
if save:
  (workdir / 'checkpoints' / 'stage1' / '3.orbax-checkpoint-tmp').mkdir(parents=True)
time.sleep(600)
"""
MOMENTS = {
  'starting': ('WARNING: something', ''),
  'compiling': ('stage1 8/8  total=1.0\n11:46:28 stage2: starting; {} parameters.', ''),
  'stepping': ('stage1: compiled the step a for 8 x 32 px in 1.0 s.\nstage1 1/8  total=1.0\nWARNING: waiting', ''),
  'saving': ('stage1 3/8  total=1.0', 'yes'),
}


@pytest.mark.parametrize('moment', MOMENTS)
def test_moments(tmp_path, monkeypatch, moment):
  """Beside what an earlier life has left: half a save, and lines of its log."""
  workdir = tmp_path / 'run1'
  (workdir / 'checkpoints' / 'stage1' / '2.orbax-checkpoint-tmp').mkdir(parents=True)
  log = tmp_path / 'run1.log'
  log.write_text('stage1: resuming from step 1 of 8.\n')

  def start(_):
    with open(log, 'a') as file:
      return subprocess.Popen([sys.executable, '-c', CHILD, workdir, *MOMENTS[moment]], stdout=file)

  monkeypatch.setattr(kill_training, 'start', start)
  monkeypatch.setattr(kill_training, 'AT_A_SAVE', 1.0 if moment == 'saving' else 0.0)
  monkeypatch.setattr(kill_training, 'SHORTEST', 0.6)
  assert kill_training.live(workdir, random.Random(0), peace=3.0) == moment


def test_the_schedule_is_what_the_result_says():
  config = kill_training.config()
  assert config.stage1.steps + config.stage2.restorer_steps + config.stage2.lora_steps == kill_training.STEPS
  assert config.train.checkpoint_steps == 1 and config.train.keep_checkpoints == 2


def test_a_training_that_fails_is_no_kill(tmp_path, monkeypatch):
  monkeypatch.setattr(kill_training.sys, 'executable', '/bin/false')
  with pytest.raises(RuntimeError, match='The training that nobody kills failed; see .*whole.log'):
    kill_training.torture(tmp_path, kills=1, seed=0)
  rng = random.Random(1)
  with pytest.raises(RuntimeError, match='run1 failed with exit code 1; see .*run1.log'):
    kill_training.live(pathlib.Path(tmp_path / 'run1'), rng, peace=20.0)


@pytest.mark.slow
def test_a_few_kills(tmp_path):
  found = kill_training.torture(tmp_path, kills=5, seed=1)
  assert (
    found['kills'] == sum(found['killed_while'].values()) == 5
    and found['runs_equal_to_the_one_nobody_killed'] == found['runs'] >= 1
  )
