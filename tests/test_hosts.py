"""lh_jax.hosts: what is detected, what is refused, and that processes act as one."""

import logging
import subprocess
import sys

import jax
import pytest

from lh_jax import hosts
from lh_jax import parallel

from tests import processes

SLURM = {'SLURM_JOB_ID': '7', 'SLURM_STEP_NODELIST': 'n[1-2]', 'SLURM_NTASKS': '2', 'SLURM_PROCID': '0'}
GKE = {'TPU_WORKER_ID': '0', 'TPU_WORKER_HOSTNAMES': 'a,b'}
SETTINGS = {'start': 'auto', 'coordinator': '', 'count': None, 'index': None, 'timeout_seconds': 5}


@pytest.mark.parametrize(
  'environment, expected',
  [
    ({}, None),
    ({'JAX_COORDINATOR_ADDRESS': 'a:1', **SLURM}, 'environment'),
    (SLURM, 'slurm'),
    (SLURM | {'SLURM_NTASKS': '1'}, None),
    ({'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '2'}, None),  # a shell inside an allocation
    (GKE, 'gke'),
    (GKE | {'TPU_WORKER_HOSTNAMES': 'localhost'}, None),
    ({'TPU_WORKER_ID': '0', 'MEGASCALE_COORDINATOR_ADDRESS': 'a'}, 'gke'),
  ],
)
def test_detect(environment, expected, tmp_path):
  assert hosts.detect(environment, tmp_path) == expected


def test_detect_a_tpu_machine(tmp_path, monkeypatch):
  monkeypatch.setattr(hosts.importlib.util, 'find_spec', lambda name: name == 'libtpu')
  assert hosts.detect({}, tmp_path) is None
  (tmp_path / 'accel0').touch()
  assert hosts.detect({}, tmp_path) == 'tpu'
  assert hosts.detect({'JAX_PLATFORMS': 'cpu'}, tmp_path) is None
  assert hosts.detect({'TPU_SKIP_MDS_QUERY': '1'}, tmp_path) is None


def test_nothing_is_started_unasked(monkeypatch):
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **options: pytest.fail('started'))
  for name in ('JAX_COORDINATOR_ADDRESS', 'SLURM_STEP_NODELIST', 'TPU_WORKER_HOSTNAMES'):
    monkeypatch.delenv(name, raising=False)
  hosts.start(**SETTINGS)
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'a:1')
  hosts.start(**SETTINGS | {'start': 'off'})


def test_what_is_given_goes_before_what_is_detected(monkeypatch, caplog):
  started = {}
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **options: started.update(options))
  monkeypatch.setattr(jax.config, 'update', lambda *_: None)
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'a:1')
  monkeypatch.setenv('JAX_NUM_PROCESSES', '3')
  monkeypatch.setenv('JAX_PROCESS_ID', '2')
  with caplog.at_level(logging.INFO, 'lh_jax'):
    hosts.start(**SETTINGS | {'index': 1})
  assert started == {
    'coordinator_address': 'a:1',
    'num_processes': 3,
    'process_id': 1,
    'initialization_timeout': 5,
    'cluster_detection_method': 'deactivate',
  }
  assert 'coordinator a:1; waiting for the other processes for up to 5 s' in caplog.text
  for name in ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'):
    monkeypatch.delenv(name)
  for name, value in SLURM.items():
    monkeypatch.setenv(name, value)
  hosts.start(**SETTINGS)
  assert started['coordinator_address'] is None and started['cluster_detection_method'] is None


@pytest.mark.parametrize(
  'changes, environment, message',
  [
    ({'start': 'yes'}, {}, "hosts.start must be one of auto, on, off, got 'yes'"),
    ({'timeout_seconds': 0}, {}, 'hosts.timeout_seconds must be at least 1, got 0'),
    ({'start': 'on'}, {}, 'No cluster was detected .* set hosts.coordinator=HOST:PORT, hosts.count and hosts.index'),
    ({'coordinator': 'a:1'}, {}, 'No cluster was detected'),
    ({'count': 2, 'index': 1}, {}, 'No cluster was detected'),
    (
      {},
      {'JAX_COORDINATOR_ADDRESS': 'a:1', 'JAX_NUM_PROCESSES': 'two', 'JAX_PROCESS_ID': '0'},
      "JAX_NUM_PROCESSES and JAX_PROCESS_ID must be numbers, got 'two' and '0'",
    ),
    ({}, {'JAX_COORDINATOR_ADDRESS': 'a:1'}, 'JAX_NUM_PROCESSES, JAX_PROCESS_ID is not: set all of'),
  ],
)
def test_start_errors(changes, environment, message, monkeypatch):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(ValueError, match=message):
    hosts.start(**SETTINGS | changes)


def test_one_process_is_left_alone():
  def fails():
    raise KeyError('as it is')

  assert hosts.together(lambda: 3) == 3
  with pytest.raises(KeyError, match='as it is'):
    hosts.together(fails)
  hosts.agree('anything', {'a': 1})


def test_configurations_are_compared_but_for_what_tells_processes_apart(monkeypatch, tiny_config):
  other = tiny_config.copy_and_resolve_references()
  with other.unlocked():
    other.hosts.index, other.evaluate.alpha = 3, 0.25
  compared = []
  monkeypatch.setattr(parallel, 'gather', lambda value: compared.append(value) or [compared[0], value])
  hosts.agree_on_run(tiny_config, 'runs/a')
  with pytest.raises(
    hosts.HostsDisagreeError, match='on the configuration: evaluate.alpha is 0.5 on process 0 and 0.25 on 1.$'
  ):
    hosts.agree_on_run(other, 'runs/a')


def test_what_all_meet_is_told_once(monkeypatch):
  def fails():
    raise OSError('no disk')

  monkeypatch.setattr(jax, 'process_count', lambda: 3)
  for failures, message in (
    (['no disk'] * 3, '^no disk$'),
    (['no disk', None, 'no disk'], '^process 0, 2: no disk$'),
    (['no disk', 'other', 'no disk'], '^process 0, 2: no disk; process 1: other$'),
  ):
    monkeypatch.setattr(parallel, 'gather_failures', lambda value, failures=failures: failures)
    with pytest.raises(ValueError, match=message):
      hosts.together(fails)


def test_disagreement_is_named(monkeypatch):
  monkeypatch.setattr(parallel, 'gather', lambda value: [value, value | {'b': 3}, value | {'b': 4, 'c': 5}])
  with pytest.raises(
    hosts.HostsDisagreeError,
    match='The processes disagree on the weather: b is 2 on process 0 and 3 on 1; c is None on process 0 and 5 on 2',
  ):
    hosts.agree('the weather', {'a': 1, 'b': 2})


PROCESS = """
import jax
def fails():
  if jax.process_index() == 1:
    raise OSError('no disk here')
  return 'fine'
assert jax.process_count() == 2 and jax.local_device_count() == 4
try:
  say(hosts.together(fails))
except ValueError as error:
  say(error)
from lh_jax import parallel
def fails_in_the_middle():
  if jax.process_index() == 1:
    raise OSError('disk full')
  return parallel.gather('what process 1 never asks for')
try:
  hosts.together(fails_in_the_middle)
except (ValueError, parallel.OtherProcessError) as error:
  say(error)
try:
  hosts.agree('the seed', {'seed': jax.process_index()})
except hosts.HostsDisagreeError as error:
  say(error)
"""


def test_two_processes():
  """Both end alike, and say who they are."""
  (first, told), (second, _) = processes.run(PROCESS)
  assert first == [
    'process 1: no disk here',
    'process 1: disk full',
    'The processes disagree on the seed: seed is 0 on process 0 and 1 on 1.',
  ]
  assert second == first
  assert 'Starting jax.distributed (environment)' in told and 'Process 0 of 2.' in told


def test_a_process_that_waits_alone_gives_up():
  code = "hosts.start(start='on', coordinator='127.0.0.1:{}', count=2, index=1, timeout_seconds=3)"
  waiting = subprocess.run(
    [sys.executable, '-c', 'from lh_jax import hosts\n' + code.format(processes.free_port())],
    capture_output=True,
    text=True,
    check=False,
    timeout=processes.TIMEOUT,
  )
  assert waiting.returncode != 0 and 'DEADLINE_EXCEEDED' in waiting.stderr
