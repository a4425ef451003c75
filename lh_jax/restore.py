"""Files in, files out: what `lh-restore` and --mode=restore do.

Each file succeeds or fails by itself: a bad one is named with its reason and the others are still written. A file is
written under a temporary name and then renamed, so a killed run leaves no half file, and running the same command again
continues with the files that are missing.
"""

from __future__ import annotations

import argparse
import collections
import logging
import pathlib
import sys
import time
from typing import Sequence

from ml_collections import ConfigDict
import numpy as np

from lh_jax import inference
from lh_jax import logs
from lh_jax import parallel
from lh_jax.data import image_files

log = logging.getLogger('lh_jax.restore')


def plan(
  inputs: Sequence[pathlib.Path], output: pathlib.Path, *, recursive: bool
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Pairs every input image with the file to write.

  Args:
    inputs: image files and folders of images.
    output: a file name where the only input is a file, else a folder; a folder's tree is kept below it.
    recursive: also take the images in sub-folders.

  Raises:
    FileNotFoundError: an input does not exist.
    ValueError: several inputs for one output file, an output inside an input folder, or one that cannot be written.
  """
  jobs = []
  names_file = bool(output.suffix) and not output.is_dir()
  for path in inputs:
    if path.is_dir():
      if output.resolve().is_relative_to(path.resolve()):
        raise ValueError(f'The output {output} lies in the input folder {path}: write somewhere else.')
      found = [image for image in image_files.list_images(path) if recursive or image.parent == path]
      jobs += [(image, output / image.relative_to(path)) for image in found]
      if output.is_file():
        raise ValueError(f'The output {output} is a file, and {path} is a folder: name a folder with -o.')
    elif path.is_file():
      if names_file and len(inputs) > 1:
        raise ValueError(f'{len(inputs)} inputs cannot be written to the one file {output}: name a folder with -o.')
      if names_file and output.suffix.lower() not in image_files.WRITABLE:
        known = ', '.join(image_files.WRITABLE)
        raise ValueError(f'{output}: {output.suffix!r} files cannot be written; known: {known}.')
      jobs.append((path, output if names_file else output / path.name))
    else:
      raise FileNotFoundError(f'{path} does not exist.')
  # In folders, what can be read but not written becomes PNG.
  jobs = [(s, t if t.suffix.lower() in image_files.WRITABLE else t.with_suffix('.png')) for s, t in jobs]
  counts = collections.Counter(target for _, target in jobs)
  twice = sorted(str(target) for target, count in counts.items() if count > 1)
  if twice:
    raise ValueError(f'Several inputs would be written to {", ".join(twice)}: restore them into different folders.')
  if not jobs:
    raise ValueError(
      f'No images in {", ".join(map(str, inputs))}{"" if recursive else " (sub-folders need --recursive)"}.'
    )
  return jobs


def restore_files(
  restorer: inference.Restorer,
  jobs: Sequence[tuple[pathlib.Path, pathlib.Path]],
  *,
  alpha: float,
  tile: str,
  overwrite: bool,
) -> int:
  """Restores files one by one.

  Args:
    restorer: the model.
    jobs: (input, output) files, from `plan`.
    alpha: fidelity in [0, 1].
    tile: see `Restorer.restore`.
    overwrite: also restore what has been written already.

  Returns:
    How many files failed.
  """
  failures = []
  for index, (source, target) in enumerate(jobs, 1):
    if target.exists() and not overwrite:
      log.info('[%d/%d] %s exists, skipped (--overwrite writes it again).', index, len(jobs), target)
      continue
    started = time.perf_counter()
    try:
      image = image_files.read_rgb(source)
      restored = restorer.restore(image, alpha=alpha, tile=tile)
      if restored.dtype != np.uint8:
        log.info('[%d/%d] %s has 16 bits; this version writes 8.', index, len(jobs), source)
        restored = image_files.to_uint8(inference.to_unit_range(restored))
      image_files.write_image(target, restored)
    except Exception as error:  # One bad file must not end a batch of thousands; every reason is reported.
      failures.append(f'{source}: {error}')
      log.error('[%d/%d] %s failed: %s', index, len(jobs), source, error)
    else:
      height, width = image.shape[:2]
      log.info(
        '[%d/%d] %s -> %s, %dx%d, %.1f s',
        index,
        len(jobs),
        source,
        target,
        width,
        height,
        time.perf_counter() - started,
      )
  for failure in failures:
    print(f'failed: {failure}', file=sys.stderr)
  return len(failures)


def restore_config(config: ConfigDict, workdir: pathlib.Path) -> int:
  """Restores config.restore.input to config.restore.output with config.restore.checkpoint or, where that is empty, the
  run in `workdir`; returns the exit code.

  Raises:
    ValueError, FileNotFoundError: as `plan` and `Restorer.from_pretrained`, or no input or output named.
  """
  settings = config.restore
  if not settings.input or not settings.output:
    raise ValueError('--mode=restore needs --config.restore.input=PATH and --config.restore.output=PATH.')
  if not 0.0 <= settings.alpha <= 1.0:
    raise ValueError(f'restore.alpha must lie in [0, 1], got {settings.alpha}.')
  jobs = plan([pathlib.Path(settings.input)], pathlib.Path(settings.output), recursive=True)
  restorer = inference.Restorer.from_pretrained(settings.checkpoint or workdir, dtype=config.train.dtype)
  return 1 if restore_files(restorer, jobs, alpha=settings.alpha, tile='auto', overwrite=True) else 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='lh-restore', description='Restore photographs with a trained Latent Harmony model.'
  )
  parser.add_argument('inputs', nargs='+', type=pathlib.Path, metavar='INPUT', help='an image, or a folder of images')
  parser.add_argument('-o', '--output', required=True, type=pathlib.Path, help='the image to write, or a folder')
  parser.add_argument('--checkpoint', help='work directory of a finished run, or its export folder')
  parser.add_argument('--alpha', type=_fraction, default=0.5, help='1: most faithful, 0: most perceptual; default 0.5')
  parser.add_argument(
    '--tile', choices=inference.TILES, default='auto', help='default auto; this version restores images whole'
  )
  parser.add_argument(
    '--dtype',
    choices=('auto', *inference.DTYPES),
    default='auto',
    help='of the activations; auto is float32 on CPU, else bfloat16',
  )
  parser.add_argument('--recursive', action='store_true', help='also restore the images in sub-folders')
  parser.add_argument('--overwrite', action='store_true', help='restore files again that exist in the output')
  return parser


def _fraction(text: str) -> float:
  value = float(text)
  if not 0.0 <= value <= 1.0:
    raise argparse.ArgumentTypeError(f'{text} is not in [0, 1]')
  return value


def main(argv: Sequence[str] | None = None) -> int:
  """Runs `lh-restore`; returns 0 when every file succeeded, 1 when some failed, 2 on a usage error."""
  parser = _parser()
  options = parser.parse_args(argv)
  logs.to_console()
  parallel.enable_compilation_cache()
  try:
    jobs = plan(options.inputs, options.output, recursive=options.recursive)
    restorer = inference.Restorer.from_pretrained(options.checkpoint, dtype=options.dtype)
  except (ValueError, FileNotFoundError) as error:
    parser.error(str(error))
  failed = restore_files(restorer, jobs, alpha=options.alpha, tile=options.tile, overwrite=options.overwrite)
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
