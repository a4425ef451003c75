"""GKE: a JobSet with one pod per host of a TPU slice. GKE tells every pod its index and the names of the others."""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex

from lh_jax.launch import plans

# Label of the node pool; dimensions of a topology; XPK's name of a slice of so many chips.
TPUS = {
  'v4': ('tpu-v4-podslice', 3, lambda chips: f'v4-{2 * chips}'),
  'v5e': ('tpu-v5-lite-podslice', 2, lambda chips: f'v5litepod-{chips}'),
  'v5p': ('tpu-v5p-slice', 3, lambda chips: f'v5p-{2 * chips}'),
  'v6e': ('tpu-v6e-slice', 2, lambda chips: f'v6e-{chips}'),
}


def add_options(parser: argparse.ArgumentParser) -> None:
  """Adds the options of this target."""
  parser.add_argument('--tpu', required=True, choices=TPUS, help='generation of the TPU')
  parser.add_argument('--topology', required=True, help='of the slice, such as 4x4 (v5e, v6e) or 2x2x4 (v4, v5p)')
  parser.add_argument('--chips-per-host', type=plans.check_positive, default=4, help='default %(default)s')
  parser.add_argument('--image', required=True, type=plans.check_line, help='container image with lh_jax[train,tpu]')
  parser.add_argument('--namespace', default='default', type=plans.check_name, help='default %(default)s')
  parser.add_argument(
    '--service-account', type=plans.check_name, help='of Kubernetes, one that may write to the workdir'
  )
  parser.add_argument(
    '--max-restarts', type=plans.check_positive, default=10, help='after crashes; default %(default)s'
  )
  parser.add_argument(
    '--grace-seconds', type=plans.check_positive, default=300, help='to save a checkpoint in; default %(default)s'
  )


def hosts(tpu: str, topology: str, chips_per_host: int) -> tuple[int, int]:
  """Returns the chips and the hosts of a slice.

  Raises:
    ValueError: there is no such slice.
  """
  dimensions = TPUS[tpu][1]
  if not re.fullmatch('x'.join([r'[1-9]\d*'] * dimensions), topology):
    raise ValueError(f'the topology of a {tpu} slice has {dimensions} numbers joined by x; got {topology!r}')
  chips = math.prod(map(int, topology.split('x')))
  if chips % chips_per_host:
    raise ValueError(f'{topology} has {chips} chips, not a multiple of chips-per-host {chips_per_host}')
  return chips, chips // chips_per_host


def plan(options: argparse.Namespace, command: list[str], origin: str) -> plans.Plan:
  """Plans the launch.

  Args:
    options: parsed options.
    command: what every pod runs.
    origin: the command line of the launcher.

  Raises:
    ValueError: there is no such slice, or the results would be lost with the pods.
  """
  chips, count = hosts(options.tpu, options.topology, options.chips_per_host)
  label, _, xpk_type = TPUS[options.tpu]
  workdir = plans.workdir(command)
  if workdir and '://' not in workdir:
    raise ValueError(f'the pods keep no files, so workdir must be on gs://; got {workdir!r}')
  text = plans.render(
    'gke.yaml',
    origin=origin,
    name=options.name,
    namespace=options.namespace,
    max_restarts=options.max_restarts,
    hosts=count,
    grace_seconds=options.grace_seconds,
    service_account=f'serviceAccountName: {options.service_account}' if options.service_account else '',
    accelerator=label,
    topology=options.topology,
    image=_yaml(options.image),
    command=_yaml([_literal(word) for word in command]),
    env=_yaml([{'name': name, 'value': _literal(value)} for name, value in options.env]),
    chips_per_host=options.chips_per_host,
  )
  variables = ['env', *(f'{name}={value}' for name, value in options.env)] if options.env else []
  xpk = ['xpk', 'workload', 'create', '--cluster=CLUSTER', f'--workload={options.name}', '--num-slices=1']
  xpk += [f'--tpu-type={xpk_type(chips)}', f'--docker-image={options.image}', f'--max-restarts={options.max_restarts}']
  xpk += [f'--termination-grace-period-seconds={options.grace_seconds}', f'--command={shlex.join(variables + command)}']
  scope = f'-n {options.namespace}'
  notes = [
    f'Logs of host 0: kubectl logs {scope} -f -l jobset.sigs.k8s.io/jobset-name={options.name},'
    'batch.kubernetes.io/job-completion-index=0',
    f'Stop it, and before the same command can start it again: kubectl delete jobset {scope} {options.name}',
    f'The same with XPK: {shlex.join(xpk)}',
  ]
  return plans.Plan(argv=['kubectl', 'apply', '-f', '-'], text=text, notes=notes)


def _yaml(value: object) -> str:
  """Returns a value in one line; JSON is YAML too."""
  return json.dumps(value, ensure_ascii=False)


def _literal(text: str) -> str:
  """Keeps Kubernetes from putting variables into $(NAME)."""
  return text.replace('$(', '$$(')
