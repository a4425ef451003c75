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


LINES = [
  line('stage1', 10, rate=5.0, total=9.0),
  line('stage1', 10, rate=2.0, total=4.0),  # after a restart
  line('stage1', 20, rate=5.0, total=2.0),
  line('stage2', 10, rate=1.0, restorer_loss=3.0),
  line('stage2', 20, rate=1.0, encoder_lora_loss=5.0),
]


def config(**second):
  sizes = {'batch_size': 4, 'crop_size': 64}
  return ConfigDict(
    {'stage1': {'steps': 20} | sizes, 'stage2': {'restorer_steps': 10, 'lora_steps': 10} | sizes | second}
  )


def steps(settings):
  return {
    phase.name: [row['step'] for row in training_summary.lines_of(phase, LINES)]
    for phase in training_summary.phases(settings)
  }


def test_phases_and_summary():
  assert steps(config()) == {
    'stage 1, 4 x 64 px': [10, 20],
    'restorer, 4 x 64 px': [10],
    'LoRA, 4 x 64 px': [10],
  }
  rows = training_summary.lines_of(training_summary.phases(config())[0], LINES)
  assert rows[0]['total'] == 4.0
  result = training_summary.summary(rows)
  assert result['steps'] == 20 and result['seconds_of_steps'] == 10 / 2 + 10 / 5
  assert result['images_per_sec'] == 7.0 and result['course'][-1] == {'step': 20, 'total': 2.0}


def test_what_a_stage_begins_with_is_a_phase():
  settings = config()
  with settings.unlocked():
    settings.stage1.reconstruction_steps = 10
  assert list(steps(settings).items())[:2] == [('L_VAE, 4 x 64 px', [10]), ('stage 1, 4 x 64 px', [10])]
  first, second, *_ = training_summary.phases(settings)
  assert first.runs('reconstruction') and not second.runs('reconstruction') and second.runs('scale_0.5')


def test_progressive_learning_has_a_phase_for_each_size():
  settings = config(progressive=((5, 2, 128), (15, 1, 256)))
  assert list(steps(settings).items())[1:] == [
    ('restorer, 4 x 64 px', []),
    ('restorer, 2 x 128 px', [5]),
    ('LoRA, 2 x 128 px', []),
    ('LoRA, 1 x 256 px', [5]),
  ]
