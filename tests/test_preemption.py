"""lh_jax.preemption: SIGTERM saves the state and ends the run; the same command goes on."""

import os
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from lh_jax import exports
from lh_jax import main
from lh_jax import preemption
from lh_jax import train

from tests import processes


def test_a_notice_is_noted_and_the_handler_put_back():
  before = signal.getsignal(signal.SIGTERM)
  with preemption.Notice() as notice:
    assert not notice.came()
    os.kill(os.getpid(), signal.SIGTERM)
    assert notice.came()
  assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_ends_a_process_that_has_nothing_to_save():
  """jax.distributed takes it over, and only a training's loop asks it."""
  code = (
    'import os, signal, time\n'
    'from lh_jax import hosts, preemption\n'
    f"hosts.start(start='on', coordinator='127.0.0.1:{processes.free_port()}', count=1, index=0, timeout_seconds=60)\n"
    'preemption.end_at_once()\n'
    'os.kill(os.getpid(), signal.SIGTERM)\n'
    'time.sleep(60)\n'
  )
  ended = subprocess.run([sys.executable, '-c', code], check=False, timeout=processes.TIMEOUT)
  assert ended.returncode == -signal.SIGTERM


def test_threads_leave_signals_alone():
  before, found = signal.getsignal(signal.SIGTERM), []

  def work():
    with preemption.Notice() as notice:
      found.append((notice.came(), signal.getsignal(signal.SIGTERM)))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert found == [(False, before)]


def test_a_stopped_run_goes_on_as_if_nothing_had_been(tmp_path, tiny_config, monkeypatch):
  """Stopped between two checkpoints of either stage."""
  train.train(tiny_config, tmp_path / 'whole')
  came = iter([False, False, True] + [True] + [False, False, False, True])
  with monkeypatch.context() as patch:
    patch.setattr(preemption.Notice, 'came', lambda notice: next(came))
    with pytest.raises(preemption.Preempted, match='SIGTERM: stage1 stopped after step 3 of 4, which is saved'):
      train.train(tiny_config, tmp_path / 'stopped')
    assert sorted(path.name for path in (tmp_path / 'stopped' / 'checkpoints' / 'stage1').iterdir()) == ['2', '3']
    # A stage that has only to be exported does not hide the notice.
    with pytest.raises(preemption.Preempted, match='SIGTERM: stage1 stopped after step 4 of 4'):
      train.train(tiny_config, tmp_path / 'stopped')
    with pytest.raises(preemption.Preempted, match='SIGTERM: stage2 stopped after step 4 of 6'):
      train.train(tiny_config, tmp_path / 'stopped')
  train.train(tiny_config, tmp_path / 'stopped')
  whole, stopped = (exports.load(tmp_path / name).params for name in ('whole', 'stopped'))
  jax.tree.map(np.testing.assert_array_equal, stopped, whole)


def test_a_stopped_run_has_not_ended_well(tmp_path, tiny_config, monkeypatch, caplog):
  def stopped(config, workdir):
    raise preemption.Preempted('SIGTERM: stopped')

  monkeypatch.setattr(train, 'train', stopped)
  monkeypatch.setattr(main, 'CONFIG', type('Flag', (), {'value': tiny_config}))
  monkeypatch.setattr(main, 'WORKDIR', type('Flag', (), {'value': str(tmp_path)}))
  monkeypatch.setattr(main, 'MODE', type('Flag', (), {'value': 'train'}))
  with pytest.raises(SystemExit) as ended:
    main.main(['lh_jax'])
  assert ended.value.code == 143
