import shlex

import pytest

from lh_jax.launch import __main__ as launch
from lh_jax.launch import gke
from tests.launch import programs

TARGET = ['gke', '--tpu=v5e', '--topology=4x4', '--image=registry/lh_jax:1']
TRAIN = ['--config=configs/uhd6.py', '--workdir=gs://bucket/run', '--config.data.path=/my "data"/it\'s $(HOME): #1']


def test_manifest(tmp_path):
  yaml = pytest.importorskip('yaml', reason='needs PyYAML')
  code, output = programs.run(
    tmp_path, *TARGET, '--service-account=trainer', '--env=A=b: "c" $(D)', '--env=E=5', '--', *TRAIN
  )
  assert code == 0, output
  assert (tmp_path / 'kubectl').read_text().split() == ['apply', '-f', '-']
  manifest = yaml.safe_load((tmp_path / 'manifest.yaml').read_text())
  assert (manifest['apiVersion'], manifest['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
  assert manifest['metadata']['name'] == 'lh-jax'
  assert manifest['spec']['failurePolicy']['maxRestarts'] == 10
  (rule,) = manifest['spec']['failurePolicy']['rules']
  assert rule == {
    'name': 'preemption',
    'action': 'RestartJobSetAndIgnoreMaxRestarts',
    'onJobFailureReasons': ['PodFailurePolicy'],
  }
  (job,) = manifest['spec']['replicatedJobs']
  job = job['template']['spec']
  assert job['parallelism'] == job['completions'] == 4 and job['backoffLimit'] == 0
  codes = job['podFailurePolicy']['rules'][0]['onExitCodes']
  pod = job['template']['spec']
  (container,) = pod['containers']
  assert codes == {'containerName': container['name'], 'operator': 'In', 'values': [143]}
  assert pod['restartPolicy'] == 'Never' and pod['terminationGracePeriodSeconds'] == 300
  assert pod['serviceAccountName'] == 'trainer'
  assert pod['nodeSelector'] == {
    'cloud.google.com/gke-tpu-accelerator': 'tpu-v5-lite-podslice',
    'cloud.google.com/gke-tpu-topology': '4x4',
  }
  assert container['image'] == 'registry/lh_jax:1' and container['resources'] == {'limits': {'google.com/tpu': 4}}
  # Kubernetes makes $(X) of $$(X).
  command = [word.replace('$$(', '$(') for word in container['command']]
  assert command == ['python3', '-m', 'lh_jax.main', *TRAIN]
  assert container['env'] == [{'name': 'A', 'value': 'b: "c" $$(D)'}, {'name': 'E', 'value': '5'}]


def test_dry_run(capsys):
  assert launch.main([*TARGET, '--dry-run', '--env=A=b c', '--', *TRAIN]) == 0
  shown = capsys.readouterr().out
  programs.check_shell(shown)
  assert "\nkubectl apply -f - <<'LH_JAX_END'\n" in shown and shown.endswith('\nLH_JAX_END\n')
  assert '{{' not in shown and 'serviceAccountName' not in shown
  assert '# Logs of host 0: kubectl logs -n default -f -l' in shown
  xpk = next(line for line in shown.splitlines() if 'XPK' in line).partition(': ')[2]
  words = shlex.split(xpk)
  assert words[:3] == ['xpk', 'workload', 'create'] and '--tpu-type=v5litepod-16' in words
  assert shlex.split(words[-1].removeprefix('--command=')) == ['env', 'A=b c', 'python3', '-m', 'lh_jax.main', *TRAIN]


@pytest.mark.parametrize(
  'tpu, topology, slice_, xpk',
  [
    ('v4', '2x2x4', (16, 4), 'v4-32'),
    ('v5p', '4x4x4', (64, 16), 'v5p-128'),
    ('v5e', '16x16', (256, 64), 'v5litepod-256'),
    ('v6e', '4x8', (32, 8), 'v6e-32'),
  ],
)
def test_slices(tpu, topology, slice_, xpk):
  assert gke.hosts(tpu, topology, 4) == slice_
  assert gke.TPUS[tpu][2](slice_[0]) == xpk


@pytest.mark.parametrize(
  'options, message',
  [
    (['--topology=2x2x4'], 'the topology of a v5e slice has 2 numbers joined by x'),
    (['--topology=4x0'], 'the topology of a v5e slice has 2 numbers joined by x'),
    (['--topology=1x2'], '1x2 has 2 chips, not a multiple of chips-per-host 4'),
  ],
)
def test_slices_that_do_not_exist(options, message, capsys):
  assert launch.main([*TARGET, *options, '--dry-run', '--', *TRAIN]) == 1
  assert message in capsys.readouterr().err


def test_results_in_a_pod_would_be_lost(capsys):
  assert launch.main([*TARGET, '--dry-run', '--', '--config=c', '--workdir=runs/x']) == 1
  assert "the pods keep no files, so workdir must be on gs://; got 'runs/x'" in capsys.readouterr().err
