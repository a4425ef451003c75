"""The command line: `python -m lh_jax.synthesis PHOTOGRAPHS OUT` writes test sets, `--sheet FILE` a contact sheet."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys

import numpy as np

from lh_jax import synthesis
from lh_jax.data import image_files
from lh_jax.data import items as items_lib
from lh_jax.data import sources
from lh_jax.ops import degradations
from lh_jax.save_portable import parse_image_size
from lh_jax.synthesis import sets

EMBEDDED = 'embedded'
_SHEET_QUALITY = 60  # noise is expensive to keep, and this is for looking at


def parser() -> argparse.ArgumentParser:
  """Returns the command line's options."""
  found = argparse.ArgumentParser(
    prog='python -m lh_jax.synthesis',
    description='Make test sets of clean and degraded pairs from clean photographs.',
    epilog='severity 1 is:\n' + '\n'.join(f'  {task}: {text}' for task, text in degradations.STRENGTHS.items()),
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = found.add_argument
  add('photographs', nargs='?', default=EMBEDDED, help=f'a folder, or {EMBEDDED} (the default): one of scikit-image')
  add('out', nargs='?', metavar='OUT', help='folder to write the sets to')
  add('--tasks', nargs='+', metavar='TASK', default=list(degradations.BENCHMARK), help='default: all of those below')
  add('--severity', type=float, default=0.5, metavar='0..1', help='default 0.5')
  add('--seed', type=int, default=0, help='default 0')
  add('--size', type=parse_image_size, metavar='WIDTHxHEIGHT', help='cut out of the centre; default: all of it')
  add('--sheet', metavar='FILE.png|jpg', help='also write a contact sheet of the first photograph; OUT may be left out')
  return found


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    arguments: of the command line, without the program's name; None takes those of the process.

  Returns:
    The exit status: 0, or 1 where photographs failed or nothing could be written. A usage error ends the process with
    2, before anything is read.
  """
  options = parser()
  found = options.parse_args(arguments)
  try:
    _check_usage(found)
  except ValueError as error:
    options.error(str(error))
  try:
    embedded = found.photographs == EMBEDDED
    source, failed = (sources.embedded(split='test'), []) if embedded else sources.readable(found.photographs)
    for line in failed:
      print(f'failed: {line}')
    if found.sheet:
      _write_sheet(found, source)
    if found.out:
      done = sets.write_sets(
        source, found.out, tasks=found.tasks, severity=found.severity, seed=found.seed, size=found.size
      )
      failed += done.failed
      print(f'wrote {done.pairs} pairs to {found.out}, {done.skipped} were there, {len(failed)} photographs failed')
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  return 1 if failed else 0


def _check_usage(found: argparse.Namespace) -> None:
  synthesis.check_settings(found.tasks, found.severity)
  synthesis.random_key('', '', found.seed)
  if found.out is None and found.sheet is None:
    raise ValueError('nothing to write: name OUT, or a contact sheet with --sheet')
  if found.sheet and Path(found.sheet).suffix.lower() not in image_files.WRITABLE:
    raise ValueError(f'cannot write a contact sheet to {found.sheet!r}: end it in .png or .jpg')
  if found.photographs != EMBEDDED and not Path(found.photographs).is_dir():
    raise ValueError(f'{found.photographs!r} is no folder of photographs')
  if found.out and Path(found.out).resolve().is_relative_to(Path(found.photographs).resolve()):
    raise ValueError(f'{found.out!r} lies in the folder of photographs and would be read as some: name another OUT')


def _write_sheet(found: argparse.Namespace, source: items_lib.Source) -> None:
  """Writes a contact sheet of the first photograph that can be read."""
  for index, item in enumerate(source.items):
    try:
      clean = source[index]['clean']
    except (ValueError, OSError) as error:
      print(f'no contact sheet of {item.name}: {error}')
      continue
    clean = np.ascontiguousarray(synthesis.crop(clean, found.size))
    sheet = synthesis.contact_sheet(clean, name=item.name, tasks=found.tasks, seed=found.seed)
    image_files.write_image(found.sheet, sheet, quality=_SHEET_QUALITY)
    print(f'wrote {found.sheet}')
    return
  raise ValueError(f'no photograph of {found.photographs} can be read for the contact sheet')


if __name__ == '__main__':
  sys.exit(main())
