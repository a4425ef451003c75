"""Where the time of inference goes: every layer of the default VAE by itself, at the size it has in a window.

    python experiments/bench_layers.py -o experiments/results/layers_cpu.json

Each distinct layer is compiled alone and timed (best of the repeats, layers in turns); its share is its time times how
often it occurs. Fusion across layers is lost, so the sum is more than the whole, which is timed beside it.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import platform
import runpy
import time
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import lh_jax
from lh_jax import memory
from lh_jax import networks as networks_lib
from lh_jax.models import layers
from lh_jax.models import vae as vae_lib
from lh_jax.models.vae import convolutional
from lh_jax.ops import resize

ROOT = pathlib.Path(__file__).resolve().parents[1]


def convolution(side: int, c_in: int, c_out: int, kernel: int, stride: int = 1) -> tuple[Any, tuple, int]:
  """A convolution of side x side pixels: function, shapes, operations."""

  def fn(x: jax.Array, k: jax.Array) -> jax.Array:
    padding = 'SAME' if stride == 1 else ((0, 1), (0, 1))
    return jax.lax.conv_general_dilated(x, k, (stride, stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

  operations = 2 * kernel**2 * c_in * c_out * (side // stride) ** 2
  return fn, ((1, side, side, c_in), (kernel, kernel, c_in, c_out)), operations


def norm_silu(side: int, channels: int) -> tuple[Any, tuple, int]:
  """LayerNorm over channels, then SiLU."""
  norm = layers.LayerNorm2d()
  params = norm.init(jax.random.key(0), jnp.zeros((1, 1, 1, channels)))
  return lambda x: nn.silu(norm.apply(params, x)), ((1, side, side, channels),), 0


def layers_of(preset: vae_lib.Preset, window: int) -> collections.Counter:
  """Counts the distinct layers of encoder and decoder on a window: (kind, side, ...)."""
  found = collections.Counter()
  sides = [window // preset.stem // 2**level for level in range(len(preset.channels))]
  found['conv', sides[0], 3 * preset.stem**2, preset.channels[0], 3, 1] += 1
  found['conv', sides[0], preset.channels[0], 3 * preset.stem**2, 3, 1] += 1
  found['conv', sides[-1], preset.latent_channels, preset.channels[-1], 3, 1] += 1
  found['conv', sides[-1], preset.channels[-1], 2 * preset.latent_channels, 1, 1] += 1
  found['norm', sides[0], preset.channels[0]] += 1
  found['norm', sides[-1], preset.channels[-1]] += 1
  for level, (side, channels) in enumerate(zip(sides, preset.channels)):
    blocks = preset.encoder_blocks[level] + preset.decoder_blocks[level]
    found['conv', side, channels, channels, 3, 1] += 2 * blocks
    found['norm', side, channels] += 2 * blocks
    if level:
      finer = preset.channels[level - 1]
      found['conv', sides[level - 1], finer, channels, 3, 2] += 1
      found['conv', side, channels, finer, 1, 1] += 1
      found['bilinear', side, finer] += 1
      found['shuffle down', sides[level - 1], finer, channels] += 1
      found['shuffle up', side, channels, finer] += 1
  return found


def build(kind: str, *sizes: int) -> tuple[Any, tuple, int]:
  """Returns a layer's function, the shapes of its arguments, and its operations (of convolutions only)."""
  if kind == 'conv':
    return convolution(*sizes)
  if kind == 'norm':
    return norm_silu(*sizes)
  side, channels = sizes[:2]
  shape = ((1, side, side, channels),)
  if kind == 'bilinear':
    return resize.upsample_bilinear_2x, shape, 0
  move = layers.space_to_depth if kind == 'shuffle down' else layers.depth_to_space
  return lambda x: convolutional.match_channels(move(x, 2), sizes[2]), shape, 0


def best_seconds(programs: dict[Any, Any], repeats: int) -> dict[Any, float]:
  """Runs the programs in turns; the shortest time of each."""
  best = dict.fromkeys(programs, float('inf'))
  for _ in range(repeats + 1):
    for key, (fn, arguments) in programs.items():
      started = time.perf_counter()
      jax.block_until_ready(fn(*arguments))
      best[key] = min(best[key], time.perf_counter() - started)
  return best


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--window', type=int, default=1024, help='pixels on a side')
  parser.add_argument(
    '--preset', default='lh', choices=[name for name, preset in vae_lib.PRESETS.items() if preset.local]
  )
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('-o', '--output', type=pathlib.Path)
  options = parser.parse_args(arguments)
  memory.keep_freed_pages()

  config = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  config.vae.preset = options.preset
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS})
  model, rng = networks.vae, np.random.default_rng(0)
  counts, operations, programs = layers_of(model.preset, options.window), {}, {}
  for key in counts:
    fn, shapes, operations[key] = build(*key)
    programs[key] = jax.jit(fn), [rng.standard_normal(shape, np.float32) for shape in shapes]
  params = jax.jit(model.init)(jax.random.key(0))
  image = rng.uniform(0, 1, (1, options.window, options.window, 3)).astype(np.float32)
  mean, _ = jax.jit(model.encode)(params['encoder'], image)
  programs['whole encoder'] = jax.jit(model.encode), [params['encoder'], image]
  programs['whole decoder'] = jax.jit(model.decode), [params['decoder'], mean]
  seconds = best_seconds(programs, options.repeats)

  total = sum(seconds[key] * count for key, count in counts.items())
  rows = sorted(
    (
      {
        'layer': ' '.join(map(str, key)),
        'times': count,
        'ms': 1e3 * seconds[key],
        'share': seconds[key] * count / total,
        'gflops_per_sec': operations[key] / seconds[key] / 1e9,
      }
      for key, count in counts.items()
    ),
    key=lambda row: -row['share'],
  )
  print('| layer (side, channels in, out, kernel, stride) | times | ms | share | GFLOP/s |\n|---|---|---|---|---|')
  for row in rows:
    print(f'| {row["layer"]} | {row["times"]} | {row["ms"]:.1f} | {row["share"]:.1%} | {row["gflops_per_sec"]:.0f} |')
  whole = {name: seconds[f'whole {name}'] for name in ('encoder', 'decoder')}
  print(
    f'Layers by themselves {total:.2f} s; whole encoder {whole["encoder"]:.2f} s, decoder {whole["decoder"]:.2f} s.'
  )
  if options.output:
    versions = {'lh_jax': lh_jax.__version__, 'jax': jax.__version__, 'python': platform.python_version()}
    report = {'device': jax.devices()[0].device_kind, 'window': options.window, 'preset': options.preset}
    report |= {'versions': versions, 'seconds_of_all_layers': total, 'seconds_whole': whole, 'layers': rows}
    options.output.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
  main()
