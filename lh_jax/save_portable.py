"""Writes portable models: `python -m lh_jax.save_portable CHECKPOINT -o FILE --size 3840x2160`.

The file holds the programs of a model for some image sizes and its parameters, once; `lh_jax.portable` says what stands
where, and runs it without the code of the model. The programs are the same as those of `Restorer`, lowered for several
platforms, not yet compiled. Writing the same model twice gives the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import sys
import time
from typing import Any
import zipfile

import jax
import jax.export
import numpy as np

import lh_jax
from lh_jax import inference
from lh_jax import memory
from lh_jax import options as options_lib
from lh_jax import planning
from lh_jax import portable
from lh_jax import programs as programs_lib
from lh_jax.data import unfinished

PIXELS = ('uint8', 'uint16', 'float32')
PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
DEFAULT_PLATFORMS = ('cpu', 'cuda', 'tpu')
DEFAULT_TILE = 1024


def save(
  path: str | os.PathLike[str],
  programs: programs_lib.Programs,
  sizes: Sequence[tuple[int, int]],
  *,
  tile: Sequence[int | str] = (DEFAULT_TILE,),
  dtype: str = 'auto',
  pixels: Sequence[str] = ('uint8',),
  platforms: Sequence[str] = DEFAULT_PLATFORMS,
  licence: str = '',
) -> None:
  """Writes a portable model. The file appears whole or not at all, in the place of an older one.

  Args:
    path: the file.
    programs: the model.
    sizes: (width, height) of the images that it shall restore.
    tile: pixels that a window yields on a side, or 'full' (see `Restorer.run`); the windows of further ones are used
      where memory does not suffice for those of the first.
    dtype: of the activations. 'auto' is float32 on CPUs and bfloat16 elsewhere, chosen where the file is loaded. With
      bfloat16 the float32 programs are there too: a window that is not finite is computed again by them.
    pixels: types of the images, some of `PIXELS`.
    platforms: some of `PLATFORMS`.
    licence: of the parameters, kept in the manifest.

  Raises:
    ValueError: an unknown value, no size, or tiles for a VAE that is not local.
  """
  path = pathlib.Path(path)
  _check('dtype', [dtype], options_lib.DTYPES)
  _check('pixels', pixels, PIXELS)
  _check('platforms', platforms, PLATFORMS)
  held = {}  # cells of the latent: windows
  for size in sizes:
    cells = programs.geometry.cells(size[::-1])
    held[cells] = _windows(programs, cells, tile)
  if not held:
    raise ValueError('A portable model needs at least one image size: --size 3840x2160.')
  names, leaves = _flat(jax.device_get(programs.params))
  weights = io.BytesIO()
  np.savez(weights, **dict(zip(names, leaves)))
  entries, listed = {portable.WEIGHTS: weights.getvalue()}, []
  for program in _programs(held, dtype, pixels, platforms):
    lowered = program.pop('platforms')
    entries[program['file']] = _export(programs, program, lowered)
    listed.append(program)
  manifest = {
    'kind': portable.KIND,
    'format': portable.FORMAT,
    'lh_jax': lh_jax.__version__,
    'jax': jax.__version__,
    'calling_convention': jax.config.jax_export_calling_convention_version,
    'licence': licence,
    'geometry': programs.geometry._asdict(),
    'alpha': inference.DEFAULT_ALPHA,
    'dtype': dtype,
    'pixels': list(pixels),
    'platforms': list(platforms),
    'sizes': [{'size': list(size), 'windows': held[programs.geometry.cells(size[::-1])]} for size in sizes],
    'programs': listed,
    'sha256': {name: hashlib.sha256(data).hexdigest() for name, data in entries.items()},
  }
  _write(path, {portable.MANIFEST: json.dumps(manifest, indent=2).encode()} | entries)


def _check(name: str, values: Sequence[str], known: Sequence[str]) -> None:
  wrong = [value for value in values if value not in known]
  if wrong or not values:
    raise ValueError(f'{name} must be some of {", ".join(known)}; got {", ".join(map(str, wrong)) or "none"}.')


def _windows(
  programs: programs_lib.Programs, cells: tuple[int, int], tile: Sequence[int | str]
) -> list[tuple[int, int]]:
  """The windows of an image, each once."""
  found = []
  for choice in tile:
    if choice == 'auto':
      raise ValueError("tile must be 'full' or a number of pixels: what fits is not known on another machine.")
    window = planning.choose_window(programs, cells, np.uint8, tile=choice, max_memory=None)
    preset = programs.networks.vae.preset
    if window != cells and not preset.local:
      raise ValueError(f'This VAE takes in the whole image ({preset.global_parts}): export it with --tile full.')
    if window not in found:
      found.append(window)
  return found


def _programs(
  held: dict[tuple[int, int], list[tuple[int, int]]], dtype: str, pixels: Sequence[str], platforms: Sequence[str]
) -> Iterator[dict[str, Any]]:
  """What the manifest says of each program, and the platforms that need it."""
  accelerators = [platform for platform in platforms if platform != 'cpu']
  wanted = {'float32': platforms}
  if dtype != 'float32' and (bfloat16 := platforms if dtype == 'bfloat16' else accelerators):
    wanted['bfloat16'] = bfloat16
  shapes = [('restore', *cells, None) for cells in held]
  distinct = dict.fromkeys(window for found in held.values() for window in found)
  shapes += [(stage, *window, kind) for window in distinct for stage in ('encode', 'decode') for kind in pixels]
  for activations, lowered in wanted.items():
    for stage, rows, columns, kind in shapes:
      words = [stage, f'{columns}x{rows}', *([kind] if kind else []), activations]
      yield {
        'file': f'programs/{"-".join(words)}',
        'stage': stage,
        'rows': rows,
        'columns': columns,
        'pixels': kind,
        'dtype': activations,
        'platforms': list(lowered),
      }


def _export(programs: programs_lib.Programs, program: dict[str, Any], platforms: Sequence[str]) -> bytes:
  """Lowers and serialises one program; its first argument is the list of the parameters."""
  networks = programs.networks.with_dtype(inference.DTYPES[program['dtype']])
  stage = program['stage']
  fn, arguments = programs_lib.piece(networks, stage, program['rows'], program['columns'], program['pixels'])
  leaves, tree = jax.tree.flatten(programs_lib.abstract(programs.params))

  def of_list(leaves: list[jax.Array], *arguments: jax.Array) -> tuple[jax.Array, jax.Array]:
    return fn(jax.tree.unflatten(tree, leaves), *arguments)

  of_list.__name__ = stage
  with _without_places():
    return bytes(jax.export.export(jax.jit(of_list), platforms=platforms)(leaves, *arguments).serialize())


@contextlib.contextmanager
def _without_places() -> Iterator[None]:
  """Keeps the places in the source, with the folders of this machine, out of what is lowered."""
  before = jax.config.jax_traceback_in_locations_limit
  jax.config.update('jax_traceback_in_locations_limit', 0)
  try:
    yield
  finally:
    jax.config.update('jax_traceback_in_locations_limit', before)


def _flat(params: Any) -> tuple[list[str], list[np.ndarray]]:
  """Names and arrays of the parameters, in the order of `jax.tree.leaves`."""
  found, _ = jax.tree.flatten_with_path(params)
  return ['/'.join(str(key.key) for key in path) for path, _ in found], [np.asarray(leaf) for _, leaf in found]


def _write(path: pathlib.Path, entries: dict[str, bytes]) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with unfinished.replacing(path) as begun, zipfile.ZipFile(begun, 'w', zipfile.ZIP_STORED) as archive:
    for name, data in entries.items():
      # Without a date, so that the same model gives the same file.
      archive.writestr(zipfile.ZipInfo(name), data)


def parse_image_size(text: str) -> tuple[int, int]:
  """Returns the (width, height) that '3840x2160' names.

  Raises:
    argparse.ArgumentTypeError: it names none.
  """
  match = re.fullmatch(r'([1-9][0-9]*)x([1-9][0-9]*)', text)
  if not match:
    raise argparse.ArgumentTypeError(f'{text!r} is no image size; write it like 3840x2160, width x height')
  return int(match[1]), int(match[2])


def parse_tile(text: str) -> int | str:
  """Returns the tile that 'full' or '1024' names.

  Raises:
    argparse.ArgumentTypeError: it names none.
  """
  if text != 'full' and not re.fullmatch('[1-9][0-9]*', text):
    raise argparse.ArgumentTypeError(f'{text!r} is no tile; write full, or a number of pixels')
  return text if text == 'full' else int(text)


def parser() -> argparse.ArgumentParser:
  """Returns the command line's options."""
  found = argparse.ArgumentParser(
    prog='python -m lh_jax.save_portable',
    description='Write a trained model, for images of certain sizes, to one file that runs without its code '
    '(lh_jax.portable).',
    allow_abbrev=False,
  )
  add = found.add_argument
  add('checkpoint', metavar='CHECKPOINT', help='work directory of a finished run, or its export folder')
  add('-o', '--output', metavar='FILE', required=True, help='file to write')
  add(
    '--size',
    metavar='WIDTHxHEIGHT',
    required=True,
    action='append',
    type=parse_image_size,
    help='size of the images in pixels; may be given several times',
  )
  add(
    '--tile',
    metavar='PIXELS|full',
    nargs='+',
    type=parse_tile,
    default=[DEFAULT_TILE],
    help=f'pixels on a side that are computed at once (default {DEFAULT_TILE}); further, smaller ones are used where '
    'memory does not suffice',
  )
  add(
    '--dtype',
    choices=options_lib.DTYPES,
    default='auto',
    help='of the activations; auto: float32 on CPUs, bfloat16 elsewhere',
  )
  add('--pixels', nargs='+', choices=PIXELS, default=['uint8'], help='types of the images (default uint8)')
  add(
    '--platforms',
    nargs='+',
    choices=PLATFORMS,
    default=list(DEFAULT_PLATFORMS),
    help=f'where it shall run (default {" ".join(DEFAULT_PLATFORMS)})',
  )
  add('--licence', metavar='TEXT', default='', help='of the weights, kept in the file')
  return found


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    arguments: of the command line, without the program's name; None takes those of the process.

  Returns:
    The exit status, 0. An error ends the process with 2.
  """
  options = parser()
  found = options.parse_args(arguments)
  started = time.perf_counter()
  try:
    restorer = inference.Restorer.from_pretrained(found.checkpoint, dtype='float32')
    save(
      found.output,
      restorer.programs,
      found.size,
      tile=found.tile,
      dtype=found.dtype,
      pixels=found.pixels,
      platforms=found.platforms,
      licence=found.licence,
    )
  except (ValueError, OSError) as error:
    options.error(str(error))
  size = memory.in_words(pathlib.Path(found.output).stat().st_size)
  print(f'wrote {found.output} ({size}) in {time.perf_counter() - started:.1f} s')
  return 0


if __name__ == '__main__':
  sys.exit(main())
