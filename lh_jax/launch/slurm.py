"""SLURM: an sbatch script whose one step starts a process per node or per GPU. JAX reads the step's variables."""

from __future__ import annotations

import argparse
import re
import shlex

from lh_jax.launch import plans


def add_options(parser: argparse.ArgumentParser) -> None:
  """Adds the options of this target."""
  count = plans.check_positive
  parser.add_argument('--nodes', type=count, default=1, help='default %(default)s')
  parser.add_argument('--gpus-per-node', type=int, default=8, help='0 for nodes without; default %(default)s')
  parser.add_argument(
    '--process-per', choices=('node', 'gpu'), default='node', help='one process drives a node or one GPU; default node'
  )
  parser.add_argument('--cpus-per-process', type=count, default=16, help='default %(default)s')
  parser.add_argument('--time', default='24:00:00', type=plans.check_line, help='limit of a job; default %(default)s')
  parser.add_argument('--log', default='%x-%j.log', type=plans.check_line, help='log file; default %(default)r')
  parser.add_argument(
    '--grace-seconds',
    type=count,
    default=300,
    help='so long before the limit a checkpoint is saved and the job queued again; default %(default)s',
  )
  parser.add_argument(
    '--setup', default='', metavar='COMMAND', type=plans.check_line, help='shell command to run first, such as a module'
  )
  parser.add_argument(
    '--sbatch',
    action='append',
    default=[],
    metavar='OPTION',
    type=plans.check_line,
    help='further option of sbatch, such as --sbatch=--partition=a100; may be repeated',
  )


def seconds(limit: str) -> int | None:
  """Returns the seconds of a time limit as sbatch reads it, or None where it is none that ends.

  Args:
    limit: MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, or DAYS-HOURS[:MINUTES[:SECONDS]].
  """
  match = re.fullmatch(r'(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?', limit)
  if not match:
    return None
  days, *found = match.groups()
  parts = [int(part) for part in found if part is not None]
  if days is not None:  # from the hours on
    units = (3600, 60, 1)
  else:
    units = {1: (60,), 2: (60, 1), 3: (3600, 60, 1)}[len(parts)]
  total = 86400 * int(days or 0) + sum(unit * part for unit, part in zip(units, parts))
  return total or None  # 0 is no limit


def plan(options: argparse.Namespace, command: list[str], origin: str) -> plans.Plan:
  """Plans the launch.

  Args:
    options: parsed options.
    command: what every process runs.
    origin: the command line of the launcher.

  Raises:
    ValueError: the options contradict each other.
  """
  gpus = options.gpus_per_node
  if gpus < 0 or (gpus == 0 and options.process_per == 'gpu'):
    raise ValueError(f'gpus-per-node must be at least 0, and 1 for --process-per=gpu; got {gpus}')
  limit = seconds(options.time)
  if limit is not None and limit <= 2 * options.grace_seconds:
    raise ValueError(
      f'--time={options.time} leaves no time to train before --grace-seconds={options.grace_seconds}: a job needs more '
      'than twice that'
    )
  variables = []
  if gpus and options.process_per == 'node':
    # In SLURM steps, JAX gives a process only the GPU of its local index unless it is told otherwise.
    variables.append(('JAX_LOCAL_DEVICE_IDS', ','.join(map(str, range(gpus)))))
  text = plans.render(
    'slurm.sh',
    origin=origin,
    name=options.name,
    nodes=options.nodes,
    processes_per_node=gpus if options.process_per == 'gpu' else 1,
    gpus=f'#SBATCH --gres=gpu:{gpus}' if gpus else '',
    cpus=options.cpus_per_process,
    time=options.time,
    log=shlex.quote(options.log),
    grace_seconds=options.grace_seconds,
    further='\n'.join(f'#SBATCH {option}' for option in options.sbatch),
    setup=plans.or_exit(options.setup),
    exports=plans.exports([*variables, *options.env]),
    gpu_bind=' --gpu-bind=none' if gpus else '',
    command=shlex.join(command),
  )
  notes = [f'Logs: {options.log} in the folder of submission. Stop it for good: scancel JOBID']
  return plans.Plan(argv=['sbatch'], text=text, notes=notes)
