import json
import os
import shlex
import signal
import time

import pytest

from lh_jax.launch import __main__ as launch
from tests.conftest import ROOT
from tests.launch import programs

TARGET = ['tpu_vm', '--tpu=pod', '--zone=us-central2-b']
TRAIN = ['--config=configs/uhd6.py', '--workdir=gs://bucket/run', '--config.data.path=/my "data"/it\'s']


def dry_run(capsys, *options):
  assert launch.main([*TARGET, *options, '--dry-run', '--', *TRAIN]) == 0
  return capsys.readouterr().out


def test_dry_run(capsys):
  shown = dry_run(capsys, '--project=p', '--gcloud=--tunnel-through-iap', '--env=A=b c', '--setup=. .venv/bin/activate')
  programs.check_shell(shown)
  command = shlex.split(shown, comments=True)
  assert command[:-1] == [
    *('gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', 'pod', '--zone=us-central2-b', '--project=p'),
    *('--tunnel-through-iap', '--worker=all'),
  ]
  script = command[-1].removeprefix('--command=')
  programs.check_shell(script)
  lines = [line.strip() for line in script.splitlines()]
  first = lines.index('cd lh_jax || exit')
  assert lines[first + 1 : first + 3] == ['{ . .venv/bin/activate; } || exit', "export A='b c'"]
  assert shlex.split(lines[first + 3]) == ['python3', '-m', 'lh_jax.main', *TRAIN, '&']
  assert '{{' not in script
  assert '# Stop it, saving a checkpoint: gcloud' in shown
  assert 'not on gs://' not in shown


def test_a_workdir_on_a_disk_is_pointed_out(capsys):
  assert launch.main([*TARGET, '--dry-run', '--', '--config=c', '--workdir=/mnt/nfs/run']) == 0
  assert '# The workdir is not on gs://' in capsys.readouterr().out


def options(home):
  return [*TARGET, *programs.CHILD, '--directory', ROOT, '--name=run-1']


def test_a_worker_runs_it_and_the_exit_code_comes_back(tmp_path):
  arguments = ['it\'s "quoted" $HOME', 'a  b', '*']
  code, output = programs.run(
    tmp_path, *options(tmp_path), '--env=CODE=7', '--env=ADDED=x  "y"', '--', 'show', tmp_path, *arguments
  )
  assert code == 7, output
  log = (tmp_path / 'lh_jax_launch' / 'run-1.log').read_text()
  shown = json.loads(log.splitlines()[-1])
  assert shown['arguments'] == arguments and shown['variables']['ADDED'] == 'x  "y"'
  assert f'] {log.splitlines()[-1]}' in output  # With the worker's name before it.
  code, output = programs.run(tmp_path, *options(tmp_path), '--', 'show')
  assert code == 0 and output.count('arguments') == 1  # What the last run has said stays in the log only.


def test_a_worker_without_the_repository_fails(tmp_path):
  code, output = programs.run(tmp_path, *TARGET, *programs.CHILD, '--directory=nowhere', '--', 'show')
  assert code == 1 and 'nowhere' in output


@pytest.mark.parametrize('setup', ['. nowhere/activate', 'set -e; false', 'exit 3'])
def test_a_setup_that_fails_ends_the_launch(tmp_path, setup):
  code, output = programs.run(tmp_path, *options(tmp_path), f'--setup={setup}', '--', 'show')
  assert code == (3 if 'exit' in setup else 1) and 'arguments' not in output


def wait_for(path):
  deadline = time.monotonic() + 30
  while not path.exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)


def test_the_same_command_follows_a_running_training_and_its_end(tmp_path):
  first = programs.start(tmp_path, *options(tmp_path), '--', 'wait', tmp_path)
  wait_for(tmp_path / 'ready0')
  second = programs.start(tmp_path, *options(tmp_path), '--', 'wait', tmp_path)
  for line in second.stdout:
    if 'runs already' in line:
      break
  pid = int((tmp_path / 'lh_jax_launch' / 'run-1.pid').read_text())
  os.kill(pid, signal.SIGTERM)
  for launcher in (first, second):
    output = launcher.communicate(timeout=60)[0]
    assert launcher.returncode == 143, output
    assert output.count('saved after SIGTERM') == 1


def test_a_training_outlives_its_connection(tmp_path):
  launcher = programs.start(tmp_path, *options(tmp_path), '--', 'wait', tmp_path)
  wait_for(tmp_path / 'ready0')
  pid = int((tmp_path / 'lh_jax_launch' / 'run-1.pid').read_text())
  launcher.terminate()
  launcher.wait(timeout=30)
  launcher.stdout.close()
  os.kill(pid, signal.SIGHUP)
  time.sleep(0.2)
  os.kill(pid, signal.SIGTERM)
  wait_for(tmp_path / 'lh_jax_launch' / 'run-1.exit')
  assert 'saved after SIGTERM' in (tmp_path / 'lh_jax_launch' / 'run-1.log').read_text()


def test_the_number_of_an_ended_process_is_not_mistaken_for_a_running_one(tmp_path):
  (tmp_path / 'lh_jax_launch').mkdir()
  (tmp_path / 'lh_jax_launch' / 'run-1.pid').write_text(str(os.getpid()))
  code, output = programs.run(tmp_path, *options(tmp_path), '--', 'show')
  assert code == 0 and 'runs already' not in output
