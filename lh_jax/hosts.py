"""Several processes: starting jax.distributed where it is asked for or detected, and acting as one.

Contract: nothing is started on a single machine unless it is asked for, because a process that waits for others that
never come hangs without a word; whatever is waited for is named, with its time-out, before the wait. What processes
must agree on is compared by name, and what fails on one of them fails on all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import importlib.util
import json
import logging
import os
import pathlib
from typing import Any, TypeVar

import jax
from ml_collections import ConfigDict

import lh_jax
from lh_jax import parallel

log = logging.getLogger(__name__)

STARTS = ('auto', 'on', 'off')
# What jax.distributed.initialize itself does not read, unlike the coordinator's address.
_VARIABLES = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
_TPU_DEVICES = ('accel[0-9]*', 'vfio/[0-9]*')

Result = TypeVar('Result')


class HostsDisagreeError(ValueError):
  """Processes of one run were started with different settings, or see different files; the message names them."""


def detect(environment: Mapping[str, str], devices: pathlib.Path = pathlib.Path('/dev')) -> str | None:
  """Tells what this process is one of several of.

  Args:
    environment: os.environ.
    devices: where device files are.

  Returns:
    'environment' (the variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID), 'slurm' (a job step of
    several tasks), 'gke' (a TPU slice of several hosts, or several slices, under Kubernetes), 'tpu' (a Cloud TPU VM:
    JAX asks its metadata server how many hosts there are), or None.
  """
  if 'JAX_COORDINATOR_ADDRESS' in environment:
    return 'environment'
  # Of a shell inside an allocation there is no step: srun starts one.
  if 'SLURM_STEP_NODELIST' in environment and int(environment.get('SLURM_NTASKS', '1')) > 1:
    return 'slurm'
  several = ',' in environment.get('TPU_WORKER_HOSTNAMES', '') or 'MEGASCALE_COORDINATOR_ADDRESS' in environment
  if several and 'TPU_WORKER_ID' in environment:
    return 'gke'
  skips = 'TPU_SKIP_MDS_QUERY' in environment or environment.get('JAX_PLATFORMS', 'tpu').split(',')[0] != 'tpu'
  if not skips and importlib.util.find_spec('libtpu') and any(any(devices.glob(name)) for name in _TPU_DEVICES):
    return 'tpu'
  return None


def start(*, start: str, coordinator: str, count: int | None, index: int | None, timeout_seconds: int) -> None:
  """Starts jax.distributed, before anything else asks JAX for devices, and logs which process this is.

  Args:
    start: 'auto' where `detect` finds something, 'on', or 'off'.
    coordinator: address and port of process 0; empty takes what is detected.
    count: number of processes; None takes what is detected.
    index: this process; likewise.
    timeout_seconds: how long processes wait for each other at the start.

  Raises:
    ValueError: a setting is out of its range or missing.

  Where the others do not come in time, jax.distributed ends the process with messages of its own.
  """
  if start not in STARTS:
    raise ValueError(f'hosts.start must be one of {", ".join(STARTS)}, got {start!r}.')
  if timeout_seconds < 1:
    raise ValueError(f'hosts.timeout_seconds must be at least 1, got {timeout_seconds}.')
  found = detect(os.environ)
  asked = coordinator or count is not None or index is not None
  if start == 'off' or (start == 'auto' and found is None and not asked):
    return
  given = {'coordinator_address': coordinator or None, 'num_processes': count, 'process_id': index}
  if found == 'environment':
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
      raise ValueError(f'{_VARIABLES[0]} is set, and {", ".join(missing)} is not: set all of {", ".join(_VARIABLES)}.')
    address, *numbers = (os.environ[name] for name in _VARIABLES)
    if not all(number.isdecimal() for number in numbers):
      raise ValueError(f'{" and ".join(_VARIABLES[1:])} must be numbers, got {" and ".join(map(repr, numbers))}.')
    values = zip(given, (address, *map(int, numbers)))
    given = {name: value if given[name] is None else given[name] for name, value in values}
  elif found is None and None in given.values():
    raise ValueError(
      'No cluster was detected (TPU, GKE, SLURM, or the variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and '
      'JAX_PROCESS_ID): set hosts.coordinator=HOST:PORT, hosts.count and hosts.index, or hosts.start=off.'
    )
  log.info(
    'Starting jax.distributed (%s), coordinator %s; waiting for the other processes for up to %d s '
    '(hosts.timeout_seconds); where they do not come, the runtime ends this process.',
    found or 'hosts',
    given['coordinator_address'] or 'as detected',
    timeout_seconds,
  )
  # Another way to compute together is not there on the CPU.
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  complete = None not in given.values()
  jax.distributed.initialize(
    **given,
    initialization_timeout=timeout_seconds,
    cluster_detection_method='deactivate' if complete else None,
  )
  log.info('Process %d of %d.', jax.process_index(), jax.process_count())
  if jax.process_index():
    # Process 0 speaks for all; warnings and errors are everybody's.
    logging.getLogger('lh_jax').setLevel(logging.WARNING)


def together(fn: Callable[[], Result]) -> Result:
  """Runs `fn` on every process; where it fails on one, it fails on all, so that none waits for one that has left.

  Raises:
    ValueError: the mistakes of all processes.
    parallel.OtherProcessError: another process failed where `fn` exchanges something.
    Exception: what `fn` raised, where there is one process.
  """
  if jax.process_count() == 1:
    return fn()
  result, failure = None, None
  try:
    result = fn()
  except (ValueError, OSError) as error:
    failure = str(error)
  failures = parallel.gather_failures(failure)
  if any(failures):
    # What all processes meet, such as a missing file on shared storage, is told once.
    told = {text: [process for process, other in enumerate(failures) if other == text] for text in failures if text}
    everywhere = list(told.values()) == [list(range(len(failures)))]
    lines = [text if everywhere else f'process {", ".join(map(str, where))}: {text}' for text, where in told.items()]
    raise ValueError('; '.join(lines))
  return result


def agree_on_run(config: ConfigDict, workdir: str) -> None:
  """Checks that all processes were started with the same configuration, but for what tells them apart, and versions.

  Raises:
    HostsDisagreeError: they were not; on every process.
  """
  values = {'workdir': workdir, 'lh_jax': lh_jax.__version__, 'jax': jax.__version__}
  for name, value in json.loads(config.to_json_best_effort()).items():
    if name != 'hosts':
      values |= {f'{name}.{key}': inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
  agree('the configuration', values)


def agree(what: str, values: Mapping[str, Any]) -> None:
  """Checks that all processes have the same values.

  Args:
    what: in words, for the message.
    values: by name; anything that can be pickled and compared.

  Raises:
    HostsDisagreeError: they do not; on every process.
  """
  first, *others = parallel.gather(dict(values))
  different = {}
  for process, other in enumerate(others, 1):
    for name in sorted(first.keys() | other.keys()):
      if first.get(name) != other.get(name):
        different.setdefault(name, f'{name} is {first.get(name)!r} on process 0 and {other.get(name)!r} on {process}')
  if different:
    raise HostsDisagreeError(f'The processes disagree on {what}: {"; ".join(different.values())}.')
