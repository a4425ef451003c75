"""What a training run did, from the lines that it logged: losses along the way, seconds, speed and what bounds it.

  python experiments/training_summary.py runs/bundled -o experiments/results/bundled_training.json [--rate]

For each phase: the means of its logged values over tenths of its steps, the seconds of its steps (pauses in between do
not count), the median of its images a second, and how long it waited for data. --rate also compiles each step on this
machine, counts its operations (XLA's own count) and gives them per second, beside the rate of a dense convolution in
the same process: on the machine that trained.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
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
from lh_jax.stages import stage1
import records

TENTHS = 10


@dataclasses.dataclass(frozen=True)
class Phase:
  """Steps of a stage with one loss and batches of one size: those after `first`, up to `last`."""

  kind: str  # 'L_VAE' or 'stage 1' (all losses), 'restorer' or 'LoRA' (both branches in turn)
  first: int
  last: int
  batch: int
  crop: int

  @property
  def stage(self) -> str:
    """'stage1' or 'stage2'."""
    return 'stage1' if self.kind in ('L_VAE', 'stage 1') else 'stage2'

  @property
  def name(self) -> str:
    """For a reader."""
    return f'{self.kind}, {self.batch} x {self.crop} px'

  def runs(self, step: str) -> bool:
    """Whether a step function of its stage is one of its own."""
    kinds = {stage1.RECONSTRUCTION: 'L_VAE', 'restorer': 'restorer', 'encoder_lora': 'LoRA', 'decoder_lora': 'LoRA'}
    return kinds.get(step, 'stage 1') == self.kind


def phases(config: ConfigDict) -> list[Phase]:
  """Returns the phases of both stages, in order."""
  first, second = config.stage1, config.stage2
  split, end = second.restorer_steps, second.restorer_steps + second.lora_steps
  sizes = [(0, second.batch_size, second.crop_size), *second.get('progressive', ())]
  cuts = sorted({0, split, end, *(step for step, _, _ in sizes)})
  found = [
    Phase('L_VAE', 0, first.get('reconstruction_steps', 0), first.batch_size, first.crop_size),
    Phase('stage 1', first.get('reconstruction_steps', 0), first.steps, first.batch_size, first.crop_size),
  ]
  for start, stop in itertools.pairwise(cuts):
    _, batch, crop = max(change for change in sizes if change[0] <= start)
    found.append(Phase('restorer' if start < split else 'LoRA', start, stop, batch, crop))
  return [phase for phase in found if phase.first < phase.last]


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


def operations(config: ConfigDict, wanted: Sequence[Phase]) -> dict[str, float]:
  """Compiles the step functions of some phases; returns {name of the phase: GFLOP of an image, mean of its steps}."""
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS})
  mesh = parallel.make_mesh(devices=jax.devices()[:1])
  found = {}
  for phase in wanted:
    stage: stages_lib.Stage = build.build(phase.stage, config, networks)
    state = jax.eval_shape(stage.init, jax.random.key(0))
    state = parallel.abstract_like(state, parallel.state_shardings(mesh, state))
    frozen = jax.eval_shape(networks.init_vae, jax.random.key(0))
    if phase.stage == 'stage1':
      frozen = {'foundation': build.foundation(config).abstract_params()}
    image = jax.ShapeDtypeStruct((phase.batch, phase.crop, phase.crop, 3), jnp.float32)
    flops = []
    for name in filter(phase.runs, stage.steps):
      step = jax.jit(stage.steps[name]).lower(state, frozen, {'clean': image, 'degraded': image}).compile()
      flops.append(step.cost_analysis()['flops'])
    found[phase.name] = statistics.fmean(flops) / phase.batch / 1e9
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
  logged = {phase: lines_of(phase, lines) for phase in phases(config)}
  found = {phase.name: summary(logged[phase]) for phase in logged if logged[phase]}
  report = records.made_by() | {'note': options.note, 'cpu': records.cpu(), 'config': config.to_dict(), 'phases': found}
  if options.rate:
    counted = operations(config, [phase for phase in logged if logged[phase]])
    dense = dense_convolution(5)
    report['dense_conv_gflops_per_sec'] = round(dense, 1)
    for name, gflop in counted.items():
      rate = gflop * found[name]['images_per_sec']
      found[name] |= {
        'gflop_per_image': round(gflop, 2),
        'gflops_per_sec': round(rate, 1),
        'of_dense_conv': round(rate / dense, 3),
      }
  results.write_json(options.output, report, indent=1)
  for name, phase in found.items():
    print(name, {key: value for key, value in phase.items() if key != 'course'}, phase['course'][-1])


if __name__ == '__main__':
  main()
