"""Test sets from clean photographs, in files.

Contract: a set is OUT/TASK/input/NAME.png and OUT/TASK/gt/NAME.png, as `data.pairs` reads it; NAME is the photograph's,
with its sub-folders. OUT/manifest.json holds settings, versions and the SHA-256 of every photograph and file. Files
appear whole or not at all, and writing the same sets again goes on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import json
import os
from pathlib import Path
import shutil
import time
from typing import Any
import unicodedata

import jax
import numpy as np

import lh_jax
from lh_jax import synthesis
from lh_jax.data import image_files
from lh_jax.data import items as items_lib
from lh_jax.data import unfinished
from lh_jax.ops import degradations

MANIFEST = 'manifest.json'
_KIND = 'lh_jax test sets'


@dataclasses.dataclass
class Written:
  """What `write_sets` did: pairs written, pairs that were there already, and a line on each photograph that failed."""

  pairs: int = 0
  skipped: int = 0
  failed: list[str] = dataclasses.field(default_factory=list)


def write_sets(
  source: items_lib.Source,
  folder: str | os.PathLike[str],
  *,
  tasks: Sequence[str] = degradations.BENCHMARK,
  severity: float = 0.5,
  seed: int = 0,
  size: tuple[int, int] | None = None,
  tell: Callable[[str], None] = print,
) -> Written:
  """Writes a test set for each task; files that stand there whole are kept.

  The clean halves of all tasks are one file with several names where the file
  system can do that. A photograph that cannot be read is left out and named in the result.

  Args:
    source: clean photographs in files.
    folder: OUT above: new, empty, or one that was begun with the same settings and versions.
    tasks: some of `degradations.BENCHMARK`; more may be added to the same folder later.
    severity: in [0, 1].
    seed: see `synthesis.synthesise`.
    size: (width, height) to cut out of the centre of each photograph; None keeps them whole.
    tell: is given a line on each photograph.

  Returns:
    What was done.

  Raises:
    ValueError: a setting out of its range, photographs that are too small or would get one name, or a folder that
      holds something else.
    OSError: the folder cannot be written.
  """
  synthesis.check_settings(tasks, severity)
  synthesis.random_key('', '', seed)
  folder = Path(folder)
  _check_items(source.items, size)
  manifest = _open_manifest(folder, {'severity': severity, 'seed': seed, 'size': list(size) if size else None})
  done = Written()
  for index, item in enumerate(source.items):
    started = time.perf_counter()
    try:
      missing = _missing(folder, manifest, item, tasks)
      if missing:
        clean = np.ascontiguousarray(synthesis.crop(source[index]['clean'], size))
        first = folder / missing[0] / 'gt' / _png(item.name)
        for task in missing:
          degraded = synthesis.synthesise(clean, name=item.name, task=task, severity=severity, seed=seed)
          image_files.write_image(folder / task / 'input' / _png(item.name), degraded)
          if task == missing[0]:
            image_files.write_image(first, clean)
          else:
            _duplicate(first, folder / task / 'gt' / _png(item.name))
        files = [f'{task}/{half}/{_png(item.name)}' for task in missing for half in ('input', 'gt')]
        manifest['photographs'][item.name] = _sha256(item.clean)
        manifest['files'] |= {name: _sha256(folder / name) for name in files}
        _write_manifest(folder, manifest)
    except (ValueError, OSError) as error:
      done.failed.append(f'{item.name}: {error}')
      tell(f'[{index + 1}/{len(source)}] {item.name} failed: {error}')
      continue
    done.pairs += len(missing)
    done.skipped += len(tasks) - len(missing)
    seconds = time.perf_counter() - started
    tell(f'[{index + 1}/{len(source)}] {item.name}: {len(missing)} of {len(tasks)} pairs written, {seconds:.1f} s')
  return done


def _png(name: str) -> str:
  return Path(name).with_suffix('.png').as_posix()


def _check_items(items: Sequence[items_lib.Item], size: tuple[int, int] | None) -> None:
  width, height = size or (synthesis.SMALLEST, synthesis.SMALLEST)
  problems, taken = [], {}
  for item in items:
    if item.height < height or item.width < width:
      problems.append(f'{item.name}: {item.width}x{item.height} is smaller than {width}x{height}; nothing is enlarged')
    # Names that differ in case, or in how an accent is encoded, are one file on some systems.
    other = taken.setdefault(unicodedata.normalize('NFC', _png(item.name)).casefold(), item.name)
    if other != item.name:
      problems.append(f'{other} and {item.name} would both become {_png(item.name)}; rename one of them')
  items_lib.raise_problems('the set of photographs', problems)


def _open_manifest(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
  versions = {'lh_jax': lh_jax.__version__, 'jax': jax.__version__, 'platform': jax.default_backend()}
  fresh = {'kind': _KIND, 'settings': settings, 'versions': versions, 'strengths': degradations.STRENGTHS}
  path = folder / MANIFEST
  if not path.exists():
    if folder.is_dir() and any(not entry.name.startswith('.') for entry in folder.iterdir()):
      raise ValueError(f'{str(folder)!r} holds files but no {MANIFEST}: name a new folder, so that none is replaced')
    manifest = fresh | {'photographs': {}, 'files': {}}
    folder.mkdir(parents=True, exist_ok=True)
    _write_manifest(folder, manifest)
    return manifest
  try:
    manifest = json.loads(path.read_text(encoding='utf-8'))
    found = {name: manifest[name] for name in ('kind', 'settings', 'versions', 'photographs', 'files')}
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{str(path)!r} is not a manifest of synthesised test sets: {error!r}') from error
  for name in ('kind', 'settings', 'versions'):
    if found[name] != fresh[name]:
      raise ValueError(
        f'{str(folder)!r} was begun with {name} {found[name]}, not {fresh[name]}: use those, or name a new folder'
      )
  for parent in {(folder / name).parent for name in found['files']} | {folder}:
    unfinished.remove_leftovers(parent)
  return fresh | found


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
  with unfinished.replacing(folder / MANIFEST) as begun:
    begun.write_text(json.dumps(manifest, indent=1) + '\n', encoding='utf-8')


def _missing(folder: Path, manifest: dict[str, Any], item: items_lib.Item, tasks: Sequence[str]) -> list[str]:
  """The tasks of which this photograph has no whole pair."""
  if manifest['photographs'].get(item.name, sha256 := _sha256(item.clean)) != sha256:
    raise ValueError('the photograph has changed since its pairs were written: name a new folder')

  def whole(name: str) -> bool:
    return (folder / name).is_file() and manifest['files'].get(name) == _sha256(folder / name)

  return [task for task in tasks if not all(whole(f'{task}/{half}/{_png(item.name)}') for half in ('input', 'gt'))]


def _sha256(path: Path) -> str:
  with path.open('rb') as stream:
    return hashlib.file_digest(stream, 'sha256').hexdigest()


def _duplicate(path: Path, other: Path) -> None:
  other.parent.mkdir(parents=True, exist_ok=True)
  with unfinished.replacing(other) as begun:
    try:
      os.link(path, begun)
    except OSError:  # a file system without hard links
      shutil.copyfile(path, begun)
