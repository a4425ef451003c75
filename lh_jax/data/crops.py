"""Prepared crops: overlapping windows of a data set in ArrayRecord files, read back in any order.

Contract: a record is a msgpack map {'name', 'task', 'split', 'top', 'left', 'clean', 'degraded'}, the last two being
whole PNG files (8 bits, RGB) or, for 'degraded', nil where the set has clean images only. `manifest.json` beside the
files tells which records they hold and the SHA-256 of every file (`data.prepare` writes it), so that names, sizes and
tasks of all crops are known without opening one. The one door to array_record and msgpack.
"""

from __future__ import annotations

from collections.abc import Iterable
import io
import itertools
import json
from pathlib import Path
import threading
from typing import Any

from array_record.python import array_record_module
import msgpack
import numpy as np

from lh_jax.data import unfinished
from lh_jax.data.formats import png
from lh_jax.data.items import Item
from lh_jax.data.items import raise_problems
from lh_jax.data.items import Source

MANIFEST = 'manifest.json'
FORMAT = 1


def _starts(length: int, size: int, overlap: int) -> list[int]:
  """First pixels of windows that cover a side; the last is shifted inward."""
  starts = list(range(0, length - size + 1, size - overlap))
  return starts if starts[-1] + size == length else [*starts, length - size]


def grid(height: int, width: int, *, size: int, overlap: int) -> list[tuple[int, int]]:
  """Where the crops of an image lie.

  Args:
    height: of the image, pixels.
    width: of the image, pixels.
    size: side of a crop.
    overlap: pixels that neighbours share at least.

  Returns:
    (top, left) of each crop, row by row; together they cover the image.

  Raises:
    ValueError: if not 0 <= overlap < size, or the image is smaller than a crop.
  """
  if not 0 <= overlap < size:
    raise ValueError(f'crops need 0 <= overlap < size, got overlap {overlap} and size {size}')
  if min(height, width) < size:
    raise ValueError(f'an image of {height}x{width} is smaller than a crop of {size}: choose a smaller size')
  return [(top, left) for top in _starts(height, size, overlap) for left in _starts(width, size, overlap)]


def _encode(pixels: np.ndarray) -> bytes:
  stream = io.BytesIO()
  png.write(stream, pixels, icc=None, exif=None, dpi=None, quality=0)
  return stream.getvalue()


def _decode(data: bytes) -> np.ndarray:
  return png.read(io.BytesIO(data)).decode()


def pack(item: Item, images: dict[str, np.ndarray], *, split: str, top: int, left: int, size: int) -> bytes:
  """Makes the record of one crop.

  Args:
    item: what is known of the whole image.
    images: 'clean' and, of a pair, 'degraded': (height, width, 3) uint8.
    split: which split the image is in.
    top: first row of the crop.
    left: first column.
    size: its side.

  Returns:
    The record.
  """
  window = np.s_[top : top + size, left : left + size]
  record = {'name': item.name, 'task': item.task, 'split': split, 'top': top, 'left': left}
  record |= {half: _encode(images[half][window]) if half in images else None for half in ('clean', 'degraded')}
  return msgpack.packb(record)


def unpack(record: bytes) -> dict[str, Any]:
  """Reads a record.

  Args:
    record: as `pack` makes it.

  Returns:
    Its fields, the images decoded.

  Raises:
    ValueError: if it is damaged.
  """
  fields = msgpack.unpackb(record)
  return {**fields, **{half: _decode(fields[half]) for half in ('clean', 'degraded') if fields[half] is not None}}


def write_shard(path: Path, records: Iterable[bytes]) -> None:
  """Writes one ArrayRecord file, whole or not at all.

  Args:
    path: the file.
    records: in order; each is a chunk of its own, so that one can be read without its neighbours, and is not
      compressed again, for it holds PNG files.
  """
  with unfinished.replacing(path) as begun:
    writer = array_record_module.ArrayRecordWriter(str(begun), 'group_size:1,uncompressed')
    try:
      for record in records:
        writer.write(record)
    finally:
      writer.close()


class _Shards:
  """Opens ArrayRecord files when first asked and keeps them open."""

  def __init__(self):
    self._readers: dict[Path, Any] = {}
    self._lock = threading.Lock()

  def read(self, path: Path, index: int) -> dict[str, Any]:
    try:
      with self._lock:
        if path not in self._readers:
          self._readers[path] = array_record_module.ArrayRecordReader(str(path))
        reader = self._readers[path]
      return unpack(reader.read([index])[0])
    except (RuntimeError, IndexError, ValueError) as error:
      raise ValueError(f'cannot read crop {index} of {str(path)!r}: {error}; prepare it again') from error


def read_manifest(folder: str | Path) -> dict[str, Any]:
  """Reads the manifest of a folder of crops.

  Args:
    folder: where `data.prepare` wrote to.

  Returns:
    The manifest.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it is damaged or of another version.
  """
  path = Path(folder, MANIFEST)
  if not path.is_file():
    raise FileNotFoundError(f'{str(folder)!r} holds no {MANIFEST}: make crops with python -m lh_jax.data prepare')
  try:
    manifest = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{str(path)!r} is damaged: {error}; remove it and prepare the crops again') from error
  if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
    raise ValueError(f'{str(path)!r} is no manifest of crops in format {FORMAT}; prepare the crops again')
  return manifest


def _crops(folder: Path, manifest: dict[str, Any]) -> tuple[list[Item], list[tuple[Path, int]], list[str]]:
  """Items, where each is read from, and problems."""
  if not manifest['complete']:
    return [], [], [f'{folder.name}: is not finished; run the same prepare command again']
  settings, sources = manifest['settings'], iter(manifest['sources'])
  items, places, problems = [], [], []
  for shard in manifest['shards']:
    file = folder / shard['file']
    found = file.stat().st_size if file.is_file() else None
    if found != shard['bytes']:
      state = 'is missing' if found is None else f'has {found} bytes instead of {shard["bytes"]}'
      problems.append(f'{folder.name}: {file.name} {state}; run the same prepare command again')
    number = itertools.count()
    for whole in itertools.islice(sources, shard['images']):
      for top, left in grid(whole['height'], whole['width'], size=settings['size'], overlap=settings['overlap']):
        places.append((file, next(number)))
        items.append(
          Item(
            name=f'{whole["name"]}@{top},{left}',
            height=settings['size'],
            width=settings['size'],
            clean=file,
            degraded=file if whole['degraded'] else None,
            task=whole['task'],
          )
        )
  return items, places, problems


def source(path: str | Path, *, split: str = 'train', cache_gib: float = 4.0) -> Source:
  """The crops that `python -m lh_jax.data prepare` made, of one data set or of several.

  Args:
    path: a folder with a manifest, or one that holds such folders.
    split: which split to read; folders of other splits are left alone.
    cache_gib: memory for decoded crops.

  Returns:
    The source: an item for each crop, with the name NAME@TOP,LEFT and `clean` (of a pair also `degraded`) naming the
    file that holds it.

  Raises:
    FileNotFoundError: if there is no manifest.
    ValueError: if no folder has crops of that split, or naming each that is unfinished, damaged or given twice.
  """
  path = Path(path)
  folders = [path]
  if path.is_dir() and not (path / MANIFEST).is_file():
    folders = sorted(entry.parent for entry in path.glob(f'*/{MANIFEST}')) or folders
  manifests = {folder: read_manifest(folder) for folder in folders}
  wanted = {folder: manifest for folder, manifest in manifests.items() if manifest['split'] == split}
  if not wanted:
    there = ', '.join(sorted({manifest['split'] for manifest in manifests.values()}))
    raise ValueError(f'{str(path)!r} holds no crops of the split {split}, only of {there}: prepare it, or name another')
  items, places, problems, seen = [], [], [], {}
  for folder, manifest in wanted.items():
    other = seen.setdefault(manifest['dataset'], folder)
    if other is not folder:
      problems.append(f'{folder.name} and {other.name} both hold {manifest["dataset"]}; keep one of them')
      continue
    found, where, more = _crops(folder, manifest)
    items, places, problems = items + found, places + where, problems + more
  raise_problems(f'crops at {str(path)!r}', problems)
  shards = _Shards()

  def read(index: int) -> dict[str, np.ndarray]:
    record = shards.read(*places[index])
    return {half: record[half] for half in ('clean', 'degraded') if record[half] is not None}

  return Source(items, read, cache_gib=cache_gib)
