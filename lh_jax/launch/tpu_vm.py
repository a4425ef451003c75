"""A Cloud TPU VM or pod: the same script on every worker, over ssh. JAX finds the hosts through the metadata server."""

from __future__ import annotations

import argparse
import shlex

from lh_jax.launch import plans


def add_options(parser: argparse.ArgumentParser) -> None:
  """Adds the options of this target."""
  parser.add_argument('--tpu', required=True, metavar='NAME', type=plans.check_line, help='name of the TPU VM')
  parser.add_argument('--zone', required=True, type=plans.check_line, help='its zone')
  parser.add_argument('--project', type=plans.check_line, help='its project; default that of gcloud')
  parser.add_argument(
    '--directory',
    default='lh_jax',
    type=plans.check_line,
    help='where the repository lies on every worker, from the home folder; default %(default)s',
  )
  parser.add_argument(
    '--setup', default='', metavar='COMMAND', type=plans.check_line, help='shell command to run there first'
  )
  parser.add_argument(
    '--gcloud',
    action='append',
    default=[],
    metavar='FLAG',
    type=plans.check_line,
    help='further flag of gcloud, such as --gcloud=--tunnel-through-iap; may be repeated',
  )


def plan(options: argparse.Namespace, command: list[str], origin: str) -> plans.Plan:
  """Plans the launch.

  Args:
    options: parsed options.
    command: what every worker runs.
    origin: the command line of the launcher.
  """
  script = plans.render(
    'tpu_vm.sh',
    origin=origin,
    name=options.name,
    module=options.module,
    directory=shlex.quote(options.directory),
    setup=plans.or_exit(options.setup),
    exports=plans.exports(options.env),
    command=shlex.join(command),
  )
  ssh = ['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', options.tpu, f'--zone={options.zone}']
  ssh += [f'--project={options.project}'] if options.project else []
  ssh += [*options.gcloud, '--worker=all']
  log = f'lh_jax_launch/{options.name}'
  stop = shlex.join([*ssh, f'--command=kill -TERM $(cat {log}.pid)'])
  notes = [
    f'Logs: ~/{log}.log on every worker. The run goes on when this terminal is closed; the same command follows it.',
    f'Stop it, saving a checkpoint: {stop}',
  ]
  if '://' not in plans.workdir(command):
    notes.append('The workdir is not on gs://: every worker must see the same folder there (NFS or the like).')
  return plans.Plan(argv=[*ssh, f'--command={script}'], notes=notes)
