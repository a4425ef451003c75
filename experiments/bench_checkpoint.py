"""Seconds and bytes of a checkpoint of the default model, and how long saving one holds the steps up.

    python experiments/bench_checkpoint.py -o experiments/results/checkpoint_cpu.json

The states are those of the two stages at the paper's sizes. A save copies the state to the host, during which the run
waits, and is written in the background; the stall is related to a step of the measured seconds at the default interval
(`train.checkpoint_steps`). Writing takes cores from the steps beside it, where these are on the CPU: that cost is told
by itself. Steps are of small crops, which makes them shorter, and the shares larger, than the paper's.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import runpy
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp

from lh_jax import checkpoint
from lh_jax import networks as networks_lib
from lh_jax import parallel
from lh_jax import results
from lh_jax.stages import build
import records

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS = {'stage1': 'scale_0.5', 'stage2': 'restorer'}


def config(crop: int):
  """Returns the paper's configuration with small crops and a foundation model that needs no weights."""
  found = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  found.foundation.name = 'tiny_vgg'
  for stage in STEPS:
    found[stage].crop_size = crop
  return found


def stage_state(name: str, settings) -> tuple:
  """Returns a stage's compiled step, its state, its frozen parameters and a batch."""
  networks = networks_lib.build({section: settings[section].to_dict() for section in networks_lib.SECTIONS})
  stage = build.build(name, settings, networks)
  if name == 'stage1':
    frozen = {'foundation': build.foundation(settings, 'stage1').init(jax.random.key(1))}
  else:
    frozen = jax.jit(networks.init_vae)(jax.random.key(1))
  state = jax.jit(stage.init)(jax.random.key(0))
  batch, crop = settings[name].batch_size, settings[name].crop_size
  images = jax.random.uniform(jax.random.key(2), (batch, crop, crop, 3))
  return jax.jit(stage.steps[STEPS[name]]), state, frozen, {'clean': images, 'degraded': images}


def measure(name: str, settings, *, repeats: int) -> dict:
  """Measures the saves, restores and steps of one stage.

  Args:
    name: 'stage1' or 'stage2'.
    settings: of `config`.
    repeats: saves; the medians are given.
  """
  step, state, frozen, batch = stage_state(name, settings)
  jax.block_until_ready(step(state, frozen, batch))
  started = time.perf_counter()
  for _ in range(repeats):
    state, _ = step(state, frozen, batch)
  jax.block_until_ready(state)
  step_seconds = (time.perf_counter() - started) / repeats
  stalls, wholes = [], []
  with tempfile.TemporaryDirectory() as folder:
    with checkpoint.Checkpointer(pathlib.Path(folder) / 'c', identity={}, keep=1) as checkpoints:
      checkpoints.save(0, state)  # starts threads
      checkpoints.wait()
      for number in range(1, repeats + 1):
        started = time.perf_counter()
        checkpoints.save(number, state)
        stalls.append(time.perf_counter() - started)
        checkpoints.wait()
        wholes.append(time.perf_counter() - started)
      started, beside = time.perf_counter(), 0
      checkpoints.save(repeats + 1, state)
      while beside == 0 or time.perf_counter() - started < statistics.median(wholes):
        state, _ = jax.block_until_ready(step(state, frozen, batch))
        beside += 1
      checkpoints.wait()
      slowed = time.perf_counter() - started - beside * step_seconds
      last = repeats + 1
      saved = sum(file.stat().st_size for file in (pathlib.Path(folder) / 'c' / str(last)).rglob('*') if file.is_file())
      shardings = parallel.state_shardings(parallel.make_mesh(), state)
      started = time.perf_counter()
      assert checkpoints.latest_step() == last
      checked = time.perf_counter()
      jax.block_until_ready(checkpoints.restore(last, parallel.abstract_like(state, shardings)))
      restored = time.perf_counter()
  stall, interval = statistics.median(stalls), settings.train.checkpoint_steps
  return {
    'stage': name,
    'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    'state_mb': round(sum(jnp.asarray(leaf).nbytes for leaf in jax.tree.leaves(state)) / 1e6, 2),
    'saved_mb': round(saved / 1e6, 2),
    'stall_s': round(stall, 4),
    'save_s': round(statistics.median(wholes), 4),
    'steps_beside_a_save': beside,
    'save_costs_s_beside_steps': round(slowed, 4),
    'check_s': round(checked - started, 4),
    'restore_s': round(restored - checked, 4),
    'step_s': round(step_seconds, 4),
    'checkpoint_steps': interval,
    'stall_percent_of_training': round(100 * stall / (stall + interval * step_seconds), 4),
    'save_costs_percent_of_training': round(100 * slowed / (slowed + interval * step_seconds), 4),
    'stall_percent_of_a_step': round(100 * stall / step_seconds, 2),
  }


def main() -> None:
  """Measures, prints, and writes the result."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--crop', type=int, default=64, help='pixels on a side; default %(default)s')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('-o', '--output', type=pathlib.Path, help='JSON file to write')
  options = parser.parse_args()
  load = round(os.getloadavg()[0], 2)
  rows = [measure(name, config(options.crop), repeats=options.repeats) for name in STEPS]
  report = records.made_by() | {'load_average_before': load, 'crop': options.crop, 'repeats': options.repeats}
  report |= {'rows': rows}
  print(json.dumps(report, indent=1))
  if options.output:
    results.write_json(options.output, report, indent=1)


if __name__ == '__main__':
  main()
