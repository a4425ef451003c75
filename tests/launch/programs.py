"""Stand-ins for gcloud, kubectl and SLURM that do on this machine what the real ones would do elsewhere."""

import os
import pathlib
import subprocess
import sys

from tests.conftest import ROOT

# On every worker, gcloud hands --command to the login shell.
GCLOUD = """
echo "$@" >"$HOME/gcloud"
for argument; do case "$argument" in --command=*) exec bash -c "${argument#--command=}" ;; esac; done
"""
KUBECTL = 'echo "$@" >"$HOME/kubectl"; cat >"$HOME/manifest.yaml"'
SBATCH = 'cat >"$HOME/job.sh"; cd "$HOME"; SLURM_JOB_ID=5 exec bash job.sh'
SRUN = f"""
echo "$@" >"$HOME/srun"
while [[ "$1" == -* ]]; do shift; done
cd {ROOT} && exec "$@"
"""
SCONTROL = 'echo "$@" >"$HOME/scontrol"'
PROGRAMS = {'gcloud': GCLOUD, 'kubectl': KUBECTL, 'sbatch': SBATCH, 'srun': SRUN, 'scontrol': SCONTROL}
CHILD = ['--python', sys.executable, '--module', 'tests.launch.child']


def start(home: pathlib.Path, *arguments: object, **variables: str) -> subprocess.Popen:
  """Starts the launcher with these programs on its PATH.

  Args:
    home: its home folder.
    *arguments: of the launcher.
    **variables: more environment variables.
  """
  folder = home / 'bin'
  folder.mkdir(exist_ok=True)
  for name, body in PROGRAMS.items():
    (folder / name).write_text(f'#!/bin/bash\n{body}\n')
    (folder / name).chmod(0o755)
  environment = os.environ | {'PATH': f'{folder}:/usr/bin:/bin', 'HOME': str(home), 'PYTHONPATH': str(ROOT)} | variables
  return subprocess.Popen(
    [sys.executable, '-m', 'lh_jax.launch', *map(str, arguments)],
    cwd=ROOT,
    env=environment,
    text=True,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )


def run(home: pathlib.Path, *arguments: object, **variables: str) -> tuple[int, str]:
  """Runs the launcher to its end; returns its exit code and its output."""
  process = start(home, *arguments, **variables)
  output = process.communicate(timeout=60)[0]
  return process.returncode, output


def check_shell(script: str) -> None:
  """Asserts that bash can parse a script."""
  result = subprocess.run(['bash', '-n'], input=script, text=True, capture_output=True, check=False)
  assert result.returncode == 0 and not result.stderr, result.stderr
