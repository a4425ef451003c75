"""Command line of the launcher: `python -m lh_jax.launch TARGET [options] -- [arguments of lh_jax.main]`.

Exit status: that of what was launched; 1 it could not be launched; 2 a usage error.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from types import ModuleType

from lh_jax.launch import gke
from lh_jax.launch import local
from lh_jax.launch import plans
from lh_jax.launch import slurm
from lh_jax.launch import tpu_vm

TARGETS: dict[str, ModuleType] = {'tpu_vm': tpu_vm, 'gke': gke, 'slurm': slurm, 'local': local}
ABOUT = {
  'tpu_vm': 'every worker of a Cloud TPU VM or pod, by gcloud',
  'gke': 'a TPU slice of a GKE cluster, as a JobSet',
  'slurm': 'the nodes of a SLURM cluster, by sbatch',
  'local': 'this machine: one process for all devices, or several',
}


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m lh_jax.launch',
    usage='%(prog)s TARGET [options] -- [arguments of lh_jax.main]',
    description='Start lh_jax.main on every host. The same command again resumes the run. See lh_jax/launch/README.md.',
    allow_abbrev=False,
  )
  targets = parser.add_subparsers(dest='target', required=True, metavar='TARGET')
  for name, module in TARGETS.items():
    target = targets.add_parser(
      name,
      help=ABOUT[name],
      usage=f'python -m lh_jax.launch {name} [options] -- [arguments of lh_jax.main]',
      description=f'Start lh_jax.main on {ABOUT[name]}.',
      allow_abbrev=False,
    )
    module.add_options(target)
    target.add_argument(
      '--dry-run', action='store_true', help='print what would be launched, for a shell; launch nothing'
    )
    target.add_argument(
      '--env',
      action='append',
      default=[],
      metavar='NAME=VALUE',
      type=plans.check_variable,
      help='environment variable for every process; may be repeated',
    )
    target.add_argument(
      '--python',
      default=sys.executable if name == 'local' else 'python3',
      type=plans.check_line,
      help='interpreter there; default %(default)s',
    )
    target.add_argument(
      '--module', default='lh_jax.main', type=plans.check_module, help='what it runs; default %(default)s'
    )
    if name != 'local':
      target.add_argument('--name', default='lh-jax', type=plans.check_name, help='of the run; default %(default)s')
  return parser


def main(argv: list[str] | None = None) -> int:
  """Launches, or prints what would be launched.

  Args:
    argv: command-line arguments without the program's name; None takes those of the process.

  Returns:
    Exit status.
  """
  argv = sys.argv[1:] if argv is None else argv
  split = argv.index('--') if '--' in argv else len(argv)
  parser = _parser()
  options, arguments = parser.parse_args(argv[:split]), argv[split + 1 :]
  try:
    for argument in arguments:
      plans.check_line(argument)
  except argparse.ArgumentTypeError as error:
    parser.error(str(error))
  if options.module == 'lh_jax.main' and not plans.workdir(arguments):
    parser.error('the arguments of lh_jax.main, --config and --workdir among them, are given after --')
  command = [options.python, '-m', options.module, *arguments]
  try:
    if options.target == 'local':
      several = local.processes(options, command)
      if options.dry_run:
        print(local.shell(several))
        return 0
      return local.start(several, grace_seconds=options.grace_seconds)
    plan = TARGETS[options.target].plan(options, command, 'python -m lh_jax.launch ' + shlex.join(argv))
    if options.dry_run:
      print(plan.shell())
      return 0
    return plan.start()
  except ValueError as error:
    print(f'lh_jax.launch: {error}', file=sys.stderr)
    return 1


if __name__ == '__main__':
  sys.exit(main())
