"""What a training run did, from the lines that it logged: losses along the way, seconds, speed and what bounds it.

  python experiments/training_summary.py runs/bundled -o experiments/results/bundled_training.json [--rate]

For each phase: the means of its logged values over tenths of its steps, the seconds of its steps (pauses in between do
not count), the median of its images a second, and how long it waited for data. --rate also compiles each step on this
machine, counts its operations (XLA's own count) and gives them per second, beside the rate of a dense convolution in
the same process: on the machine that trained.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
from typing import Any, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from bench_inference import dense_convolution
from lh_jax import networks as networks_lib
from lh_jax import parallel
from lh_jax import results
from lh_jax import stages as stages_lib
from lh_jax.stages import build
import records

TENTHS = 10
PHASES = {
  'reconstruction': 'stage 1, L_VAE alone',
  'stage1': 'stage 1, all losses',
  'restorer': 'restorer',
  'lora': 'LoRA branches in turn',
}


def phases(config: ConfigDict, lines: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
  """Returns the logged lines of each phase, steps counted within it; where a step was logged twice, the later."""
  alone, split = config.stage1.get('reconstruction_steps', 0), config.stage2.restorer_steps
  spans = {  # steps of the stage, after the first and up to the last
    'reconstruction': (0, alone),
    'stage1': (alone, config.stage1.steps),
    'restorer': (0, split),
    'lora': (split, split + config.stage2.lora_steps),
  }
  found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in PHASES}
  for line in lines:
    stage = 'stage1' if 'perf/stage1/steps_per_sec' in line else 'stage2'
    for name in ('reconstruction', 'stage1') if stage == 'stage1' else ('restorer', 'lora'):
      first, last = spans[name]
      if first < line['step'] <= last:
        perf = {key.rpartition('/')[2]: value for key, value in line.items() if key.startswith(f'perf/{stage}/')}
        losses = {key.partition('/')[2]: value for key, value in line.items() if key.startswith(f'{stage}/')}
        found[name][line['step'] - first] = losses | {'perf': perf}
  return {name: [{'step': step, **value} for step, value in sorted(rows.items())] for name, rows in found.items()}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """Returns steps, seconds, speed and the course of one phase."""
  steps = np.diff([0, *(row['step'] for row in rows)])
  speeds = [row['perf']['steps_per_sec'] for row in rows]
  parts = [part for part in np.array_split(np.arange(len(rows)), TENTHS) if part.size]
  names = {name for row in rows for name in row} - {'step', 'perf'}
  course = []
  for part in parts:
    chosen = [rows[index] for index in part]
    means = {name: [row[name] for row in chosen if name in row] for name in sorted(names)}
    course.append({'step': chosen[-1]['step']} | {name: round(float(np.mean(v)), 5) for name, v in means.items() if v})
  return {
    'steps': rows[-1]['step'],
    'seconds_of_steps': round(float(sum(steps / speeds))),
    'images_per_sec': round(statistics.median(row['perf']['images_per_sec'] for row in rows), 2),
    'data_wait_percent': round(statistics.median(row['perf']['data_wait_percent'] for row in rows), 2),
    'course': course,
  }


def operations(config: ConfigDict) -> dict[str, dict[str, float]]:
  """Compiles the step functions; returns GFLOP of one step of each, and of one image."""
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS})
  mesh = parallel.make_mesh(devices=jax.devices()[:1])
  found = {}
  for name in build.STAGES:
    stage: stages_lib.Stage = build.build(name, config, networks)
    state = jax.eval_shape(stage.init, jax.random.key(0))
    state = parallel.abstract_like(state, parallel.state_shardings(mesh, state))
    frozen = jax.eval_shape(networks.init_vae, jax.random.key(0))
    if name == 'stage1':
      frozen = {'foundation': build.foundation(config).abstract_params()}
    image = jax.ShapeDtypeStruct((stage.batch_size, stage.crop_size, stage.crop_size, 3), jnp.float32)
    for phase in stage.steps:
      step = jax.jit(stage.steps[phase]).lower(state, frozen, {'clean': image, 'degraded': image}).compile()
      gflop = step.cost_analysis()['flops'] / 1e9
      found[phase] = {'gflop': gflop, 'gflop_per_image': gflop / stage.batch_size}
  # The steps of stage 1 with all losses differ in one small decoding: their mean.
  scales = [found.pop(phase) for phase in list(found) if phase.startswith('scale_')]
  found['stage1'] = {key: statistics.fmean(scale[key] for scale in scales) for key in scales[0]}
  return found


def main() -> None:
  """Writes the summary and prints it without its courses."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('workdir', type=pathlib.Path)
  parser.add_argument('--rate', action='store_true', help='also operations a second; compiles every step')
  parser.add_argument('--note', default='', help='what the configuration does not tell')
  parser.add_argument('-o', '--output', type=pathlib.Path, required=True)
  options = parser.parse_args()
  config = ConfigDict(json.loads((options.workdir / 'config.json').read_text(encoding='utf-8')))
  config.data.path = ''  # of the machine that trained
  lines = [json.loads(line) for line in (options.workdir / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
  found = {name: summary(rows) for name, rows in phases(config, lines).items() if rows}
  report = records.made_by() | {'note': options.note, 'cpu': records.cpu(), 'config': config.to_dict(), 'phases': found}
  if options.rate:
    counted, dense = operations(config), dense_convolution(5)
    report |= {'operations': counted, 'dense_conv_gflops_per_sec': round(dense, 1)}
    for name in found.keys() & counted.keys():
      rate = counted[name]['gflop_per_image'] * found[name]['images_per_sec']
      found[name] |= {'gflops_per_sec': round(rate, 1), 'of_dense_conv': round(rate / dense, 3)}
  results.write_json(options.output, report, indent=1)
  for name, phase in found.items():
    print(PHASES[name], {key: value for key, value in phase.items() if key != 'course'}, phase['course'][-1])


if __name__ == '__main__':
  main()
