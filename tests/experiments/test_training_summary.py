"""`experiments/training_summary.py`: phases told apart, repeated steps counted once, seconds of steps only."""

import sys

from ml_collections import ConfigDict

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'experiments'))
import training_summary  # noqa: E402


def line(stage, step, *, rate, **losses):
  perf = {'steps_per_sec': rate, 'images_per_sec': 2 * rate, 'data_wait_percent': 1.0}
  return (
    {'step': step}
    | {f'perf/{stage}/{key}': value for key, value in perf.items()}
    | {f'{stage}/{key}': value for key, value in losses.items()}
  )


def test_phases_and_summary():
  config = ConfigDict({'stage1': {'steps': 20}, 'stage2': {'restorer_steps': 10, 'lora_steps': 10}})
  lines = [
    line('stage1', 10, rate=5.0, total=9.0),
    line('stage1', 10, rate=2.0, total=4.0),  # after a restart
    line('stage1', 20, rate=5.0, total=2.0),
    line('stage2', 10, rate=1.0, restorer_loss=3.0),
    line('stage2', 20, rate=1.0, encoder_lora_loss=5.0),
  ]
  found = training_summary.phases(config, lines)
  assert [row['step'] for row in found['stage1']] == [10, 20] and found['stage1'][0]['total'] == 4.0
  assert [row['step'] for row in found['restorer']] == [10] and [row['step'] for row in found['lora']] == [10]
  result = training_summary.summary(found['stage1'])
  assert result['steps'] == 20 and result['seconds_of_steps'] == 10 / 2 + 10 / 5
  assert not found['reconstruction']
  with config.unlocked():
    config.stage1.reconstruction_steps = 10
  found = training_summary.phases(config, lines)
  assert [[row['step'] for row in found[name]] for name in ('reconstruction', 'stage1')] == [[10], [10]]
  assert result['images_per_sec'] == 7.0 and result['course'][-1] == {'step': 20, 'total': 2.0}
