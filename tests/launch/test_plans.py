import shlex
import subprocess
import sys

import pytest

from lh_jax.launch import __main__ as launch
from lh_jax.launch import plans
from tests.conftest import ROOT
from tests.launch import programs

TRAIN = ['--config=configs/uhd6.py', '--workdir=gs://bucket/run']
TPU_VM = ['tpu_vm', '--tpu=pod', '--zone=z']


def test_what_is_printed_does_the_same_in_a_shell(tmp_path):
  text = 'a "quoted" $HOME `x` \'line\'\nanother\n'
  plan = plans.Plan(argv=['cat', '-', str(tmp_path / 'it\'s "a" file')], text=text, notes=['It is $(only) a note.'])
  (tmp_path / 'it\'s "a" file').write_text('file\n')
  shown = subprocess.run(['bash', '-c', plan.shell()], capture_output=True, text=True, check=True).stdout
  assert shown == text + 'file\n'
  assert plan.start() == 0
  assert plans.Plan(argv=['sh', '-c', 'exit 5']).start() == 5


def test_templates_say_what_is_missing():
  with pytest.raises(ValueError, match=r'slurm.sh has other placeholders than values: .*nodes'):
    plans.render('slurm.sh', name='x')


@pytest.mark.parametrize('template', ['slurm.sh', 'tpu_vm.sh'])
def test_templates_to_fill_in_by_hand_are_shell_already(template):
  programs.check_shell((ROOT / 'lh_jax' / 'launch' / 'templates' / template).read_text())


def test_a_missing_program_is_named(monkeypatch, capsys, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path))
  assert launch.main(['slurm', '--', *TRAIN]) == 1
  assert 'sbatch is not installed on this machine; --dry-run prints' in capsys.readouterr().err


@pytest.mark.parametrize(
  'argv, message',
  [
    ([], 'TARGET'),
    (['pod'], 'tpu_vm'),
    ([*TPU_VM], 'are given after --'),
    ([*TPU_VM, *TRAIN], 'unrecognized arguments'),
    ([*TPU_VM, '--', '--config=configs/uhd6.py'], '--workdir among them, are given after --'),
    ([*TPU_VM, '--', *TRAIN, 'two\nlines'], 'cannot hold line breaks within an argument'),
    ([*TPU_VM, '--dry', '--', *TRAIN], 'unrecognized arguments'),
    ([*TPU_VM, '--setup=a\nb', '--', *TRAIN], 'cannot hold line breaks'),
    ([*TPU_VM, '--name=My run', '--', *TRAIN], 'a name has up to 40 lower-case letters'),
    ([*TPU_VM, '--name', 'a' * 41, '--', *TRAIN], 'a name has up to 40 lower-case letters'),
    ([*TPU_VM, '--env=FIVE', '--', *TRAIN], 'environment variables are given as NAME=VALUE'),
    ([*TPU_VM, '--env=5=FIVE', '--', *TRAIN], 'environment variables are given as NAME=VALUE'),
    ([*TPU_VM, '--module=a b', '--', *TRAIN], 'modules are named as in lh_jax.main'),
    (['tpu_vm', '--tpu=pod', '--', *TRAIN], '--zone'),
    (['slurm', '--nodes=0', '--', *TRAIN], 'a number from 1 on is wanted here'),
    (['local', '--processes=two', '--', *TRAIN], 'a number from 1 on is wanted here'),
  ],
)
def test_usage_errors(argv, message, capsys):
  with pytest.raises(SystemExit) as error:
    launch.main(argv)
  assert error.value.code == 2
  assert message in capsys.readouterr().err


def test_the_workdir_is_found_however_it_is_written():
  assert plans.workdir(['--config=c', '--workdir', 'a', '--workdir=b']) == 'b'
  assert plans.workdir(['-workdir', 'a']) == 'a'
  assert plans.workdir(['--workdirs=a', '--workdir']) == ''


def readme_commands():
  text = (ROOT / 'lh_jax' / 'launch' / 'README.md').read_text().replace('\\\n', ' ')
  return [line for line in text.splitlines() if line.startswith('python -m lh_jax.launch ') and 'TARGET' not in line]


@pytest.mark.parametrize('command', readme_commands())
def test_commands_of_the_readme(command, capsys):
  words = shlex.split(command)[3:]
  assert launch.main([words[0], '--dry-run', *words[1:]]) == 0
  programs.check_shell(capsys.readouterr().out)


def test_the_readme_has_an_example_of_every_target():
  assert {command.split()[3] for command in readme_commands()} == set(launch.TARGETS)


def test_help_names_all_targets(capsys):
  with pytest.raises(SystemExit):
    launch.main(['--help'])
  shown = capsys.readouterr().out
  assert all(target in shown for target in launch.TARGETS)
  for target in launch.TARGETS:
    with pytest.raises(SystemExit) as error:
      launch.main([target, '--help'])
    assert error.value.code == 0
  assert sys.executable in capsys.readouterr().out  # Of local; elsewhere it is python3.
