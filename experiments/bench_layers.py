"""Times the forms of the VAE's convolutions and norms, and the encoder and decoder whole, on the present backend.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=500000000 \\
      python experiments/bench_layers.py --window 1024 --output experiments/results/layers_cpu.json

The forms of a case take turns within one run; the shortest wall time and the lower quartile of the process's CPU time
count. On a machine that others use as well, trust the ratios of CPU time; on a quiet one those of wall time. Without
the variables, allocation (page faults of fresh buffers) hides the differences between elementwise forms.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import time
from typing import Any, Callable

import jax
from jax import lax
import jaxlib
import numpy as np

from lh_jax.models import convolution
from lh_jax.models import layers
from lh_jax.models import summary
from lh_jax.models import vae

METHODS = ('direct', 'winograd')


def race(forms: dict[str, tuple[Callable[..., Any], tuple]], *, flops: float, repeats: int) -> dict[str, dict]:
  """Runs the forms in turns.

  Returns:
    By form: compile_s, wall_ms, cpu_ms, gflop_s of the wall time, and the speed-ups over the first form.
  """
  rows, times = {}, {name: [] for name in forms}
  programs = {}
  for name, (function, arguments) in forms.items():
    start = time.perf_counter()
    programs[name] = jax.jit(function).lower(*arguments).compile()
    rows[name] = {'compile_s': round(time.perf_counter() - start, 2)}
    jax.block_until_ready(programs[name](*arguments))
  for _ in range(repeats):
    for name, (_, arguments) in forms.items():
      cpu, wall = time.process_time(), time.perf_counter()
      jax.block_until_ready(programs[name](*arguments))
      times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
  base = None
  for name, pairs in times.items():
    wall, cpu = min(pair[0] for pair in pairs), float(np.quantile([pair[1] for pair in pairs], 0.25))
    base = base or (wall, cpu)
    rows[name] |= {
      'wall_ms': round(1e3 * wall, 2),
      'cpu_ms': round(1e3 * cpu, 2),
      'gflop_s': round(flops / wall / 1e9, 1),
    }
    rows[name] |= {'wall_ratio': round(base[0] / wall, 2), 'cpu_ratio': round(base[1] / cpu, 2)}
  return rows


def normal(seed: int, *shape: int) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), shape)


def layer_cases(window: int, repeats: int) -> dict[str, dict]:
  """Dense convolution, norm + SiLU, and their fused forms, at the two finest levels of the preset `lh`."""
  cases = {}
  for channels, side in ((48, window // 2), (64, window // 4)):
    x, kernel = normal(0, 1, side, side, channels), normal(1, 3, 3, channels, channels) / (9 * channels) ** 0.5
    scale, bias = normal(2, channels), normal(3, channels)
    flops = 18.0 * channels**2 * side**2
    dense = functools.partial(
      lax.conv_general_dilated, window_strides=(1, 1), padding='SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    norm = layers.make_norm('layer')

    def norm_silu(x, scale, bias, norm=norm):
      return jax.nn.silu(norm.apply({'params': {'scale': scale, 'bias': bias}}, x))

    forms = {'dense convolution': (dense, (x, kernel)), 'norm + SiLU': (norm_silu, (x, scale, bias))}
    cases[f'parts, {channels} channels, {side}x{side}'] = race(forms, flops=flops, repeats=repeats)
    fused = functools.partial(convolution.norm_silu_conv, epsilon=layers.EPSILON)
    forms = {
      method: (functools.partial(fused, method=method), (x, (scale, bias), (kernel, bias), x)) for method in METHODS
    }
    cases[f'norm, SiLU, convolution, residual, {channels} channels, {side}x{side}'] = race(
      forms, flops=flops, repeats=repeats
    )
  return cases


def network_cases(window: int, repeats: int) -> dict[str, dict]:
  """Encoder and decoder of the preset `lh`; the rate counts the multiply-adds of the direct form twice."""
  model = vae.build(preset='lh')
  params = model.init(jax.random.key(0))
  image, z = normal(0, 1, window, window, 3), normal(1, 1, window // 8, window // 8, 32)
  cases = {}
  for part, network, x in (('encode', 'encoder', image), ('decode', 'decoder', z)):
    weights = params[network]
    flops = 2.0 * summary.multiply_adds(getattr(model, part), weights, x)
    forms = {method: (getattr(dataclasses.replace(model, conv=method), part), (weights, x)) for method in METHODS}
    cases[f'{part} {window}x{window}'] = race(forms, flops=flops, repeats=repeats)
  return cases


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--window', type=int, default=1024, help='side of the image in pixels, a multiple of 8')
  parser.add_argument('--repeats', type=int, default=7)
  parser.add_argument('--output', type=pathlib.Path, help='write the numbers to this JSON file')
  options = parser.parse_args(arguments)
  report: dict[str, Any] = {
    'device': jax.devices()[0].device_kind,
    'cores': os.cpu_count(),
    'load_before': round(os.getloadavg()[0], 1),
    'jax': jax.__version__,
    'jaxlib': jaxlib.__version__,
    'repeats': options.repeats,
  }
  print(report)
  report['cases'] = layer_cases(options.window, options.repeats) | network_cases(options.window, options.repeats)
  for case, rows in report['cases'].items():
    print(case)
    for name, row in rows.items():
      print(f'  {name:18s}', ', '.join(f'{key} {value}' for key, value in row.items()))
  if options.output:
    options.output.write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
  main()
