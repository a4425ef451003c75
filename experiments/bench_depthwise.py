"""Times the two forms of `lh_jax.models.layers.depthwise_conv` on the present backend, forward and backward.

    python experiments/bench_depthwise.py
    python experiments/bench_depthwise.py --sizes 270x480 --batch 1 --channels 32 --dtype bfloat16

Prints one row per case; a ratio above 1 means that 'shift' is that many times faster than 'conv'. The two forms take
turns within one run, and the best of the repeats counts, so the ratios hold on a machine that others use as well.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lh_jax.models.layers import depthwise_conv

METHODS = ('conv', 'shift')


def parse_size(text: str) -> tuple[int, int]:
  """'128' -> (128, 128), '270x480' -> (270, 480)."""
  sides = [int(side) for side in text.split('x')]
  if len(sides) > 2 or min(sides) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is not a size; give PIXELS or HEIGHTxWIDTH')
  return sides[0], sides[-1]


def backward(x: jax.Array, kernel: jax.Array, gradient: jax.Array, *, method: str) -> tuple[jax.Array, jax.Array]:
  """Gradients of a depthwise convolution with respect to its image and its kernel."""
  _, pullback = jax.vjp(functools.partial(depthwise_conv, method=method), x, kernel)
  return pullback(gradient)


def best_milliseconds(programs: dict[str, Callable[[], jax.Array]], *, repeats: int) -> dict[str, float]:
  """Runs the programs in turns and returns the shortest time of each; the first turn warms up."""
  best = dict.fromkeys(programs, float('inf'))
  for turn in range(repeats + 1):
    for name, program in programs.items():
      start = time.perf_counter()
      jax.block_until_ready(program())
      elapsed = 1e3 * (time.perf_counter() - start)
      best[name] = min(best[name], elapsed) if turn else best[name]
  return best


def measure(batch: int, size: tuple[int, int], channels: int, k: int, *, dtype: str, repeats: int) -> dict[str, float]:
  """Times one case; keys '<method> <direction>' in milliseconds."""
  keys = jax.random.split(jax.random.key(0), 3)
  shape = (batch, *size, channels)
  x, gradient = jax.random.normal(keys[0], shape, dtype), jax.random.normal(keys[1], shape, dtype)
  kernel = jax.random.normal(keys[2], (k, k, 1, channels), jnp.float32)
  programs = {}
  for method in METHODS:
    forward = jax.jit(functools.partial(depthwise_conv, method=method))
    programs[f'{method} forward'] = functools.partial(forward, x, kernel)
    programs[f'{method} backward'] = functools.partial(
      jax.jit(functools.partial(backward, method=method)), x, kernel, gradient
    )
  return best_milliseconds(programs, repeats=repeats)


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--sizes', nargs='+', type=parse_size, default=[(32, 32), (128, 128)], help='PIXELS or HxW')
  parser.add_argument('--channels', nargs='+', type=int, default=[32, 64])
  parser.add_argument('--kernels', nargs='+', type=int, default=[3, 5, 7])
  parser.add_argument('--batch', type=int, default=2)
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
  parser.add_argument('--repeats', type=int, default=5)
  options = parser.parse_args(arguments)

  device = jax.devices()[0]
  print(f'{device.platform}: {device.device_kind}, jax {jax.__version__}, batch {options.batch}, {options.dtype}')
  print(f'{"size":>9} {"channels":>8} {"kernel":>6} | forward ms conv, shift, ratio | backward ms conv, shift, ratio')
  for size, channels, k in itertools.product(options.sizes, options.channels, options.kernels):
    ms = measure(options.batch, size, channels, k, dtype=options.dtype, repeats=options.repeats)
    cells = [f'{size[0]}x{size[1]}'.rjust(9), f'{channels:8d}', f'{k:6d}']
    for direction in ('forward', 'backward'):
      conv, shift = (ms[f'{method} {direction}'] for method in METHODS)
      cells.append(f'| {conv:9.2f} {shift:9.2f} {conv / shift:8.1f} ')
    print(' '.join(cells), flush=True)


if __name__ == '__main__':
  main()
