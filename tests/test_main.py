"""The entry points as a user starts them, in processes of their own."""

import os
import subprocess
import sys

from tests.conftest import ROOT

import pytest


def start(*arguments, cwd=ROOT, timeout=300):
  environment = os.environ | {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': '', 'JAX_PLATFORMS': 'cpu'}
  return subprocess.run(
    [sys.executable, '-m', *arguments],
    capture_output=True,
    text=True,
    cwd=cwd,
    env=environment,
    timeout=timeout,
    check=False,
  )


def test_help():
  result = start('lh_jax.main', '--help')
  assert '--workdir' in result.stdout and '--config' in result.stdout and '--mode' in result.stdout
  result = start('lh_jax.restore', '--help')
  assert result.returncode == 0
  for option in ('--checkpoint', '--alpha', '--tile', '--dtype', '--recursive', '--overwrite'):
    assert option in result.stdout
  assert start('lh_jax.convert', '--help').returncode == 0


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--config=configs/quickstart.py', '--workdir=W', '--config.stage1.stepz=3'], 'Did you mean'),
    (['--config=configs/nowhere.py', '--workdir=W'], 'nowhere.py'),
    (['--config=configs/quickstart.py'], 'workdir'),
    (['--config=configs/quickstart.py', '--workdir=W', '--mode=dance'], 'dance'),
    (['--config=configs/quickstart.py', '--workdir=W', 'stray'], 'Unexpected arguments'),
    (['--config=configs/quickstart.py', '--workdir=W', "--config.evaluate.tasks=('fog',)"], 'evaluate.tasks must name'),
    (['--config=configs/quickstart.py', '--workdir=W', '--mode=evaluate'], 'W holds no export'),
    (
      ['--config=configs/quickstart.py', '--workdir=W', '--config.data.source=folder', '--config.data.path=/nowhere'],
      '/nowhere',
    ),
  ],
)
def test_mistakes_end_with_one_clear_line(tmp_path, arguments, message):
  arguments = [argument.replace('=configs/', f'={ROOT}/configs/') for argument in arguments]
  result = start('lh_jax.main', *arguments, cwd=tmp_path)
  assert result.returncode != 0
  assert message in result.stderr + result.stdout
  assert not (tmp_path / 'W' / 'metrics.jsonl').exists()


def test_importing_main_is_harmless():
  """Flags are defined on import, nothing else happens."""
  code = 'import lh_jax.main'
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False).returncode == 0
