"""Memory and roofline time of 4K and 8K inference on GPUs that are not there: compiled for their data sheets, not run.

  python -m venv cuda && . cuda/bin/activate
  pip install jax==0.10.2 flax==0.12.8 optax ml-collections numpy safetensors pillow absl-py
  pip install --no-deps jax-cuda12-plugin==0.10.2 jax-cuda12-pjrt==0.10.2
  PYTHONPATH=. python experiments/aot_gpu.py -o experiments/results/aot_gpu.json

No driver, CUDA toolkit or cuDNN is needed to compile. Programs of the default model (configs/base.py): the whole image,
and the three of tiled inference: encode a window, restore the whole latent, decode a window.

What the numbers cover. Peak: arguments (parameters and image), result and temporaries, as XLA allocates them; neither
the CUDA context nor the scratch of cuDNN and cuFFT, which is chosen on the card. Operations and bytes: see `hlo_costs`.
Roofline: the larger of operations / peak rate and bytes / bandwidth over a program, as if all kernels overlapped; 'by
kernel' adds up that bound kernel by kernel, as they run one after another. Both are lower bounds.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import importlib.metadata
import json
import math
import pathlib
import platform
import runpy
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

import gpu_cards
import hlo_costs
import lh_jax
from lh_jax import networks as networks_lib
from lh_jax import programs as programs_lib
from lh_jax.models import summary
from lh_jax.ops import tiles

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAPER_SECONDS = 0.43  # Table 5b, measured on:
PAPER_CASE = (gpu_cards.CARDS['rtx3090'].title, '4K')
SIZES = {'4K': (2160, 3840), '8K': (4320, 7680)}
DTYPES = {'bfloat16': jnp.bfloat16, 'float32': jnp.float32}
LARGE = 2**20  # Bytes of a buffer worth listing.
PACKAGES = ('jax', 'jaxlib', 'jax-cuda12-plugin', 'jax-cuda12-pjrt', 'flax', 'numpy')
# Without a card nothing can be timed, so algorithms are not chosen by timing either.
COMPILER_OPTIONS = {'xla_gpu_autotune_level': '0'}


@dataclasses.dataclass(frozen=True)
class Program:
  """A function to compile: its arguments' shapes, and how often one image runs it."""

  size: str
  mode: str
  name: str
  function: Callable[..., Any]
  shapes: tuple[Any, ...]
  runs: int


def device(card: gpu_cards.Card) -> Any:
  """Returns a device to compile for.

  Raises:
    SystemExit: the CUDA plugin is not installed.
  """
  try:
    description = topologies.get_topology_desc(
      '', 'cuda', target_config=gpu_cards.target_config(card), topology='1x1x1'
    )
  except NotImplementedError as error:
    raise SystemExit(f'The CUDA plugin is missing ({error}): install what the docstring of {__file__} lists.') from None
  return description.devices[0]


def programs(networks: networks_lib.Networks, size: str, *, tile: int) -> list[Program]:
  """Returns the whole-image program of a size and the three that `lh_jax.windows` runs on tiles.

  Args:
    networks: of the model.
    size: a name in SIZES.
    tile: side of the part of a window that is kept, in pixels; images are 8-bit.
  """
  geometry = programs_lib.geometry_of(networks.vae.preset)
  cells = geometry.cells(SIZES[size])
  window = tiles.window_for(cells, geometry, core=-(-tile // geometry.factor))
  params = jax.eval_shape(networks.init, jax.random.key(0))

  def whole(params: Any, alpha: jax.Array, pixels: jax.Array) -> jax.Array:
    image = networks.restore(params, programs_lib.to_unit_range(pixels), alpha)
    return programs_lib.from_unit_range(image, jnp.uint8)

  _, shapes = programs_lib.piece(networks, 'encode', *cells, jnp.uint8)
  found = [Program(size, 'whole', 'whole image', whole, (params, *shapes), 1)]
  halos = {'encode': geometry.encoder_halo, 'decode': geometry.decoder_halo}
  for stage in programs_lib.STAGES:
    rows, columns = cells if stage == 'restore' else window
    function, shapes = programs_lib.piece(networks, stage, rows, columns, jnp.uint8)
    counts = [
      len(tiles.spans(length, window=side, halo=halos.get(stage, 0))) for length, side in zip(cells, (rows, columns))
    ]
    found.append(
      Program(size, 'tiled', f'{stage} {columns}x{rows} cells', function, (params, *shapes), math.prod(counts))
    )
  return found


def compile_for(program: Program, target: Any | None) -> tuple[jax.stages.Compiled, float]:
  """Compiles a program for a device (None: the present backend); returns it and the seconds it took."""
  shapes, options = program.shapes, {}
  if target is not None:
    sharding = jax.sharding.SingleDeviceSharding(target)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)
    options = {'compiler_options': COMPILER_OPTIONS}
  start = time.perf_counter()
  compiled = jax.jit(program.function).lower(*shapes).compile(**options)
  return compiled, time.perf_counter() - start


def seconds(operations: dict[str, float], moved: int, card: gpu_cards.Card) -> tuple[float, float]:
  """Returns the shortest time of these operations and of these bytes on a card."""
  compute = sum(count / (getattr(card, unit) * 1e12) for unit, count in operations.items())
  return compute, moved / (card.bandwidth * 1e9)


def measure(program: Program, card: gpu_cards.Card, compiled: jax.stages.Compiled) -> dict[str, Any]:
  """Returns the row of a compiled program: bytes, operations, milliseconds of one run, and its largest buffers."""
  memory = compiled.memory_analysis()
  module = hlo_costs.Module(compiled.as_text())
  kernels = module.kernels()
  operations: collections.Counter[str] = sum(
    (collections.Counter(k.operations) for k in kernels), collections.Counter()
  )
  moved = sum(kernel.bytes for kernel in kernels)
  compute, traffic = seconds(operations, moved, card)
  by_kernel = sum(max(seconds(kernel.operations, kernel.bytes, card)) for kernel in kernels)
  sizes = {
    'argument_bytes': memory.argument_size_in_bytes,
    'output_bytes': memory.output_size_in_bytes,
    'temp_bytes': memory.temp_size_in_bytes,
  }
  return {
    'card': card.title,
    'size': program.size,
    'mode': program.mode,
    'program': program.name,
    'runs': program.runs,
    **sizes,
    'peak_bytes': sum(sizes.values()) - memory.alias_size_in_bytes,
    'operations': {unit: round(operations[unit]) for unit in hlo_costs.UNITS},
    # A new function: one that was compiled before is not traced, and not counted, again.
    'model_operations': 2 * summary.multiply_adds(lambda *shapes: program.function(*shapes), *program.shapes),
    'bytes_moved': moved,
    'compute_ms': 1e3 * compute,
    'traffic_ms': 1e3 * traffic,
    'roofline_ms': 1e3 * max(compute, traffic),
    'by_kernel_ms': 1e3 * by_kernel,
    'kernels': len(kernels),
    'largest_at_peak': [dataclasses.asdict(b) for b in module.live_at_peak()[:5] if b.bytes >= LARGE],
  }


def totals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Sums the programs of each image: the largest peak, and the times of all runs."""
  groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
  for row in rows:
    groups.setdefault((row['card'], row['size'], row['mode']), []).append(row)
  return [
    {
      **dict(zip(('card', 'size', 'mode'), key)),
      'peak_bytes': max(row['peak_bytes'] for row in group),
      'roofline_ms': sum(row['runs'] * row['roofline_ms'] for row in group),
      'by_kernel_ms': sum(row['runs'] * row['by_kernel_ms'] for row in group),
    }
    for key, group in groups.items()
  ]


def table(rows: list[dict[str, Any]]) -> str:
  """Formats rows of programs, or of totals, as Markdown."""
  columns = {
    'card': lambda row: row['card'].removeprefix('NVIDIA ').removeprefix('GeForce '),
    'image': lambda row: f'{row["size"]} {row["mode"]}',
    'program': lambda row: row['program'],
    'runs': lambda row: str(row['runs']),
    'peak GB': lambda row: f'{row["peak_bytes"] / 1e9:.2f}',
    'temp GB': lambda row: f'{row["temp_bytes"] / 1e9:.2f}',
    'TFLOP': lambda row: f'{sum(row["operations"].values()) / 1e12:.3f}',
    'GB moved': lambda row: f'{row["bytes_moved"] / 1e9:.2f}',
    'roofline ms': lambda row: f'{row["roofline_ms"]:.2f}',
    'by kernel ms': lambda row: f'{row["by_kernel_ms"]:.2f}',
    'compile s': lambda row: f'{row["compile_seconds"]:.1f}',
  }
  if 'program' not in rows[0]:
    columns = {name: columns[name] for name in ('card', 'image', 'peak GB', 'roofline ms', 'by kernel ms')}
    columns[f'of the {PAPER_SECONDS} s'] = lambda row: (
      f'{row["by_kernel_ms"] / (10 * PAPER_SECONDS):.0f} %' if (row['card'], row['size']) == PAPER_CASE else ''
    )
  lines = [list(columns), ['---'] * len(columns), *([cell(row) for cell in columns.values()] for row in rows)]
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def main(arguments: list[str] | None = None) -> None:
  """Compiles everything, prints the tables, writes the JSON file."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--cards', nargs='+', choices=gpu_cards.CARDS, default=list(gpu_cards.CARDS))
  parser.add_argument('--sizes', nargs='+', choices=SIZES, default=list(SIZES))
  parser.add_argument('--tile', type=int, default=1024, help='kept side of a window, in pixels')
  parser.add_argument('--dtype', choices=DTYPES, default='bfloat16', help='of the activations')
  parser.add_argument('-o', '--output', type=pathlib.Path, help='JSON file to write')
  options = parser.parse_args(arguments)

  # The plugin compiles without a driver, but JAX must not look for a GPU to run on.
  jax.config.update('jax_platforms', 'cpu')
  config = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  sections = {name: config[name].to_dict() for name in networks_lib.SECTIONS}
  networks = networks_lib.build(sections, dtype=DTYPES[options.dtype])
  rows = []
  for name in options.cards:
    card, done = gpu_cards.CARDS[name], {}
    target = device(card)
    for program in (p for s in options.sizes for p in programs(networks, s, tile=options.tile)):
      # Windows of one shape serve every size.
      key = (program.name, str(program.shapes))
      if key not in done:
        done[key] = compile_for(program, target)
      compiled, elapsed = done[key]
      rows.append(measure(program, card, compiled) | {'compile_seconds': elapsed})
      print(table(rows[-1:]).splitlines()[-1], flush=True)
  print('\n' + table(rows) + '\n\n' + table(totals(rows)))
  if options.output:
    report = {
      'lh_jax': lh_jax.__version__,
      'versions': {'python': platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
      'compiled_for': {'cuda': gpu_cards.CUDA, 'cudnn': gpu_cards.CUDNN, **COMPILER_OPTIONS},
      'dtype': options.dtype,
      'tile': options.tile,
      'paper_seconds': PAPER_SECONDS,
      'cards': {name: dataclasses.asdict(gpu_cards.CARDS[name]) for name in options.cards},
      'totals': totals(rows),
      'programs': rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
  main()
