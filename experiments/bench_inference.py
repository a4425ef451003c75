"""Speed and memory of inference on whatever device is there: seconds, GFLOP/s, peak memory, by stage and size.

    python experiments/bench_inference.py -o experiments/results/inference_cpu.json
    python experiments/bench_inference.py --sizes 3840x2160 7680x4320 --limit-memory 24G      # a large card as if small

Every size runs in a process of its own, so that its peak is its own. Compiling is timed apart; a result counts as
ready when it is a host array, so no asynchronous call is mistaken for a fast one. The median of the repeats is given.
GFLOP/s are direct multiply-adds (`models.summary`) times two over seconds, beside what a dense 64-channel 3x3
convolution of XLA reaches in the same process. Weights are random unless --checkpoint names some: speed does not
depend on them. On accelerators, or in bfloat16, --compare also gives the difference from float32 on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIZES = ['1024x1024', '1920x1080', '3840x2160', '7680x4320', '10240x6400']
STAGES = ('encode', 'restore', 'decode')


def parse_size(text: str) -> tuple[int, int]:
  """'3840x2160' -> (2160, 3840), rows first."""
  width, height = (int(side) for side in text.split('x'))
  return height, width


def picture(height: int, width: int) -> np.ndarray:
  """A smooth picture with some noise, uint8, the same everywhere."""
  columns, channels = np.linspace(0, 5, width, dtype=np.float32)[:, None], np.arange(3, dtype=np.float32)
  rng = np.random.default_rng(0)
  image = np.empty((height, width, 3), np.uint8)
  # Row by row: the peak that is measured must be that of restoring.
  for row, place in zip(image, np.linspace(0, 3, height)):
    smooth = 0.5 + 0.4 * np.sin(place + channels) * np.cos(columns * (channels + 1))
    row[:] = np.clip(255 * smooth + 8 * rng.standard_normal(row.shape, np.float32), 0, 255)
  return image


def load(options: argparse.Namespace) -> Any:
  """Returns a Restorer: of the checkpoint, or the default model with random weights."""
  import jax

  from lh_jax import inference
  from lh_jax import networks as networks_lib

  if options.checkpoint:
    return inference.Restorer.from_pretrained(options.checkpoint, dtype=options.dtype, devices=options.devices)
  config = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  sections = {name: config[name].to_dict() for name in networks_lib.SECTIONS}
  networks = networks_lib.build(sections, dtype=inference.activation_dtype(options.dtype))
  rng = np.random.default_rng(0)

  def fill(shape: jax.ShapeDtypeStruct) -> np.ndarray:
    fan_in = max(int(np.prod(shape.shape[:-1])), 1)  # 1 for norms and biases
    return np.abs(rng.standard_normal(shape.shape, np.float32)) / fan_in

  params = jax.tree.map(fill, jax.eval_shape(networks.init, jax.random.key(0)))
  return inference.Restorer(networks, params, devices=options.devices)


def dense_convolution(repeats: int) -> float:
  """GFLOP/s of XLA's 3x3 convolution, 64 channels, 512 x 512 pixels, float32."""
  import jax
  import jax.numpy as jnp

  x, kernel = jnp.ones((1, 512, 512, 64)), jnp.ones((3, 3, 64, 64))
  conv = jax.jit(lambda x, k: jax.lax.conv(x.transpose(0, 3, 1, 2), k.transpose(3, 2, 0, 1), (1, 1), 'SAME'))
  nhwc = jax.jit(
    lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  )
  best = float('inf')
  for fn in (conv, nhwc):
    for _ in range(repeats + 1):
      started = time.perf_counter()
      fn(x, kernel).block_until_ready()
      best = min(best, time.perf_counter() - started)
  return 2 * 9 * 64 * 64 * 512 * 512 / best / 1e9


def stage_operations(networks: Any) -> dict[str, float]:
  """Operations (two per multiply-add) of each stage for one pixel of the image."""
  import jax

  from lh_jax.models import summary

  shapes = jax.eval_shape(networks.init, jax.random.key(0))
  side, factor = 256, networks.vae.preset.factor
  image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
  latent = jax.ShapeDtypeStruct((1, side // factor, side // factor, networks.vae.preset.latent_channels), np.float32)
  counts = {
    'encode': summary.multiply_adds(networks.vae.encode, shapes['vae']['encoder'], image),
    'restore': summary.multiply_adds(networks.restore_latent, shapes['restorer'], shapes['restorer_stats'], latent),
    'decode': summary.multiply_adds(networks.vae.decode, shapes['vae']['decoder'], latent),
  }
  return {stage: 2.0 * count / side**2 for stage, count in counts.items()}


def timed_stages(restorer: Any, image: np.ndarray, options: argparse.Namespace) -> tuple[dict[str, float], Any]:
  """Seconds of each stage of one restoration, and the run that did it."""
  seconds = {}
  run = restorer._start(image, options.tile, options.max_memory)
  started = time.perf_counter()
  latent = run.encode(0.5)
  seconds['encode'] = time.perf_counter() - started
  latent = run.restore(latent)
  seconds['restore'] = time.perf_counter() - started - seconds['encode']
  run.decode(latent, 0.5)
  seconds['decode'] = time.perf_counter() - started - seconds['encode'] - seconds['restore']
  return seconds, run


def work(options: argparse.Namespace) -> dict[str, Any]:
  """Measures one size in this process."""
  if options.allocator == 'kept':
    from lh_jax import memory

    memory.keep_freed_pages()
  import jax

  import lh_jax

  height, width = options.sizes[0]
  device = jax.local_devices()[0]
  image = picture(height, width)
  restorer = load(options)
  baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  started = time.perf_counter()
  restored = restorer.run(image, tile=options.tile, max_memory=options.max_memory)
  first = time.perf_counter() - started
  seconds, cpu_seconds, stages = [], [], []
  for _ in range(options.repeats):
    started, cpu = time.perf_counter(), time.process_time()
    found, run = timed_stages(restorer, image, options)
    seconds.append(time.perf_counter() - started)
    cpu_seconds.append(time.process_time() - cpu)
    stages.append(found)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  stats = device.memory_stats() or {}
  if options.save:
    np.save(options.save, restored.image)
  median = statistics.median(seconds)
  operations = stage_operations(restorer.programs.networks)
  total = sum(operations.values()) * height * width
  by_stage = {
    stage: {
      'seconds': (stage_seconds := statistics.median(found[stage] for found in stages)),
      'gflops_per_sec': operations[stage] * height * width / stage_seconds / 1e9,
    }
    for stage in STAGES
  }
  return {
    'size': f'{width}x{height}',
    'megapixels': height * width / 1e6,
    'window': 'whole' if restored.window is None else f'{restored.window[1]}x{restored.window[0]}',
    'compile_seconds': restorer.programs.compile_seconds,
    'first_seconds': first,
    'seconds': median,
    'cpu_seconds': statistics.median(cpu_seconds),
    'seconds_per_megapixel': median / (height * width / 1e6),
    'gflops_per_sec': total / median / 1e9,
    'dense_conv_gflops_per_sec': dense_convolution(5),
    'stages': by_stage,
    'peak_host_gb': peak * 1024 / 1e9,
    'peak_host_gb_before': baseline * 1024 / 1e9,
    'peak_device_gb': stats['peak_bytes_in_use'] / 1e9 if 'peak_bytes_in_use' in stats else None,
    'device': f'{restorer.programs.mesh.size} x {device.device_kind}',
    'dtype': jax.numpy.dtype(restorer.programs.networks.vae.dtype).name,
    'versions': {'lh_jax': lh_jax.__version__, 'jax': jax.__version__, 'python': platform.python_version()},
  }


def measure(size: str, arguments: list[str], options: argparse.Namespace) -> dict[str, Any]:
  """Measures one size in a process of its own, and again on the CPU in float32 where that is to be compared with."""
  command = [sys.executable, __file__, *arguments, '--worker', '--sizes', size]
  environment = dict(os.environ, XLA_PYTHON_CLIENT_PREALLOCATE=os.environ.get('XLA_PYTHON_CLIENT_PREALLOCATE', 'false'))
  with tempfile.TemporaryDirectory() as folder:
    saved, reference = f'{folder}/device.npy', f'{folder}/cpu.npy'
    found = run_worker([*command, *(['--save', saved] if options.compare else [])], environment)
    if options.compare:
      # argparse keeps the last of repeated options.
      run_worker(
        [*command, '--save', reference, '--dtype', 'float32', '--repeats', '1', '--devices', '1'],
        environment | {'JAX_PLATFORMS': 'cpu'},
      )
      difference = np.abs(np.load(saved).astype(np.int16) - np.load(reference))
      found['levels_from_cpu_float32'] = {'largest': int(difference.max()), 'mean': float(difference.mean())}
  return found


def run_worker(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
  output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
  return json.loads(output.splitlines()[-1])


def table(rows: list[dict[str, Any]]) -> str:
  """The measurements as Markdown."""
  lines = [
    '| size | window | compile s | seconds | s per MP | GFLOP/s | of dense conv | s of encode, restore, decode | GB |',
    '|---|---|---|---|---|---|---|---|---|',
  ]
  for row in rows:
    stages = ', '.join(f'{row["stages"][stage]["seconds"]:.2f}' for stage in STAGES)
    peak = row['peak_host_gb'] if row['peak_device_gb'] is None else row['peak_device_gb']
    share = row['gflops_per_sec'] / row['dense_conv_gflops_per_sec']
    lines.append(
      f'| {row["size"]} | {row["window"]} | {row["compile_seconds"]:.1f} | {row["seconds"]:.2f} '
      f'| {row["seconds_per_megapixel"]:.2f} | {row["gflops_per_sec"]:.0f} | {share:.0%} | {stages} | {peak:.2f} |'
    )
  return '\n'.join(lines)


def parser() -> argparse.ArgumentParser:
  """The options."""
  from lh_jax import memory

  result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  result.add_argument('--sizes', nargs='+', type=parse_size, default=[parse_size(size) for size in SIZES])
  result.add_argument('--checkpoint', help='work directory of a finished run, or its export; default: random weights')
  result.add_argument('--tile', default='auto', type=lambda text: int(text) if text.isdigit() else text)
  result.add_argument('--dtype', default='auto', choices=('auto', 'float32', 'bfloat16'))
  result.add_argument('--devices', type=int, default=1)
  result.add_argument('--max-memory', type=memory.parse_size, help='for the windows, as of lh-restore')
  result.add_argument('--limit-memory', type=memory.parse_size, help='let JAX have no more of a GPU than this')
  result.add_argument('--allocator', choices=('kept', 'system'), default='kept', help='host pages; see lh_jax.memory')
  result.add_argument('--repeats', type=int, default=3)
  result.add_argument('--compare', action='store_true', help='with float32 on the CPU')
  result.add_argument('-o', '--output', type=pathlib.Path)
  result.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
  result.add_argument('--save', help=argparse.SUPPRESS)
  return result


def main(arguments: list[str] | None = None) -> None:
  arguments = sys.argv[1:] if arguments is None else arguments
  options = parser().parse_args(arguments)
  if options.worker:
    if options.limit_memory:
      limit_memory(options.limit_memory)
    print(json.dumps(work(options)))
    return
  rows = []
  for height, width in options.sizes:
    rows.append(measure(f'{width}x{height}', arguments, options))
    print(table(rows[-1:]).splitlines()[-1], flush=True)
  print(table(rows))
  if options.output:
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=2) + '\n', encoding='utf-8')


def limit_memory(size: int) -> None:
  """Lets JAX take `size` bytes of the first GPU at most; must run before JAX starts."""
  query = ['nvidia-smi', '--query-gpu=memory.total', '--format=csv,noheader,nounits']
  total = int(subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[0]) * 2**20
  os.environ['XLA_PYTHON_CLIENT_MEM_FRACTION'] = f'{min(size / total, 1.0):.4f}'
  os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'true'


if __name__ == '__main__':
  main()
