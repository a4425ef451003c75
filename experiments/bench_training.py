"""Speed of training: steps per second and time spent waiting for data, for every step function of both stages.

  python experiments/bench_training.py --config=configs/quickstart.py -o experiments/results/training_cpu.json

Runs the real loop (`lh_jax.train`) on the configuration's own data, batch and crop (or --config.KEY=VALUE). The
first half of each phase warms up, the second is measured.
"""

from __future__ import annotations

import json
import pathlib
import tempfile

from absl import app
from absl import flags
from ml_collections import config_flags

from lh_jax import logs
from lh_jax import parallel
from lh_jax import train
import records

CONFIG = config_flags.DEFINE_config_file('config', None, 'Configuration file.', lock_config=True)
STEPS = flags.DEFINE_integer('steps', 20, 'Steps of each phase; the second half is measured.', lower_bound=4)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file to write.', short_name='o')


def main(argv: list[str]) -> None:
  """Runs the benchmark and prints its table."""
  del argv
  logs.to_console()
  parallel.enable_compilation_cache()
  config, half = CONFIG.value, STEPS.value // 2
  steps = 2 * half
  config.stage1.steps = steps
  config.stage2.update({'restorer_steps': steps, 'lora_steps': 2 * steps, 'alternate_steps': steps})
  config.train.update(
    {
      'stages': ('stage1', 'stage2'),
      'log_steps': half,
      'checkpoint_steps': 10**9,
      'image_steps': 10**9,
      'tensorboard': False,
    }
  )
  with tempfile.TemporaryDirectory() as folder:
    train.train(config, pathlib.Path(folder))
    lines = [json.loads(line) for line in (pathlib.Path(folder) / 'metrics.jsonl').read_text().splitlines()]
  # Two lines a phase: the second is the measurement.
  phases = [('stage1', 'stage1'), *(('stage2', phase) for phase in ('restorer', 'encoder_lora', 'decoder_lora'))]
  rows = []
  for (stage, phase), line in zip(phases, lines[1::2], strict=True):
    rows.append(
      {
        'phase': phase,
        'batch': config[stage].batch_size,
        'crop': config[stage].crop_size,
        'steps_per_sec': line[f'perf/{stage}/steps_per_sec'],
        'images_per_sec': line[f'perf/{stage}/images_per_sec'],
        'data_wait_percent': line[f'perf/{stage}/data_wait_percent'],
      }
    )
  print('| phase | batch | crop | steps/s | images/s | waiting for data |\n|---|---|---|---|---|---|')
  for row in rows:
    print(
      '| {phase} | {batch} | {crop} | {steps_per_sec:.2f} | {images_per_sec:.1f} | {data_wait_percent:.1f} % |'.format(
        **row
      )
    )
  if OUTPUT.value:
    report = records.made_by() | {'steps': steps, 'rows': rows}
    path = pathlib.Path(OUTPUT.value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main)
