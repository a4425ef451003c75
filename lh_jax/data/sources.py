"""Data sets with random access: photographs carried by scikit-image, folders, pairs of folders, painted images.

Contract: `len(source)`, and `source[i]` is a dict with 'name' (str), 'clean' ((height, width, 3) uint8) and, where the
data set has them, 'degraded' (same shape, uint8) and 'task' (str, the sub-folder the image came from). `source.items`
tells name, size, task and whether the item is paired, without decoding anything. Everything that headers can tell is
checked when the source is made, and all problems are reported at once; damaged pixels are found when they are decoded.

Decoded images are kept in memory up to `cache_gib`. What fits is kept for good, and the rest is decoded again each
time: training visits images in random order, and then this has the highest hit rate a cache of that size can have,
whereas dropping the oldest entry would often drop the one about to be asked for. Cached arrays are read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
import dataclasses
import importlib.util
from pathlib import Path
import threading

import numpy as np

from lh_jax.data import dead_leaves as dead_leaves_painter
from lh_jax.data import image_files

# Photographs in scikit-image's wheel (CC0, public domain or attributed in its data folder's README). The stereo pair
# stays together; the two held-out sets are colour photographs unlike anything in the training set.
EMBEDDED = {
    'train': ('astronaut.png', 'coffee.png', 'motorcycle_left.png', 'motorcycle_right.png', 'camera.png', 'grass.png',
              'gravel.png', 'brick.png', 'coins.png'),
    'val': ('rocket.jpg',),
    'test': ('chelsea.png',),
}
# Names the published data sets give to the two halves (UHD-LL, UHD-Haze, UHD-Snow, UHD-Rain: gt/input; 4K-Rain13k:
# target/input; UHD-Blur: gt_new/input_new for training, gt300/input300 for testing).
CLEAN_FOLDERS = ('gt', 'target', 'gt_new', 'gt300')
DEGRADED_FOLDERS = ('input', 'input_new', 'input300')

_PROBLEMS_SHOWN = 20
_HEADER_THREADS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
  """What is known of one image without decoding it.

  Attributes:
    name: path relative to the data set, unique in it.
    height: pixels, orientation applied.
    width: pixels, orientation applied.
    clean: the clean file, None for painted images.
    degraded: its degraded twin, None where the degradation is synthesised.
    task: the sub-folder it came from, None where the data set has no tasks.
  """

  name: str
  height: int
  width: int
  clean: Path | None = None
  degraded: Path | None = None
  task: str | None = None


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
  """Reads an image file as (height, width, 3) uint8; 16-bit grey is rounded to 8 bits.

  Args:
    path: the image file.

  Returns:
    The pixels.

  Raises:
    FileNotFoundError, ValueError: as `image_files.read_rgb`.
  """
  pixels = image_files.read_rgb(path)
  if pixels.dtype == np.uint16:
    pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257
  return pixels


def _read_files(item: Item) -> dict[str, np.ndarray]:
  arrays = {'clean': read_uint8(item.clean)}
  if item.degraded is not None:
    arrays['degraded'] = read_uint8(item.degraded)
  return arrays


def _from_files(items: Sequence[Item], *, cache_gib: float) -> Source:
  items = tuple(items)
  return Source(items, lambda index: _read_files(items[index]), cache_gib=cache_gib)


def _raise_problems(where: str, problems: Sequence[str]) -> None:
  if problems:
    shown = '\n  '.join(problems[:_PROBLEMS_SHOWN])
    more = f'\n  ... and {len(problems) - _PROBLEMS_SHOWN} more' if len(problems) > _PROBLEMS_SHOWN else ''
    raise ValueError(f'{where} has {len(problems)} problem(s):\n  {shown}{more}')


def _sized(items: Sequence[Item]) -> tuple[list[Item], list[str]]:
  """Fills in the sizes from the headers; returns the good items and the problems of the others."""

  def check(item: Item) -> Item | str:
    try:
      clean = image_files.size(item.clean)
      degraded = clean if item.degraded is None else image_files.size(item.degraded)
    except (FileNotFoundError, ValueError) as error:
      return str(error)
    if clean != degraded:
      return (f'{item.name}: sizes differ, clean {item.clean.name!r} is {clean[0]}x{clean[1]} and degraded '
              f'{item.degraded.name!r} is {degraded[0]}x{degraded[1]} (height x width, orientation applied)')
    return dataclasses.replace(item, height=clean[0], width=clean[1])

  with futures.ThreadPoolExecutor(_HEADER_THREADS) as pool:
    checked = list(pool.map(check, items))
  return [item for item in checked if isinstance(item, Item)], [item for item in checked if isinstance(item, str)]


def embedded(*, split: str = 'train', cache_gib: float = 1.0) -> Source:
  """The photographs that scikit-image carries in its wheel; nothing is downloaded.

  Args:
    split: 'train', 'val' or 'test'; the sets share no scene.
    cache_gib: memory for decoded images.

  Returns:
    The source; the smallest image is 300 pixels high.

  Raises:
    ValueError: if the split is unknown.
    FileNotFoundError: if scikit-image or one of its photographs is not installed.
  """
  if split not in EMBEDDED:
    raise ValueError(f'unknown split {split!r} of the embedded photographs; known: {", ".join(EMBEDDED)}')
  spec = importlib.util.find_spec('skimage')  # finds the package without importing it
  if spec is None:
    raise FileNotFoundError('the embedded photographs are read from the package scikit-image, which is not installed: '
                            'pip install scikit-image, or choose another data.source')
  folder_path = Path(next(iter(spec.submodule_search_locations)), 'data')
  missing = [name for name in EMBEDDED[split] if not (folder_path / name).is_file()]
  if missing:
    raise FileNotFoundError(f'scikit-image at {str(folder_path)!r} lacks the photographs {", ".join(missing)}: '
                            'reinstall scikit-image from its wheel, or choose another data.source')
  items, problems = _sized([Item(name=name, height=0, width=0, clean=folder_path / name) for name in EMBEDDED[split]])
  _raise_problems(f'data folder {str(folder_path)!r}', problems)
  return _from_files(items, cache_gib=cache_gib)


def folder(path: str | Path, *, cache_gib: float = 4.0) -> Source:
  """All images below a folder, as clean images whose degradation is synthesised.

  Args:
    path: the folder, searched recursively.
    cache_gib: memory for decoded images.

  Returns:
    The source, in the order of the relative paths.

  Raises:
    FileNotFoundError: if the folder does not exist.
    ValueError: if it holds no image, or files that cannot be read (all of them are named).
  """
  path = Path(path)
  files = image_files.list_images(path)
  if not files:
    raise ValueError(f'image folder {str(path)!r} holds no image; looked for {", ".join(image_files.READABLE)}')
  items, problems = _sized([Item(name=f.relative_to(path).as_posix(), height=0, width=0, clean=f) for f in files])
  _raise_problems(f'image folder {str(path)!r}', problems)
  return _from_files(items, cache_gib=cache_gib)


def _half(parent: Path, names: Sequence[str]) -> tuple[Path | None, list[str]]:
  """Finds the one sub-folder that goes by any of `names`."""
  found = [parent / name for name in names if (parent / name).is_dir()]
  if len(found) > 1:
    return None, [f'{parent.name}: has {" and ".join(f.name for f in found)}, which are one thing; keep one of them']
  return (found[0] if found else None), []


def _by_stem(half: Path) -> tuple[dict[str, Path], list[str]]:
  """Relative path without suffix -> file."""
  files, problems = {}, []
  for file in image_files.list_images(half):
    stem = file.relative_to(half).with_suffix('').as_posix()
    if stem in files:
      problems.append(f'{half.parent.name}/{half.name}: {files[stem].name} and {file.name} have the same stem')
    files[stem] = file
  return files, problems


def _match(parent: Path, *, task: str | None) -> tuple[list[Item], list[str]]:
  """Pairs the two halves below `parent` by stem; sizes are not filled in yet."""
  clean_half, problems = _half(parent, CLEAN_FOLDERS)
  degraded_half, more = _half(parent, DEGRADED_FOLDERS)
  problems += more
  if problems:
    return [], problems
  if clean_half is None:
    return [], [f'{parent.name}: no folder of clean images ({", ".join(CLEAN_FOLDERS)})']
  if degraded_half is None and task is None:
    return [], [f'{parent.name}: no folder of degraded images ({", ".join(DEGRADED_FOLDERS)}); for clean images alone '
                'use data.source=folder']
  clean, problems = _by_stem(clean_half)
  degraded = {}
  if degraded_half is not None:
    degraded, more = _by_stem(degraded_half)
    problems += more
    for stem in sorted(clean.keys() ^ degraded.keys()):
      has, lacks = (clean_half, degraded_half) if stem in clean else (degraded_half, clean_half)
      problems.append(f'{parent.name}: {has.name}/{stem} has no counterpart in {lacks.name}')
  if not clean:
    problems.append(f'{parent.name}/{clean_half.name}: holds no image')
  prefix = '' if task is None else f'{task}/'
  both = [stem for stem in clean if degraded_half is None or stem in degraded]
  return [Item(name=prefix + clean[stem].relative_to(clean_half).as_posix(), height=0, width=0, clean=clean[stem],
               degraded=degraded.get(stem), task=task) for stem in both], problems


def without_level(task: str) -> str:
  """The task's name without a trailing number: 'noise' for 'noise25'.

  One folder of clean images may serve all levels of a task; it then bears the name without the level.

  Args:
    task: name of a task.

  Returns:
    The name without trailing digits.
  """
  return task.rstrip('0123456789')


def _task_folders(path: Path, tasks: Sequence[str] | None) -> tuple[list[Path], list[str]]:
  here = {p.name: p for p in sorted(path.iterdir()) if p.is_dir() and not p.name.startswith('.')}
  if tasks is None:
    return list(here.values()), []
  wanted, problems = {}, []
  for task in tasks:
    name = task if task in here else without_level(task)
    if name in here:
      wanted[name] = here[name]
    else:
      problems.append(f'{path.name}: no folder for task {task!r}; there are {", ".join(here) or "none"}')
  return list(wanted.values()), problems


def pairs(path: str | Path, *, tasks: Sequence[str] | None = None, cache_gib: float = 4.0) -> Source:
  """Clean and degraded images in two folders, matched by stem, or one such pair of folders for each task.

  `path` holds either gt/ and input/, or sub-folders named after tasks with gt/ and input/ each; `CLEAN_FOLDERS` and
  `DEGRADED_FOLDERS` list the other names the halves may have. A task folder without input/ gives clean images whose
  degradation is synthesised; one named 'noise' serves 'noise15', 'noise25' and so on.

  Args:
    path: the folder.
    tasks: the tasks to take; None takes every sub-folder. Without sub-folders it is not used.
    cache_gib: memory for decoded images.

  Returns:
    The source, task by task, in the order of the names.

  Raises:
    FileNotFoundError: if the folder does not exist.
    ValueError: naming every image without a counterpart, every pair of different sizes, every unreadable file, and
      every missing or doubled folder.
  """
  path = Path(path)
  image_files.list_images(path)  # for its errors
  if any((path / name).is_dir() for name in CLEAN_FOLDERS + DEGRADED_FOLDERS):
    items, problems = _match(path, task=None)
  else:
    items = []
    folders, problems = _task_folders(path, tasks)
    if not folders and not problems:
      problems.append(f'{path.name}: holds neither gt and input nor a folder for each task')
    for task_folder in folders:
      found, more = _match(task_folder, task=task_folder.name)
      items += found
      problems += more
  items, more = _sized(items)
  _raise_problems(f'paired folder {str(path)!r}', problems + more)
  return _from_files(items, cache_gib=cache_gib)


def dead_leaves(*, size: int = 512, count: int = 64, seed: int = 0, cache_gib: float = 1.0) -> Source:
  """Painted images (`data.dead_leaves`), for where no photograph is at hand; painted when first asked for.

  Args:
    size: side in pixels.
    count: number of images.
    seed: image i is a function of (seed, i).
    cache_gib: memory for painted images.

  Returns:
    The source.

  Raises:
    ValueError: if size or count is not positive, or seed is negative.
  """
  if size < 1 or count < 1 or seed < 0:
    raise ValueError(f'dead leaves need size >= 1, count >= 1 and seed >= 0, got {size}, {count}, {seed}')
  items = [Item(name=f'dead_leaves_{seed}_{index:05d}.png', height=size, width=size) for index in range(count)]

  def paint(index: int) -> dict[str, np.ndarray]:
    return {'clean': dead_leaves_painter.dead_leaves(np.random.default_rng([seed, index]), size)}

  return Source(items, paint, cache_gib=cache_gib)


SOURCES = ('embedded', 'folder', 'pairs', 'dead_leaves')


def build(
    name: str,
    *,
    path: str | Path = '',
    split: str = 'train',
    tasks: Sequence[str] | None = None,
    cache_gib: float = 4.0,
    painted: Mapping[str, int] | None = None,
) -> Source:
  """Makes the source called `name` from the options of a config section.

  Args:
    name: one of `SOURCES`.
    path: the folder of 'folder' and 'pairs'.
    split: which photographs of 'embedded'.
    tasks: the tasks to take of 'pairs'; None takes all.
    cache_gib: memory for decoded images.
    painted: size, count and seed of 'dead_leaves'.

  Returns:
    The source.

  Raises:
    ValueError: if the name is unknown, a folder is needed and none is named, or as the source says.
    FileNotFoundError: if the folder does not exist.
  """
  if name not in SOURCES:
    raise ValueError(f'unknown source {name!r}; known: {", ".join(SOURCES)}')
  if name == 'embedded':
    return embedded(split=split, cache_gib=cache_gib)
  if name == 'dead_leaves':
    return dead_leaves(**(painted or {}), cache_gib=cache_gib)
  if not str(path):
    raise ValueError(f'source {name!r} reads a folder: name it in data.path (evaluate.path for evaluation)')
  return folder(path, cache_gib=cache_gib) if name == 'folder' else pairs(path, tasks=tasks, cache_gib=cache_gib)
