"""What sharding costs on this machine: compile seconds of every step function, and steps per second on several meshes.

    python experiments/bench_sharding.py -o experiments/results/sharding_cpu.json

Every case trains the default model for a few steps, from the paper's configuration at small crops and one global batch,
in processes of its own on virtual CPU devices. They share the same cores, so that no mesh can be faster than one
device: what is shown is what its collectives, its smaller pieces and its second process cost. Compiled programs are not
kept, so that every case compiles.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import runpy
import socket
import statistics
import subprocess
import sys
import tempfile

from lh_jax import results
import records

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Name: (processes, devices of each, mesh).
CASES = {
  'one device': (1, 1, {}),
  'data 4': (1, 4, {}),
  'fsdp 4': (1, 4, {'fsdp': 4}),
  'space 2': (1, 2, {'space': 2}),
  'data 4, two processes': (2, 2, {}),
  'fsdp 4, two processes': (2, 2, {'fsdp': 4}),
}
CHANGES = {
  'foundation.name': 'tiny_vgg',
  'losses.equivariance_scales': (0.5,),
  'stage1.steps': 6,
  'stage2.restorer_steps': 6,
  'stage2.lora_steps': 12,
  'stage2.alternate_steps': 6,
  'train.log_steps': 1,
  'train.checkpoint_steps': 1000,
  'train.tensorboard': False,
}
_COMPILED = re.compile(r'(stage\d): compiled the step (\S+) for \S+ x \S+ px in ([\d.]+) s')
_STEPS_OF = 6  # of each step function; the first, which warms up, is left out


def config(crop: int, batch: int, mesh: dict[str, int]):
  """Returns the configuration of a case."""
  found = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  found.update_from_flattened_dict(CHANGES)
  for stage in ('stage1', 'stage2'):
    found[stage].update({'crop_size': crop, 'batch_size': batch})
  found.mesh.update(mesh)
  return found


def work(workdir: pathlib.Path, options: argparse.Namespace) -> None:
  """Trains one case, as one of its processes."""
  from lh_jax import hosts
  from lh_jax import logs
  from lh_jax import train

  logs.to_console()
  settings = config(options.crop, options.batch, json.loads(options.mesh))
  hosts.start(**settings.hosts)
  train.train(settings, workdir)


def measure(name: str, options: argparse.Namespace) -> dict:
  """Runs the processes of one case; returns its compile seconds and the median seconds of a step, by function.

  Raises:
    RuntimeError: a process failed.
  """
  count, devices, mesh = CASES[name]
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{probe.getsockname()[1]}'
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_ENABLE_COMPILATION_CACHE': 'false'}
  environment['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={devices}'
  sizes = ['--crop', str(options.crop), '--batch', str(options.batch), '--mesh', json.dumps(mesh)]
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder) / 'run'
    processes = []
    for index in range(count):
      if count > 1:
        environment |= {
          'JAX_COORDINATOR_ADDRESS': address,
          'JAX_NUM_PROCESSES': str(count),
          'JAX_PROCESS_ID': str(index),
        }
      command = [sys.executable, __file__, '--work', str(workdir), *sizes]
      with open(pathlib.Path(folder) / f'{index}.log', 'w', encoding='utf-8') as log:
        processes.append(subprocess.Popen(command, env=environment, stderr=log))
    codes = [process.wait() for process in processes]
    written = [(pathlib.Path(folder) / f'{index}.log').read_text(encoding='utf-8') for index in range(count)]
    for index, code in enumerate(codes):
      if code:
        raise RuntimeError(f'{name}: process {index} ended with exit code {code}: {written[index][-2000:]}')
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
  compiled = {phase: float(seconds) for _, phase, seconds in _COMPILED.findall(written[0])}
  rates = [next(value for key, value in line.items() if key.endswith('/steps_per_sec')) for line in lines]
  order = ['scale_0.5', 'restorer', 'encoder_lora', 'decoder_lora']
  steps = {
    phase: round(statistics.median(1 / rate for rate in rates[_STEPS_OF * i + 1 : _STEPS_OF * (i + 1)]), 4)
    for i, phase in enumerate(order)
  }
  return {
    'case': name,
    'processes': count,
    'devices': count * devices,
    'mesh': mesh,
    'compile_s': compiled,
    'step_s': steps,
  }


def table(rows: list[dict]) -> str:
  """Returns the rows as Markdown, steps as multiples of those of the first row."""
  phases = list(rows[0]['step_s'])
  base = rows[0]['step_s']
  lines = [
    [
      row['case'],
      *(f'{row["compile_s"][phase]:.1f}' for phase in phases),
      *(f'{row["step_s"][phase]:.2f} ({row["step_s"][phase] / base[phase]:.2f} x)' for phase in phases),
    ]
    for row in rows
  ]
  return results.markdown(['case', *(f'compile {p}, s' for p in phases), *(f'step {p}, s' for p in phases)], lines)


def main() -> None:
  """Measures, prints the table, and writes the result."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--cases', nargs='+', choices=tuple(CASES), default=list(CASES))
  parser.add_argument('--crop', type=int, default=64, help='pixels on a side; default %(default)s')
  parser.add_argument('--batch', type=int, default=8, help='global batch; default %(default)s')
  parser.add_argument('-o', '--output', type=pathlib.Path, help='JSON file to write')
  parser.add_argument('--work', type=pathlib.Path, help=argparse.SUPPRESS)
  parser.add_argument('--mesh', help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.work:
    work(options.work, options)
    return
  rows = []
  for name in options.cases:
    rows.append(measure(name, options))
    print(json.dumps(rows[-1]), flush=True)
  print(table(rows))
  if options.output:
    report = records.made_by() | {'load_average': os.getloadavg()[0]}
    results.write_json(options.output, report | {'crop': options.crop, 'batch': options.batch, 'rows': rows}, indent=1)


if __name__ == '__main__':
  main()
