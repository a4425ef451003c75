"""`experiments/training_summary.py`: phases told apart, repeated steps counted once, seconds of steps only."""

import json
import sys

import pytest

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


@pytest.fixture(name='settings')
def _settings(tiny_config, tmp_path):
  """As a run leaves them: through JSON."""

  def made(**second):
    tiny_config.stage1.update({'steps': 20, 'reconstruction_steps': 0})
    tiny_config.stage2.update({'restorer_steps': 10, 'lora_steps': 10} | second)
    tiny_config.data.path = tiny_config.train.init_from = str(tmp_path)
    (tmp_path / 'config.json').write_text(tiny_config.to_json_best_effort())
    return training_summary.load(tmp_path)

  return made


def steps(config):
  return {
    phase.name: [row['step'] for row in training_summary.lines_of(phase, LINES)]
    for phase in training_summary.phases(config)
  }


def test_phases_and_summary(settings):
  assert steps(settings()) == {
    'stage 1, all losses, steps 1 to 20, 8 x 32 px': [10, 20],
    'restorer, steps 1 to 10, 8 x 32 px': [10],
    'LoRA branches, steps 11 to 20, 8 x 32 px': [10],
  }
  first, _, branches = training_summary.phases(settings())
  rows = training_summary.lines_of(first, LINES)
  assert rows[0]['total'] == 4.0
  result = training_summary.summary(rows)
  assert result['steps'] == 20 and result['seconds_of_steps'] == 10 / 2 + 10 / 5
  assert result['images_per_sec'] == 7.0 and result['course'][-1] == {'step': 20, 'total': 2.0}
  assert first.functions == {'scale_0.5': 20} and branches.functions == {'encoder_lora': 6, 'decoder_lora': 4}


def test_what_a_stage_begins_with_is_a_phase(settings):
  config = settings()
  config.stage1.reconstruction_steps = 10
  assert list(steps(config).items())[:2] == [
    ('stage 1, L_VAE alone, steps 1 to 10, 8 x 32 px', [10]),
    ('stage 1, all losses, steps 11 to 20, 8 x 32 px', [10]),
  ]


def test_progressive_learning_has_a_phase_for_each_size(settings):
  assert list(steps(settings(progressive=((5, 2, 64), (15, 8, 32)))).items())[1:] == [
    ('restorer, steps 1 to 5, 8 x 32 px', []),
    ('restorer, steps 6 to 10, 2 x 64 px', [5]),
    ('LoRA branches, steps 11 to 15, 2 x 64 px', []),
    ('LoRA branches, steps 16 to 20, 8 x 32 px', [5]),
  ]


def test_no_paths_of_the_machine(settings, tmp_path):
  assert str(tmp_path) not in settings().to_json_best_effort()


def test_a_run_from_before_some_of_the_options(settings, tmp_path):
  settings()
  text = json.loads((tmp_path / 'config.json').read_text())
  del text['stage2']['progressive'], text['losses']['phf_perceptual']
  (tmp_path / 'config.json').write_text(json.dumps(text))
  assert len(steps(training_summary.load(tmp_path))) == 3
