import json
import shlex
import signal
import socket
import subprocess
import time

import pytest

from lh_jax.launch import __main__ as launch
from lh_jax.launch import local
from tests.conftest import ROOT
from tests.launch import programs

TRAIN = ['--config=configs/uhd6.py', '--workdir=runs/x', '--config.data.path=/my "data"/it\'s']
TWO = ['local', '--processes=2', '--platform=cpu', *programs.CHILD]


def dry_run(capsys, *options):
  assert launch.main(['local', '--python=python', *options, '--dry-run', '--', *TRAIN]) == 0
  shown = capsys.readouterr().out
  programs.check_shell(shown)
  return shown


def test_dry_run_of_one_process(capsys):
  assert shlex.split(dry_run(capsys)) == ['python', '-m', 'lh_jax.main', *TRAIN]


def test_dry_run_of_two_processes(capsys, monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--xla_force_host_platform_device_count=8 --xla_other=1')
  shown = dry_run(capsys, '--processes=2', '--devices-per-process=4', '--platform=cpu', '--port=1234', '--env=A=b c')
  first, second, last = shown.splitlines()
  assert shlex.split(first) == [
    *('env', 'A=b c', 'JAX_PLATFORMS=cpu', 'XLA_FLAGS=--xla_other=1 --xla_force_host_platform_device_count=4'),
    *('JAX_CPU_COLLECTIVES_IMPLEMENTATION=gloo', 'JAX_COORDINATOR_ADDRESS=127.0.0.1:1234', 'JAX_NUM_PROCESSES=2'),
    *('JAX_PROCESS_ID=0', 'python', '-m', 'lh_jax.main', *TRAIN, '&'),
  ]
  assert second == first.replace('JAX_PROCESS_ID=0', 'JAX_PROCESS_ID=1') and last == 'wait'


def test_every_process_gets_its_own_gpus(capsys, monkeypatch):
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,5,6,7')
  shown = dry_run(capsys, '--processes=2', '--devices-per-process=2', '--platform=gpu')
  assert 'CUDA_VISIBLE_DEVICES=4,5 ' in shown and 'CUDA_VISIBLE_DEVICES=6,7 ' in shown
  assert shown.count('JAX_PLATFORMS=cuda,cpu') == 2 and 'gloo' not in shown
  assert launch.main(['local', '--processes=5', '--platform=gpu', '--', *TRAIN]) == 1
  assert 'processes x devices-per-process needs 5 GPUs; CUDA_VISIBLE_DEVICES=4,5,6,7 has' in capsys.readouterr().err
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
  assert 'CUDA_VISIBLE_DEVICES=1 ' in dry_run(capsys, '--processes=2', '--platform=gpu')


def test_what_env_sets_is_kept(capsys):
  gpus = ('--processes=2', '--platform=gpu', '--env=CUDA_VISIBLE_DEVICES=2,3', '--env=JAX_PLATFORMS=cuda')
  shown = dry_run(capsys, *gpus)
  assert 'CUDA_VISIBLE_DEVICES=2 ' in shown and 'CUDA_VISIBLE_DEVICES=3 ' in shown
  assert shown.count('JAX_PLATFORMS=cuda ') == 2
  assert launch.main(['local', '--processes=2', '--platform=cpu', '--env=JAX_PROCESS_ID=1', '--', *TRAIN]) == 1
  assert '--env cannot set JAX_PROCESS_ID, which differ' in capsys.readouterr().err


@pytest.mark.parametrize('processes', ['1', '2'])
def test_a_program_that_is_not_there(capsys, processes):
  options = ['--processes', processes, '--platform=cpu', '--python=/no/python']
  assert launch.main(['local', *options, '--', *TRAIN]) == 1
  assert 'lh_jax.launch: there is no program /no/python' in capsys.readouterr().err


def test_a_free_port_is_free():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', local.free_port()))


def test_one_process_takes_the_place_of_the_launcher(tmp_path):
  code, output = programs.run(tmp_path, 'local', *programs.CHILD, '--env=CODE=9', '--', 'show', '.', 'a  b')
  assert code == 9
  assert json.loads(output)['arguments'] == ['a  b']


def test_two_processes(tmp_path):
  arguments = ['it\'s "quoted" $HOME', 'a  b', '*']
  code, output = programs.run(tmp_path, *TWO, '--devices-per-process=4', '--', 'show', '.', *arguments)
  assert code == 0, output
  for index in (0, 1):
    (line,) = [line for line in output.splitlines() if line.startswith(f'[{index}] {{')]
    shown = json.loads(line.removeprefix(f'[{index}] '))
    assert shown['arguments'] == arguments
    variables = shown['variables']
    assert (variables['JAX_PROCESS_ID'], variables['JAX_NUM_PROCESSES']) == (str(index), '2')
    assert variables['JAX_PLATFORMS'] == 'cpu' and variables['XLA_FLAGS'].endswith('device_count=4')
    assert variables['JAX_COORDINATOR_ADDRESS'].startswith('127.0.0.1:')


def test_the_printed_commands_do_the_same(tmp_path):
  dry = [*TWO, '--dry-run', '--', 'show', '.', "it's"]
  _, shown = programs.run(tmp_path, *dry)
  output = subprocess.run(['bash', '-c', shown], cwd=ROOT, capture_output=True, text=True, check=True).stdout
  assert sorted(json.loads(line)['variables']['JAX_PROCESS_ID'] for line in output.splitlines()) == ['0', '1']


def test_one_that_fails_ends_the_others(tmp_path):
  code, output = programs.run(tmp_path, *TWO, '--', 'fail', tmp_path)
  assert code == 3, output
  assert '[0] ended with exit code 3' in output
  assert '[1] saved after SIGTERM' in output and '[1] ended with exit code 143' in output


def test_one_that_fails_kills_those_that_do_not_end(tmp_path):
  started = time.monotonic()
  code, output = programs.run(tmp_path, *TWO, '--grace-seconds=1', '--', 'fail-stubborn', tmp_path)
  assert code == 3 and '[1] ended with exit code 137' in output
  assert time.monotonic() - started < 30


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on_and_the_processes_waited_for(tmp_path, number):
  if signal.getsignal(number) is signal.SIG_IGN:
    pytest.skip('needs a terminal or a job in the foreground: here this signal is ignored from the start')
  launcher = programs.start(tmp_path, *TWO, '--', 'wait', tmp_path)
  deadline = time.monotonic() + 30
  while len(list(tmp_path.glob('ready*'))) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
  launcher.send_signal(number)
  output = launcher.communicate(timeout=60)[0]
  assert launcher.returncode == 143, output
  for index in (0, 1):
    assert f'[{index}] saved after {number.name}' in output
