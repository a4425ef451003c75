"""experiments/bench_sharding.py and bench_checkpoint.py: their arithmetic."""

import sys

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))

import bench_checkpoint
import bench_sharding


def test_table():
  rows = [
    {'case': name, 'compile_s': {'restorer': 2.0}, 'step_s': {'restorer': seconds}}
    for name, seconds in (('one device', 0.5), ('fsdp 4', 0.75))
  ]
  assert bench_sharding.table(rows).splitlines()[2:] == [
    '| one device | 2.0 | 0.50 (1.00 x) |',
    '| fsdp 4 | 2.0 | 0.75 (1.50 x) |',
  ]


def test_every_case_divides_the_batch():
  for processes, devices, mesh in bench_sharding.CASES.values():
    assert 8 % (processes * devices) == 0 and (processes * devices) % mesh.get('fsdp', 1) == 0
  changes = bench_sharding.config(64, 8, {'fsdp': 2})
  assert changes.stage2.crop_size == 64 and changes.mesh.fsdp == 2


def test_a_checkpoint_of_tiny_networks(tiny_config):
  found = bench_checkpoint.measure('stage2', tiny_config, repeats=1)
  assert found['saved_mb'] > 0 and found['restore_s'] > 0
  expected = 100 * found['stall_s'] / (found['stall_s'] + 2 * found['step_s'])
  assert abs(found['stall_percent_of_training'] - expected) < 0.1 * expected
