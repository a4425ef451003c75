"""One data set: its items, reading them, and the cache of decoded images.

Contract: `len(source)`, and `source[i]` is a dict with 'name' (str), 'clean' ((height, width, 3) uint8) and, where the
data set has them, 'degraded' (same shape, uint8) and 'task' (str, the sub-folder the image came from). `source.items`
tells name, size, task and whether the item is paired, without decoding anything.

Decoded images are kept in memory up to `cache_gib`. What fits is kept for good, and the rest is decoded again each
time: training visits images in random order, and then this has the highest hit rate a cache of that size can have,
whereas dropping the oldest entry would often drop the one about to be asked for. Cached arrays are read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
import dataclasses
from pathlib import Path
import threading

import numpy as np

from lh_jax.data import image_files

_PROBLEMS_SHOWN = 20
_HEADER_THREADS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
  """What is known of one image without decoding it.

  Attributes:
    name: path relative to the data set, unique in it.
    height: pixels, orientation applied.
    width: pixels, orientation applied.
    clean: the clean file, None for painted images and smaller copies.
    degraded: its degraded twin, None where the degradation is synthesised.
    task: the sub-folder it came from, None where the data set has no tasks.
    reduction: how many times smaller it is than the image that it is a copy of; 1: it is none.
  """

  name: str
  height: int
  width: int
  clean: Path | None = None
  degraded: Path | None = None
  task: str | None = None
  reduction: int = 1


class Source:
  """Items and a function that reads one of them, with the cache described above. Safe to use from several threads."""

  def __init__(self, items: Sequence[Item], read: Callable[[int], dict[str, np.ndarray]], *, cache_gib: float):
    if cache_gib < 0:
      raise ValueError(f'cache_gib is {cache_gib}; it must be 0 (no cache) or more')
    self.items = tuple(items)
    self._read = read
    self._free_bytes = int(cache_gib * 2**30)
    self._cache: dict[int, dict[str, np.ndarray]] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self.items)

  def __getitem__(self, index: int) -> dict[str, np.ndarray | str]:
    index = range(len(self))[index]  # IndexError and negative indices as for a list
    with self._lock:
      arrays = self._cache.get(index)
    if arrays is None:
      arrays = self._read(index)
      self._keep(index, arrays)
    item = self.items[index]
    return {'name': item.name, **arrays} if item.task is None else {'name': item.name, 'task': item.task, **arrays}

  def check_readable(self, *, limit: int | None = None) -> None:
    """Decodes every image file, so that a damaged one is found before the work begins; the cache keeps them.

    Args:
      limit: sets of more images are left alone; None looks at any.

    Raises:
      ValueError: naming every image that cannot be read.
    """
    files = [index for index, item in enumerate(self.items) if item.clean is not None]
    if limit is not None and len(files) > limit:
      return

    def problem(index: int) -> str | None:
      try:
        self[index]
      except (ValueError, OSError) as error:
        return str(error)
      return None

    with futures.ThreadPoolExecutor() as pool:
      found = [text for text in pool.map(problem, files) if text]
    raise_problems('the data set', found)

  def _keep(self, index: int, arrays: dict[str, np.ndarray]) -> None:
    size = sum(array.nbytes for array in arrays.values())
    with self._lock:
      if index in self._cache or size > self._free_bytes:
        return
      for array in arrays.values():
        array.flags.writeable = False
      self._cache[index] = arrays
      self._free_bytes -= size


def read_uint8(path: str | Path) -> np.ndarray:
  """Reads an image file as (height, width, 3) uint8; 16 bits are rounded to 8.

  Args:
    path: the image file.

  Returns:
    The pixels.

  Raises:
    FileNotFoundError, ValueError: as `image_files.read_rgb`.
  """
  return image_files.to_uint8(image_files.read_rgb(path))


def _read_files(item: Item) -> dict[str, np.ndarray]:
  arrays = {'clean': read_uint8(item.clean)}
  if item.degraded is not None:
    arrays['degraded'] = read_uint8(item.degraded)
  return arrays


def from_files(items: Sequence[Item], *, cache_gib: float) -> Source:
  """A source that reads the files its items name.

  Args:
    items: with sizes filled in.
    cache_gib: memory for decoded images.

  Returns:
    The source.

  Raises:
    ValueError: if cache_gib is negative; later, when an item is asked for, if its file cannot be decoded.
  """
  items = tuple(items)
  return Source(items, lambda index: _read_files(items[index]), cache_gib=cache_gib)


def joined(sources: Mapping[str, Source], *, cache_gib: float) -> Source:
  """The images of several sources as one; each name begins with its source's.

  Args:
    sources: by name.
    cache_gib: memory for decoded images, besides what the sources keep themselves.

  Returns:
    The source, in the order of the mapping.

  Raises:
    ValueError: if cache_gib is negative.
  """
  items = [
    dataclasses.replace(item, name=f'{name}/{item.name}') for name, source in sources.items() for item in source.items
  ]
  places = [(source, index) for source in sources.values() for index in range(len(source))]

  def read(index: int) -> dict[str, np.ndarray]:
    source, place = places[index]
    return {key: value for key, value in source[place].items() if key in ('clean', 'degraded')}

  return Source(items, read, cache_gib=cache_gib)


def pyramid(source: Source, *, levels: int, least: int, cache_gib: float) -> Source:
  """Clean images, and copies of them at 1/2, 1/4, ... of the size, of which a crop shows more of the scene.

  Args:
    source: of clean images.
    levels: how many sizes of each image there are at most.
    least: height and width, in pixels, that a copy must have to be there.
    cache_gib: memory for decoded images, besides what the source keeps itself.

  Returns:
    The source: all images, then all halves (means over 2 x 2 pixels, rounded), and so on.

  Raises:
    ValueError: levels is below 1, or cache_gib is negative.
  """
  if levels < 1:
    raise ValueError(f'data.pyramid counts the sizes of an image: it must be at least 1, got {levels}')
  places = [
    (index, level)
    for level in range(levels)
    for index, item in enumerate(source.items)
    if not level or min(item.height, item.width) >> level >= least
  ]

  def item(index: int, level: int) -> Item:
    whole = source.items[index]
    copy = {'name': f'{whole.name}@1/{2**level}', 'height': whole.height >> level, 'width': whole.width >> level}
    return dataclasses.replace(whole, **copy, clean=None, reduction=2**level) if level else whole

  def read(place: int) -> dict[str, np.ndarray]:
    index, level = places[place]
    clean, factor = source[index]['clean'], 2**level
    if level:
      height, width = (side >> level for side in clean.shape[:2])
      blocks = clean[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
      clean = np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)
    return {'clean': clean}

  return Source([item(*place) for place in places], read, cache_gib=cache_gib)


def raise_problems(where: str, problems: Sequence[str]) -> None:
  """Reports all problems of a data set at once, or returns if there is none.

  Args:
    where: what the problems are of.
    problems: one line each; the first twenty are shown.

  Raises:
    ValueError: if there is a problem.
  """
  if problems:
    shown = '\n  '.join(problems[:_PROBLEMS_SHOWN])
    more = f'\n  ... and {len(problems) - _PROBLEMS_SHOWN} more' if len(problems) > _PROBLEMS_SHOWN else ''
    raise ValueError(f'{where} has {len(problems)} problem(s):\n  {shown}{more}')


def sized(items: Sequence[Item]) -> tuple[list[Item], list[str]]:
  """Fills in the sizes from the files' headers.

  Args:
    items: with files; their sizes are ignored.

  Returns:
    The items whose files are what their suffixes say, have readable headers and, for pairs, one size; and a line on
    each of the others.
  """

  def check(item: Item) -> Item | str:
    try:
      clean = image_files.size(item.clean)
      degraded = clean if item.degraded is None else image_files.size(item.degraded)
    except (FileNotFoundError, ValueError) as error:
      return str(error)
    if clean != degraded:
      return (
        f'{item.name}: sizes differ, clean {item.clean.name!r} is {clean[0]}x{clean[1]} and degraded '
        f'{item.degraded.name!r} is {degraded[0]}x{degraded[1]} (height x width, orientation applied)'
      )
    for file in filter(None, (item.clean, item.degraded)):
      if text := image_files.renamed(file):
        return f'{item.name}: {file.name!r} is misnamed, {text}; name it so'
    return dataclasses.replace(item, height=clean[0], width=clean[1])

  with futures.ThreadPoolExecutor(_HEADER_THREADS) as pool:
    checked = list(pool.map(check, items))
  return [item for item in checked if isinstance(item, Item)], [item for item in checked if isinstance(item, str)]
