"""From a downloaded data set to crops that a training run reads at full speed.

Contract: the same folder, options and library versions give the same bytes, file by file. A run that was killed goes on
where it was: files are written whole or not at all, the manifest is rewritten after each, and a file that the manifest
names is kept only if its SHA-256 still fits. Nothing is resized, skipped or repaired: a problem that `data.check` finds
ends the run before it begins; only a count that is not the published one is told and accepted.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
import functools
import hashlib
import importlib.metadata
import itertools
import json
import logging
from pathlib import Path
from typing import Any

import lh_jax
from lh_jax.data import check
from lh_jax.data import crops
from lh_jax.data import layouts
from lh_jax.data import splits
from lh_jax.data import unfinished
from lh_jax.data.datasets import Dataset
from lh_jax.data.items import Item
from lh_jax.data.items import raise_problems
from lh_jax.data.items import read_uint8

log = logging.getLogger('lh_jax')

# Those whose versions can change a byte of the result.
_LIBRARIES = ('array_record', 'imagecodecs', 'msgpack', 'pillow')


def sha256(path: Path) -> str:
  """The SHA-256 of a file, in hexadecimal."""
  with path.open('rb') as stream:
    return hashlib.file_digest(stream, 'sha256').hexdigest()


def _sound_items(
  path: Path, dataset: Dataset, split: str, *, size: int, accept_renamed: bool, threads: int
) -> list[Item]:
  """The items of the split, with their sizes; all that speaks against preparing them is raised at once."""
  report = check.check_split(path, dataset, splits.published(split), threads=threads)
  waived = {'count'} | ({'format'} if accept_renamed else set())
  for problem in report.problems:
    if problem.kind == 'count':  # Part of a set is a set; but nobody should have it without knowing.
      log.warning('%s: %s.', dataset.title, problem.text.rstrip('.'))
  problems = [problem.text for problem in report.problems if problem.kind not in waived]
  chosen = splits.select(dataset.name, split, [layouts.stem(item) for item in report.items]) if not problems else ()
  items = [item for item in report.items if layouts.stem(item) in chosen]
  problems += [
    f'{item.name} is {item.height}x{item.width}, smaller than a crop of {size}: choose a smaller size'
    for item in items
    if min(item.height, item.width) < size
  ]
  raise_problems(f'{dataset.title} at {str(path)!r}', problems)
  return items


def _place(file: Path | None, root: Path) -> dict[str, Any] | None:
  """How the manifest tells a source file by its name and size."""
  return None if file is None else {'file': file.relative_to(root).as_posix(), 'bytes': file.stat().st_size}


def _source_facts(item: Item, root: Path, *, number_of_crops: int) -> dict[str, Any]:
  halves = {
    half: file and _place(file, root) | {'sha256': sha256(file)}
    for half, file in (('clean', item.clean), ('degraded', item.degraded))
  }
  size = {'height': item.height, 'width': item.width}
  return {'name': item.name, 'task': item.task, **size, 'crops': number_of_crops, **halves}


def _cut(item: Item, *, root: Path, split: str, size: int, overlap: int) -> tuple[dict[str, Any], list[bytes]]:
  """Reads one image (or pair) and cuts it: its entry in the manifest, and its records."""
  images = {half: read_uint8(file) for half, file in (('clean', item.clean), ('degraded', item.degraded)) if file}
  places = crops.grid(item.height, item.width, size=size, overlap=overlap)
  records = [crops.pack(item, images, split=split, top=top, left=left, size=size) for top, left in places]
  return _source_facts(item, root, number_of_crops=len(places)), records


def _in_order(
  pool: futures.Executor, work: Callable[[Item], Any], items: Sequence[Item], *, ahead: int
) -> Iterator[Any]:
  """Results of `work` in the order of the items, at most `ahead` of them computed before they are asked for."""
  waiting, rest = collections.deque(), iter(items)
  while True:
    waiting.extend(pool.submit(work, item) for item in itertools.islice(rest, ahead - len(waiting)))
    if not waiting:
      return
    yield waiting.popleft().result()


def _check_same(earlier: dict[str, Any], manifest: dict[str, Any], names: Sequence[str], out: Path) -> None:
  """Raises ValueError if two runs into one folder do not agree in the entries `names` of their manifests."""
  told = [f'{name} was {earlier[name]}, now {manifest[name]}' for name in names if earlier[name] != manifest[name]]
  if told:
    raise ValueError(f'{str(out)!r} holds crops made otherwise: {"; ".join(told)}. Name another folder, or remove it')


def _finished(out: Path, earlier: dict[str, Any], groups: Sequence[Sequence[Item]], root: Path) -> dict[int, Any]:
  """The files of an earlier run that need not be made again: number -> (entry of the file, entries of its sources)."""
  kept, sources = {}, iter(earlier['sources'])
  for shard in earlier['shards']:
    facts = list(itertools.islice(sources, shard['images']))
    group = groups[shard['number']] if shard['number'] < len(groups) else ()
    now = [(item.name, _place(item.clean, root), _place(item.degraded, root)) for item in group]
    before = [(fact['name'], *(_without_hash(fact[half]) for half in ('clean', 'degraded'))) for fact in facts]
    file = out / shard['file']
    if now == before and file.is_file() and sha256(file) == shard['sha256']:
      kept[shard['number']] = shard, facts
  return kept


def _without_hash(place: dict[str, Any] | None) -> dict[str, Any] | None:
  return place and {name: value for name, value in place.items() if name != 'sha256'}


class _Count:
  """Tells how many images are done."""

  def __init__(self, total: int, advance: Callable[[int, int], None] | None):
    self._done, self._total, self._advance = 0, total, advance

  def add(self, number: int) -> None:
    self._done += number
    if self._advance:
      self._advance(self._done, self._total)


def _write_file(
  file: Path, number: int, made: Iterable[tuple[dict[str, Any], list[bytes]]], count: _Count
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
  """Writes the crops of some images to one file: its entry in the manifest, and those of the images."""
  facts = []

  def records() -> Iterator[bytes]:
    for fact, crops_of_one in made:
      facts.append(fact)
      yield from crops_of_one
      count.add(1)

  crops.write_shard(file, records())
  number_of_crops = sum(fact['crops'] for fact in facts)
  entry = {'number': number, 'file': file.name, 'images': len(facts), 'crops': number_of_crops}
  return entry | {'bytes': file.stat().st_size, 'sha256': sha256(file)}, facts


def _write_manifest(out: Path, manifest: dict[str, Any], done: dict[int, Any], *, complete: bool) -> dict[str, Any]:
  shards = [done[number] for number in sorted(done)]
  manifest = manifest | {
    'complete': complete,
    'images': sum(shard['images'] for shard, _ in shards),
    'crops': sum(shard['crops'] for shard, _ in shards),
    'shards': [shard for shard, _ in shards],
    'sources': [fact for _, facts in shards for fact in facts],
  }
  with unfinished.replacing(out / crops.MANIFEST) as begun:
    begun.write_text(json.dumps(manifest, indent=1) + '\n', encoding='utf-8')
  return manifest


def prepare(
  path: str | Path,
  out: str | Path,
  dataset: Dataset,
  *,
  split: str = 'train',
  size: int = 512,
  overlap: int = 64,
  images_per_file: int = 16,
  threads: int = 2,
  accept_renamed: bool = False,
  advance: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
  """Cuts one split of a data set into overlapping crops.

  Args:
    path: the folder of the data set.
    out: folder to write to; one that holds part of the same crops is continued.
    dataset: the data set.
    split: one of `splits.SPLITS`.
    size: side of a crop, pixels.
    overlap: pixels that neighbours share at least.
    images_per_file: whole images whose crops go into one file; a killed run loses at most so many.
    threads: images cut at a time; each takes the memory of its pixels and its crops.
    accept_renamed: take files that are not what their suffix says; their bytes decide.
    advance: called with the number of images done and of all, also for those that need not be done again.

  Returns:
    The manifest.

  Raises:
    FileNotFoundError: if the data set is not there; tells how to get it.
    ValueError: naming every problem of the data set; or if an option is out of range, or `out` holds other crops.
  """
  path, out = Path(path), Path(out)
  if images_per_file < 1 or threads < 1:
    raise ValueError(f'images_per_file and threads must be positive, got {images_per_file} and {threads}')
  crops.grid(size, size, size=size, overlap=overlap)  # for its errors
  layouts.split_folder(path, dataset, splits.published(split))  # likewise
  items = _sound_items(path, dataset, split, size=size, accept_renamed=accept_renamed, threads=threads)
  manifest = {
    'format': crops.FORMAT,
    'dataset': dataset.name,
    'split': split,
    'settings': {'size': size, 'overlap': overlap, 'images_per_file': images_per_file},
    'versions': {'lh_jax': lh_jax.__version__} | {name: importlib.metadata.version(name) for name in _LIBRARIES},
    'shards': [],
    'sources': [],
  }
  groups = [items[start : start + images_per_file] for start in range(0, len(items), images_per_file)]
  done = _resumed(out, manifest, groups, path)
  out.mkdir(parents=True, exist_ok=True)
  unfinished.remove_leftovers(out)
  cut = functools.partial(_cut, root=path, split=split, size=size, overlap=overlap)
  count = _Count(len(items), advance)
  if len(done) < len(groups):
    _write_manifest(out, manifest, done, complete=False)  # before the first file that the earlier one tells of changes
  with futures.ThreadPoolExecutor(threads) as pool:
    for number, group in enumerate(groups):
      if number in done:
        count.add(len(group))
        continue
      made = _in_order(pool, cut, group, ahead=threads + 1)
      done[number] = _write_file(out / f'crops-{number:05d}.array_record', number, made, count)
      _write_manifest(out, manifest, done, complete=False)
  _remove_others(out, {shard['file'] for shard, _ in done.values()})
  return _write_manifest(out, manifest, done, complete=True)


def _resumed(out: Path, manifest: dict[str, Any], groups: Sequence[Sequence[Item]], root: Path) -> dict[int, Any]:
  """What `_finished` finds of an earlier run, which must have been of the same crops; nothing where there was none.

  Where that is all of them, `manifest` keeps the versions that wrote them.
  """
  if not (out / crops.MANIFEST).is_file():
    return {}
  earlier = crops.read_manifest(out)
  _check_same(earlier, manifest, ('dataset', 'split', 'settings'), out)
  done = _finished(out, earlier, groups, root)
  if len(done) == len(groups):
    manifest['versions'] = earlier['versions']
  _check_same(earlier, manifest, ('versions',), out)
  return done


def _remove_others(out: Path, named: set[str]) -> None:
  """Removes files of images that are no longer there."""
  for file in out.glob('crops-[0-9][0-9][0-9][0-9][0-9].array_record'):
    if file.name not in named:
      file.unlink()
