"""experiments/kill_training.py: what is seen from outside, and a few kills."""

import pathlib
import sys

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))

import kill_training


def test_what_is_seen_from_outside(tmp_path):
  assert kill_training.stands(tmp_path) == (0, 0) and not kill_training.saving(tmp_path)
  for name in ('stage1/2', 'stage1/3', 'stage2/1', 'stage2/2.orbax-checkpoint-tmp'):
    (tmp_path / 'checkpoints' / name).mkdir(parents=True)
  assert kill_training.stands(tmp_path) == (2, 1) and kill_training.saving(tmp_path)


def test_the_schedule_is_what_the_result_says():
  config = kill_training.config()
  assert config.stage1.steps + config.stage2.restorer_steps + config.stage2.lora_steps == kill_training.STEPS
  assert config.train.checkpoint_steps == 1 and config.train.keep_checkpoints == 2


def test_a_training_that_fails_is_no_kill(tmp_path, monkeypatch):
  monkeypatch.setattr(kill_training.sys, 'executable', '/bin/false')
  with pytest.raises(RuntimeError, match='The training that nobody kills failed; see .*whole.log'):
    kill_training.torture(tmp_path, kills=1, seed=0)
  rng = kill_training.random.Random(1)
  with pytest.raises(RuntimeError, match='run1 failed with exit code 1; see .*run1.log'):
    kill_training.live(pathlib.Path(tmp_path / 'run1'), rng, peace=20.0)


@pytest.mark.slow
def test_a_few_kills(tmp_path):
  found = kill_training.torture(tmp_path, kills=5, seed=1)
  assert found['kills'] == 5 and found['runs_equal_to_the_one_nobody_killed'] == found['runs'] >= 1
