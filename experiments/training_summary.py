"""What a training run did, from the lines that it logged: losses along the way, seconds, speed and what bounds it.

  python experiments/training_summary.py runs/bundled -o experiments/results/bundled_training.json [--rate]

For each phase: the means of its logged values over tenths of its steps, the seconds of its steps (pauses in between do
not count), the median of its images a second, and how long it waited for data. --rate also compiles each step on this
machine, counts its operations (XLA's own count) and gives them per second, beside the rate of a dense convolution in
the same process: on the machine that trained.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import json
import pathlib
import statistics
from typing import Any, Mapping, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from bench_inference import dense_convolution
from lh_jax import networks as networks_lib
from lh_jax import parallel
from lh_jax import results
from lh_jax.stages import build
from lh_jax.stages import stage1
import records

TENTHS = 10
# What a reader calls the phases of a stage (`stages.Stage.phase`); those of stage 1 with all losses are many.
KINDS = {
  stage1.RECONSTRUCTION: 'stage 1, L_VAE alone',
  'restorer': 'restorer',
  'encoder_lora': 'LoRA branches',
  'decoder_lora': 'LoRA branches',
}


@dataclasses.dataclass(frozen=True)
class Phase:
  """Steps of a stage with one loss and batches of one size: those after `first`, up to `last`."""

  kind: str
  stage: str
  first: int
  last: int
  batch: int
  crop: int
  functions: Mapping[str, int]  # {step function: how many of the steps are its}

  @property
  def name(self) -> str:
    """No other phase has it."""
    return f'{self.kind}, steps {self.first + 1} to {self.last}, {self.batch} x {self.crop} px'


def load(workdir: pathlib.Path) -> ConfigDict:
  """Returns the configuration of a run, also of one from before some of today's options."""
  config = ConfigDict(json.loads((workdir / 'config.json').read_text(encoding='utf-8')))
  config.data.path = config.train.init_from = ''  # of the machine that trained
  for section, name, value in (('stage2', 'progressive', ()), ('losses', 'phf_perceptual', 0.0)):
    config[section][name] = config[section].get(name, value)
  return config


def phases(config: ConfigDict) -> list[Phase]:
  """Returns the phases of both stages, in order."""
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS})
  found = []
  for name in build.STAGES:
    stage = build.build(name, config, networks)
    for stretch in stage.stretches:
      steps = (
        (KINDS.get(stage.phase(step), 'stage 1, all losses'), step) for step in range(stretch.start, stretch.stop)
      )
      for kind, group in itertools.groupby(steps, key=lambda pair: pair[0]):
        numbers = [step for _, step in group]
        functions = collections.Counter(map(stage.phase, numbers))
        sizes = (stretch.batch_size, stretch.crop_size)
        found.append(Phase(kind, name, numbers[0], numbers[-1] + 1, *sizes, functions))
  return found


def lines_of(phase: Phase, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns the logged lines of a phase, steps counted within it; where a step was logged twice, the later."""
  found: dict[int, dict[str, Any]] = {}
  for line in lines:
    if f'perf/{phase.stage}/steps_per_sec' in line and phase.first < line['step'] <= phase.last:
      perf = {key.rpartition('/')[2]: value for key, value in line.items() if key.startswith(f'perf/{phase.stage}/')}
      losses = {key.partition('/')[2]: value for key, value in line.items() if key.startswith(f'{phase.stage}/')}
      found[line['step'] - phase.first] = losses | {'perf': perf}
  return [{'step': step, **value} for step, value in sorted(found.items())]


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


def operations(config: ConfigDict, phase: Phase) -> float:
  """Compiles the step functions of a phase; returns GFLOP of an image, the mean over its steps."""
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS})
  mesh = parallel.make_mesh(devices=jax.devices()[:1])
  stage = build.build(phase.stage, config, networks)
  state = jax.eval_shape(stage.init, jax.random.key(0))
  state = parallel.abstract_like(state, parallel.state_shardings(mesh, state))
  frozen = jax.eval_shape(networks.init_vae, jax.random.key(0))
  if (model := build.foundation(config, phase.stage)) is not None:
    frozen['foundation'] = model.abstract_params()
  image = jax.ShapeDtypeStruct((phase.batch, phase.crop, phase.crop, 3), jnp.float32)
  flops = 0.0
  for name, count in phase.functions.items():
    step = jax.jit(stage.steps[name]).lower(state, frozen, {'clean': image, 'degraded': image}).compile()
    flops += count * step.cost_analysis()['flops']
  return flops / sum(phase.functions.values()) / phase.batch / 1e9


def main() -> None:
  """Writes the summary and prints it without its courses."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('workdir', type=pathlib.Path)
  parser.add_argument('--rate', action='store_true', help='also operations a second; compiles every step')
  parser.add_argument('--note', default='', help='what the configuration does not tell')
  parser.add_argument('-o', '--output', type=pathlib.Path, required=True)
  options = parser.parse_args()
  config = load(options.workdir)
  lines = [json.loads(line) for line in (options.workdir / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
  logged = [(phase, found) for phase in phases(config) if (found := lines_of(phase, lines))]
  report = records.made_by() | {'note': options.note, 'cpu': records.cpu(), 'config': config.to_dict()}
  report['phases'] = {phase.name: summary(found) for phase, found in logged}
  if options.rate:
    dense = dense_convolution(5)
    report['dense_conv_gflops_per_sec'] = round(dense, 1)
    for phase, _ in logged:
      row = report['phases'][phase.name]
      gflop = operations(config, phase)
      rate = gflop * row['images_per_sec']
      row |= {
        'gflop_per_image': round(gflop, 2),
        'gflops_per_sec': round(rate, 1),
        'of_dense_conv': round(rate / dense, 3),
      }
  results.write_json(options.output, report, indent=1)
  for name, row in report['phases'].items():
    print(name, {key: value for key, value in row.items() if key != 'course'}, row['course'][-1])


if __name__ == '__main__':
  main()
