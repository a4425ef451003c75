"""Seconds and peak memory of the metrics for one image pair of 3840 x 2160, each in a process of its own.

    python -m lh_jax.convert lpips_alex && python -m lh_jax.convert lpips_vgg
    python experiments/bench_metrics.py -o experiments/results/metrics_cpu.json

The first call, which compiles, is timed apart; of the others the median is given. The peak is that of the whole
process, the one before the first call, with libraries, images and weights loaded, beside it. Scikit-image's SSIM with
the same window and its CIEDE2000 are the twins; values that twins give are printed next to each other. LPIPS runs on
the published weights if they have been converted and says what is missing if not. CPU seconds are summed over threads;
where they do not exceed the seconds, other programs had the rest of the cores: alone, JAX's metrics are quicker.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


def pair(height: int, width: int) -> Pair:
  """A smooth picture with texture, and the same with noise; uint8."""
  rng = np.random.default_rng(0)
  columns, channels = np.linspace(0, 16, width)[:, None], np.arange(3)
  a, b = np.empty((2, height, width, 3), np.uint8)
  # Row by row: the peak that is measured must be that of the metric.
  for i, place in enumerate(np.linspace(0, 9, height)):
    a[i] = np.clip(127 + 90 * np.sin(place + channels) * np.cos(columns) + rng.normal(0, 8, (width, 3)), 0, 255)
    b[i] = np.clip(a[i] + rng.normal(0, 10, (width, 3)), 0, 255)
  return a, b


def _similarity(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
  import jax
  import jax.numpy as jnp

  from lh_jax import metrics

  @jax.jit
  def value(a: jax.Array, b: jax.Array) -> jax.Array:
    metric = getattr(metrics, name)
    return metric(a[None].astype(jnp.float32), b[None].astype(jnp.float32), max_value=255.0)[0]

  return lambda a, b: float(value(a, b))


def _evaluate_pair() -> Callable[[np.ndarray, np.ndarray], float]:
  from lh_jax import metrics

  return lambda a, b: metrics.evaluate_pair(a, b)['ssim_y']


def _ciede2000() -> Callable[[np.ndarray, np.ndarray], float]:
  from lh_jax import metrics

  return metrics.ciede2000


def _lpips(net: str) -> Callable[[np.ndarray, np.ndarray], float]:
  from lh_jax import metrics

  return metrics.load_lpips(net)


def _niqe_features() -> Callable[[np.ndarray, np.ndarray], float]:
  from lh_jax.metrics import niqe

  # The features are all of the work; a distance needs a model, which is the user's.
  return lambda a, b: float(np.nanmean(niqe.block_features(b)[0][:, 0]))


def _skimage_ssim() -> Callable[[np.ndarray, np.ndarray], float]:
  from skimage.metrics import structural_similarity

  options = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False}
  return lambda a, b: structural_similarity(a, b, data_range=255, channel_axis=-1, **options)


def _skimage_ciede2000() -> Callable[[np.ndarray, np.ndarray], float]:
  from skimage.color import deltaE_ciede2000, rgb2lab

  return lambda a, b: deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).mean()


METRICS: dict[str, Callable[[], Callable[[np.ndarray, np.ndarray], float]]] = {
  'psnr_rgb': lambda: _similarity('psnr'),
  'ssim_rgb': lambda: _similarity('ssim'),
  'skimage_ssim_rgb': _skimage_ssim,
  'psnr_and_ssim_of_y_and_rgb': _evaluate_pair,
  'ciede2000': _ciede2000,
  'skimage_ciede2000': _skimage_ciede2000,
  'niqe_features': _niqe_features,
  'lpips_alex': lambda: _lpips('alex'),
  'lpips_vgg': lambda: _lpips('vgg'),
}


def peak() -> float:
  """Largest memory of this process so far, in GB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def work(name: str, size: tuple[int, int], repeats: int) -> dict[str, Any]:
  """Measures one metric in this process."""
  images = pair(*size)
  try:
    metric = METRICS[name]()
  except FileNotFoundError as error:
    return {'metric': name, 'not_measured': str(error)}
  before, seconds, cpu = peak(), [], []
  for _ in range(repeats + 1):
    started, cpu_started = time.perf_counter(), time.process_time()
    value = metric(*images)
    seconds.append(time.perf_counter() - started)
    cpu.append(time.process_time() - cpu_started)
  return {
    'metric': name,
    'value': float(value),
    'first_seconds': seconds[0],
    'seconds': statistics.median(seconds[1:]),
    'cpu_seconds': statistics.median(cpu[1:]),
    'peak_gb': peak(),
    'peak_gb_before': before,
  }


def table(rows: list[dict[str, Any]]) -> str:
  """The measurements as Markdown."""
  lines = ['| metric | value | first s | seconds | CPU s | peak GB | of it before |', '|---|---|---|---|---|---|---|']
  for row in rows:
    if 'not_measured' in row:
      lines.append(f'| {row["metric"]} | not measured: {row["not_measured"]} | | | | | |')
      continue
    lines.append(
      f'| {row["metric"]} | {row["value"]:.5f} | {row["first_seconds"]:.1f} | {row["seconds"]:.2f} '
      f'| {row["cpu_seconds"]:.2f} | {row["peak_gb"]:.2f} | {row["peak_gb_before"]:.2f} |'
    )
  return '\n'.join(lines)


def parse_size(text: str) -> tuple[int, int]:
  """'3840x2160' -> (2160, 3840), rows first."""
  width, height = (int(side) for side in text.split('x'))
  return height, width


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--metrics', nargs='+', choices=METRICS, default=list(METRICS))
  parser.add_argument('--size', type=parse_size, default=(2160, 3840))
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('-o', '--output', type=pathlib.Path)
  parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
  options = parser.parse_args(arguments)
  if options.worker:
    print(json.dumps(work(options.metrics[0], options.size, options.repeats)))
    return
  rows = []
  size = f'{options.size[1]}x{options.size[0]}'
  for name in options.metrics:
    command = [sys.executable, __file__, '--worker', '--size', size, '--repeats', str(options.repeats)]
    output = subprocess.run([*command, '--metrics', name], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows.append(json.loads(output.splitlines()[-1]))
    print(table(rows[-1:]).splitlines()[-1], flush=True)
  print(table(rows))
  if options.output:
    import records  # with JAX, which the process of a twin must not hold

    report = records.made_by() | {'size': size, 'repeats': options.repeats, 'rows': rows}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
  main()
