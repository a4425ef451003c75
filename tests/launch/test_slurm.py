import json

import pytest

from lh_jax.launch import __main__ as launch
from lh_jax.launch import slurm
from tests.launch import programs

TRAIN = ['--config=configs/uhd6.py', '--workdir=/shared/run', '--config.data.path=/my "data"/it\'s']

GOLDEN = """\
#SBATCH --job-name=run
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=16
#SBATCH --time=1:00:00
#SBATCH --output='my logs/%j.log'
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@300
#SBATCH --partition=a100
#SBATCH --mem=0

{ . .venv/bin/activate; } || exit
export JAX_LOCAL_DEVICE_IDS=0,1,2,3
export A='b c'
"""


def dry_run(capsys, *options):
  assert launch.main(['slurm', *options, '--dry-run', '--', *TRAIN]) == 0
  shown = capsys.readouterr().out
  programs.check_shell(shown)
  assert "\nsbatch <<'LH_JAX_END'\n#!/bin/bash\n" in shown and '{{' not in shown
  script = shown.partition("<<'LH_JAX_END'\n")[2].removesuffix('LH_JAX_END\n')
  programs.check_shell(script)
  return script


def test_one_process_per_node(capsys):
  script = dry_run(
    capsys,
    *('--name=run', '--nodes=2', '--gpus-per-node=4', '--time=1:00:00', '--log=my logs/%j.log', '--env=A=b c'),
    *('--sbatch=--partition=a100', '--sbatch=--mem=0', '--setup=. .venv/bin/activate'),
  )
  assert GOLDEN in script
  assert 'srun --kill-on-bad-exit=0 --wait=300 --cpus-per-task=16 --gpu-bind=none \\\n' in script


def test_one_process_per_gpu(capsys):
  script = dry_run(capsys, '--process-per=gpu', '--gpus-per-node=4')
  assert '#SBATCH --ntasks-per-node=4\n#SBATCH --gres=gpu:4\n' in script
  assert 'JAX_LOCAL_DEVICE_IDS' not in script  # JAX takes the one of the local index.


def test_nodes_without_gpus(capsys):
  script = dry_run(capsys, '--gpus-per-node=0')
  assert not any(word in script for word in ('--gres', '--gpu-bind', 'JAX_LOCAL_DEVICE_IDS'))


@pytest.mark.parametrize('options', [['--gpus-per-node=-1'], ['--gpus-per-node=0', '--process-per=gpu']])
def test_contradictions(options, capsys):
  assert launch.main(['slurm', *options, '--', *TRAIN]) == 1
  assert 'gpus-per-node must be at least 0' in capsys.readouterr().err


@pytest.mark.parametrize(
  'limit, seconds',
  [('30', 1800), ('2:30', 150), ('1:00:00', 3600), ('1-2', 93600), ('1-2:30', 95400), ('1-0:0:5', 86405), ('0', None)]
  + [('UNLIMITED', None)],
)
def test_time_limits(limit, seconds):
  assert slurm.seconds(limit) == seconds


def test_a_job_that_would_have_no_time_to_train(capsys):
  assert launch.main(['slurm', '--time=00:05:00', '--', *TRAIN]) == 1
  assert '--time=00:05:00 leaves no time to train before --grace-seconds=300' in capsys.readouterr().err


@pytest.mark.parametrize('code, queued', [(0, False), (1, False), (143, True)])
def test_a_job_is_queued_again_after_sigterm_only(tmp_path, code, queued):
  arguments = ['it\'s "quoted" $HOME', 'a  b', '*']
  result, output = programs.run(
    tmp_path, 'slurm', *programs.CHILD, f'--env=CODE={code}', '--env=ADDED=x  "y"', '--', 'show', '.', *arguments
  )
  assert result == code, output
  shown = json.loads(next(line for line in output.splitlines() if line.startswith('{')))
  assert shown['arguments'] == arguments and shown['variables']['ADDED'] == 'x  "y"'
  assert (tmp_path / 'scontrol').exists() == queued
  if queued:
    assert (tmp_path / 'scontrol').read_text() == 'requeue 5\n'
