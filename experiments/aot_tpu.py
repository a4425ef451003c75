"""Memory, work and communication of training and of 4K and 8K inference on TPU slices that are not there: compiled for
them on a machine without one, not run.

  python -m venv tpu && . tpu/bin/activate
  pip install jax==0.10.2 'libtpu==0.0.42.*' flax==0.12.8 optax==0.2.8 ml-collections numpy safetensors pillow absl-py \
    imagecodecs tifffile
  PYTHONPATH=. python experiments/aot_tpu.py -o experiments/results/aot_tpu.json [--chips v5e] [--all] [--only TEXT]

An environment of its own: where libtpu is installed, every other import of jax complains. The file of results grows by
one row a program with the git revision that it was compiled from; what it has is not compiled again. libtpu 0.0.42 is the one that jax 0.10.2 names. Compiled with
little optimisation (--effort -1), which takes a fraction of the time; the compiler's own default (--effort 0) gives other
memory, program size and traffic, either way.

Training is at the paper's settings (configs/base.py): weak scaling keeps the paper's images a device (16 and 8 on
four), strong scaling keeps its global batch, and beyond one image a chip splits the rows of each over 'space'.
Inference splits one image's rows over the slice.

What the numbers are. Memory: arguments, results, temporaries and the program itself, of one chip. Operations and
bytes: XLA's own counts, of one chip. Sent: bytes that a chip sends at least if every collective is a ring. Times are
lower bounds from published rates: operations / peak rate, bytes / memory bandwidth, sent / the links of the slice
(a torus only along axes that are long enough to close), and for each collective the hops to the farthest chip (there
and back for an all-reduce) at a microsecond each.
Efficiency is the larger of the first two over that plus all communication, as if nothing overlapped.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import runpy
import time
from typing import Any

import jax
from jax.experimental import topologies
import jax.numpy as jnp
import numpy as np

import hlo_collectives
import lh_jax
from lh_jax import networks as networks_lib
from lh_jax import parallel
from lh_jax import programs as programs_lib
from lh_jax.stages import build
import records
import tpu_slices

ROOT = pathlib.Path(__file__).resolve().parents[1]
PHASES = {'stage 1': 'stage1', 'restorer': 'stage2', 'encoder_lora': 'stage2', 'decoder_lora': 'stage2'}
SCALE = 'scale_0.5'  # Of L_Eqv; the six differ in the size of one small decoding.
PAPER_DEVICES = 4
SIZES = {'4K': (2160, 3840), '8K': (4320, 7680)}
HOP_SECONDS = 1e-6  # Austin et al., "How to Scale Your Model" (2025): about a microsecond a hop.
PACKAGES = ('jax', 'jaxlib', 'libtpu', 'flax', 'optax', 'numpy')
README_MARKS = ('<!-- aot_tpu: written by aot_tpu.py --readme -->', '<!-- end of aot_tpu -->')
# As if on a TPU machine; nothing is asked for over the network.
ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'JAX_PLATFORMS': 'cpu',
}


@dataclasses.dataclass(frozen=True)
class Case:
  """A program on a slice.

  Attributes:
    program: a name in PHASES, or a size and a stage of inference, '4K encode'.
    chip: a name in `tpu_slices.CHIPS`.
    chips: of the slice.
    scaling: 'weak' or 'strong'; 'space' for inference.
    fsdp: devices along the axis 'fsdp'.
    space: devices along the axis 'space', in training.
  """

  program: str
  chip: str
  chips: int
  scaling: str = 'weak'
  fsdp: int = 1
  space: int = 1

  @property
  def key(self) -> str:
    space = f' | space {self.space}' if self.space > 1 else ''
    return f'{self.program} | {self.chip}-{self.chips} | {self.scaling} | fsdp {self.fsdp}{space}'


def cases(every: bool) -> list[Case]:
  """Returns what is compiled: the default set, or all of it, the most telling first."""
  others = [name for name in tpu_slices.CHIPS if name != 'v5e']
  images = [f'{size} {stage}' for size in SIZES for stage in programs_lib.STAGES]
  found = [Case(p, 'v5e', n) for p in PHASES for n in (4, 256)]
  found += [Case('restorer', 'v5e', 16, fsdp=f) for f in (16, 4)]
  found += [Case('stage 1', 'v5e', 16, fsdp=16)]
  found += [Case('stage 1', 'v5e', 16, 'strong'), Case('restorer', 'v5e', 8, 'strong')]
  found += [Case('stage 1', 'v5e', 64, 'strong', space=4), Case('restorer', 'v5e', 32, 'strong', space=4)]
  found += [Case(p, c, 256) for c in others for p in PHASES]
  found += [Case(image, 'v5e', 8, 'space') for image in images if image.startswith('4K')]
  found += [Case(image, 'v5e', 4, 'space') for image in images if image.startswith('8K')]
  found += [Case(p, 'v5e', n) for n in (16, 64) for p in PHASES]
  found += [Case(image, c, 4, 'space') for c in others for image in images if image.startswith('8K')]
  found += [Case(p, c, 4) for c in others for p in PHASES]
  if every:
    found += [Case(p, c, n) for n in (16, 64) for c in others for p in PHASES]
    found += [Case(p, c, n, 'strong') for c in tpu_slices.CHIPS for p in PHASES for n in (4, 8, 16)]
    found += [Case(p, c, 16, fsdp=f) for c in tpu_slices.CHIPS for p in PHASES for f in (4, 16)]
    found += [Case(image, c, n, 'space') for c in tpu_slices.CHIPS for image in images for n in (4, 8, 16)]
  return [
    case for case in dict.fromkeys(found) if case.scaling != 'strong' or not _batch(case) * case.space % case.chips
  ]


def _batch(case: Case) -> int:
  """The global batch."""
  config = _config()
  batch = config[PHASES[case.program]].batch_size
  return batch if case.scaling == 'strong' else batch * case.chips // PAPER_DEVICES


def _config() -> Any:
  return runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()


def devices_of(chip: tpu_slices.Chip, chips: int) -> list[Any]:
  """Returns the devices of a slice to compile for.

  Raises:
    SystemExit: libtpu is not installed.
  """
  topology = f'{chip.name.removeprefix("TPU ")}:{chip.slices[chips]}'
  try:
    return list(topologies.get_topology_desc(topology_name=topology, platform='tpu', **chip.options).devices)
  except (NotImplementedError, RuntimeError) as error:
    raise SystemExit(f'No slice {topology} ({error}): install what the docstring of {__file__} lists.') from None


def compile_training(config: Any, case: Case, devices: list[Any], dtype: Any = jnp.bfloat16) -> jax.stages.Compiled:
  """Compiles one step function, as `train.Loop` does, for the devices of a slice."""
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS}, dtype=dtype)
  mesh = parallel.make_mesh(fsdp=case.fsdp, space=case.space, devices=devices)
  stage = build.build(PHASES[case.program], config, networks)
  batch_size = _batch(case)
  crop = config[stage.name].crop_size
  parallel.check_batch(batch_size, crop, mesh, rows=networks.least_rows)
  key = jax.random.key(0)
  state = jax.eval_shape(stage.init, key)
  state = parallel.abstract_like(state, parallel.state_shardings(mesh, state))
  frozen = jax.eval_shape(networks.init_vae, key)
  if (model := build.foundation(config, stage.name)) is not None:
    frozen['foundation'] = model.abstract_params()
  frozen = parallel.abstract_like(frozen, jax.tree.map(lambda _: parallel.replicated(mesh), frozen))
  shape = (batch_size, crop, crop, 3)
  image = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=parallel.image_sharding(mesh))
  step = stage.steps[SCALE if stage.name == 'stage1' else case.program]
  return parallel.compile_step(step, state, frozen, {'clean': image, 'degraded': image})[0]


def compile_inference(config: Any, case: Case, devices: list[Any], dtype: Any = jnp.bfloat16) -> jax.stages.Compiled:
  """Compiles one stage of a restoration, as `programs.Programs` does, for the devices of a slice."""
  networks = networks_lib.build({name: config[name].to_dict() for name in networks_lib.SECTIONS}, dtype=dtype)
  size, stage = case.program.split()
  cells = programs_lib.geometry_of(networks.vae.preset).cells(SIZES[size])
  function, arguments = programs_lib.piece(networks, stage, *cells, jnp.uint8)
  mesh = parallel.Mesh(np.asarray(devices), (parallel.SPACE_AXIS,))
  return parallel.compile_over_space(function, mesh, jax.eval_shape(networks.init, jax.random.key(0)), arguments)


def measure(case: Case, compiled: jax.stages.Compiled) -> dict[str, Any]:
  """Returns the row of a compiled program: bytes, operations, collectives and lower bounds of times, for one chip.

  Raises:
    MemoryError: it does not fit the chip.
  """
  chip = tpu_slices.CHIPS[case.chip]
  memory = compiled.memory_analysis()
  costs = compiled.cost_analysis()
  costs = costs if isinstance(costs, dict) else costs[0]
  found = hlo_collectives.collectives(compiled.as_text(), case.chips)
  sizes = {
    'argument_bytes': memory.argument_size_in_bytes,
    'output_bytes': memory.output_size_in_bytes,
    'temp_bytes': memory.temp_size_in_bytes,
    'code_bytes': memory.generated_code_size_in_bytes,
  }
  peak = sum(sizes.values()) - memory.alias_size_in_bytes
  if peak > chip.memory_bytes:
    raise MemoryError(f'{case.key} takes {peak} bytes, the chip has {chip.memory_bytes}.')
  row = dataclasses.asdict(case) | sizes | {'peak_bytes': peak, 'of_memory': round(peak / chip.memory_bytes, 4)}
  row |= {'operations': costs['flops'], 'bytes_accessed': costs['bytes accessed']}
  row |= {'collectives': hlo_collectives.totals(found), 'largest': hlo_collectives.largest(found, 3)}
  return row | times(row)


def times(row: dict[str, Any]) -> dict[str, float]:
  """Returns lower bounds in milliseconds, and the efficiency, of a row."""
  chip, kinds = tpu_slices.CHIPS[row['chip']], row['collectives']
  sent = sum(kind['sent'] for kind in kinds.values())
  far = sum(side // 2 if chip.closes(side) else side - 1 for side in chip.sides(row['chips']))
  hops = sum(kind['count'] * far * (2 if name == 'all-reduce' else 1) for name, kind in kinds.items())
  compute, memory = row['operations'] / (chip.bf16 * 1e9), row['bytes_accessed'] / (chip.bandwidth * 1e6)
  links = sent / (tpu_slices.ring_bandwidth(chip, row['chips']) * 1e6)
  latency = hops * HOP_SECONDS * 1e3
  alone = max(compute, memory)
  found = {'compute_ms': compute, 'memory_ms': memory, 'links_ms': links, 'latency_ms': latency}
  found = {name: round(value, 4) for name, value in found.items()}
  return found | {'efficiency': round(alone / (alone + links + latency), 4)}


def table(rows: list[dict[str, Any]]) -> str:
  """Formats rows as Markdown."""
  columns = {
    'slice': lambda r: f'{r["chip"]}-{r["chips"]}',
    'program': lambda r: ', '.join(
      [r['program'], *(f'{axis} {r[axis]}' for axis in ('fsdp', 'space') if r.get(axis, 1) > 1)]
    ),
    'scaling': lambda r: r['scaling'],
    'peak GB': lambda r: f'{r["peak_bytes"] / 1e9:.2f}',
    'of HBM': lambda r: f'{r["of_memory"]:.0%}',
    'GFLOP': lambda r: f'{r["operations"] / 1e9:.0f}',
    'GB read, written': lambda r: f'{r["bytes_accessed"] / 1e9:.1f}',
    'collectives': lambda r: ', '.join(f'{v["count"]} {k}' for k, v in r['collectives'].items()) or 'none',
    'MB sent': lambda r: f'{sum(v["sent"] for v in r["collectives"].values()) / 1e6:.1f}',
    'ms compute, memory, links, hops': lambda r: ', '.join(
      f'{r[name]:.2f}' for name in ('compute_ms', 'memory_ms', 'links_ms', 'latency_ms')
    ),
    'efficiency': lambda r: f'{r["efficiency"]:.0%}',
    'compile s': lambda r: f'{r["compile_seconds"]:.0f}',
  }
  lines = ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
  return '\n'.join(lines + ['| ' + ' | '.join(f(row) for f in columns.values()) + ' |' for row in rows])


def main(arguments: list[str] | None = None) -> None:
  """Compiles, prints and writes."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--chips', nargs='+', choices=tpu_slices.CHIPS, default=list(tpu_slices.CHIPS))
  parser.add_argument('--all', action='store_true', help='every program, chip and size: hours')
  parser.add_argument('--only', default='', help='only cases whose name contains this; --list shows the names')
  parser.add_argument('--list', action='store_true', help='print the names of the cases and stop')
  parser.add_argument('--effort', type=float, default=-1.0, help='of the compiler, -1 to 1; 0 is its own default')
  parser.add_argument('-o', '--output', type=pathlib.Path, help='JSON file to write, and to go on with')
  parser.add_argument('--readme', action='store_true', help='compile nothing; write the table of OUTPUT to README.md')
  options = parser.parse_args(arguments)
  if options.readme and not options.output:
    parser.error('--readme takes its rows from --output')
  if options.readme:
    found = json.loads(options.output.read_text(encoding='utf-8'))['programs']
    # Times are derived, so that they follow `tpu_slices`.
    rows = [row | times(row) for row in found.values()]
    records.write_section(ROOT / 'experiments' / 'README.md', table(rows), README_MARKS)
    return

  wanted = [c for c in cases(options.all) if c.chip in options.chips and options.only in c.key]
  if options.list:
    print('\n'.join(case.key for case in wanted))
    return
  os.environ.update(ENVIRONMENT)
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_enable_compilation_cache', False)
  jax.config.update('jax_exec_time_optimization_effort', options.effort)
  rows = {}
  if options.output and options.output.exists():
    rows = json.loads(options.output.read_text(encoding='utf-8'))['programs']
  versions = {'python': platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES}
  for case in wanted:
    if case.key in rows:
      continue
    devices = devices_of(tpu_slices.CHIPS[case.chip], case.chips)
    started = time.perf_counter()
    compiled = (compile_training if case.program in PHASES else compile_inference)(_config(), case, devices)
    row = measure(case, compiled) | {'compile_seconds': round(time.perf_counter() - started, 1)}
    rows[case.key] = row | {'effort': options.effort, 'revision': records.made_by()['revision']}
    print(table([row]).splitlines()[-1], flush=True)
    if options.output:
      report = {'lh_jax': lh_jax.__version__, 'versions': versions, 'dtype': 'bfloat16', 'compiled_not_run': True}
      report |= {'hop_seconds': HOP_SECONDS, 'chips': {n: dataclasses.asdict(c) for n, c in tpu_slices.CHIPS.items()}}
      options.output.write_text(json.dumps(report | {'programs': rows}, indent=1) + '\n', encoding='utf-8')
  print('\n' + table([rows[case.key] for case in wanted]))


if __name__ == '__main__':
  main()
