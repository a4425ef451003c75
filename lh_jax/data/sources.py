"""Data sets by name: embedded photographs, a folder, pairs of folders, painted images, published sets, prepared crops.

Contract: each function here makes a `Source` (`data.items`): random access to dicts with 'name', 'clean', and where the
data set has them 'degraded' and 'task'. Everything that file headers can tell is checked when the source is made, and
all problems are reported at once; damaged pixels are found when they are decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import importlib.util
from pathlib import Path

import numpy as np

from lh_jax.data import dead_leaves as dead_leaves_painter
from lh_jax.data import image_files
from lh_jax.data import layouts
from lh_jax.data.datasets import DATASETS
from lh_jax.data.items import from_files
from lh_jax.data.items import Item
from lh_jax.data.items import joined
from lh_jax.data.items import pyramid
from lh_jax.data.items import raise_problems
from lh_jax.data.items import sized
from lh_jax.data.items import Source
from lh_jax.data.pairs import pairs

# Colour photographs in scikit-image's wheel; the documentation of skimage.data gives authors and licences.
EMBEDDED = {
  # Both halves of the stereo pair show one scene, so they stay in one split.
  'train': ('astronaut.png', 'coffee.png', 'motorcycle_left.png', 'motorcycle_right.png', 'rocket.jpg'),
  'test': ('chelsea.png',),
}


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
    raise FileNotFoundError(
      'the embedded photographs are read from the package scikit-image, which is not installed: '
      'pip install scikit-image, or choose another data.source'
    )
  folder_path = Path(next(iter(spec.submodule_search_locations)), 'data')
  missing = [name for name in EMBEDDED[split] if not (folder_path / name).is_file()]
  if missing:
    raise FileNotFoundError(
      f'scikit-image at {str(folder_path)!r} lacks the photographs {", ".join(missing)}: '
      'reinstall scikit-image from its wheel, or choose another data.source'
    )
  items, problems = sized([Item(name=name, height=0, width=0, clean=folder_path / name) for name in EMBEDDED[split]])
  raise_problems(f'data folder {str(folder_path)!r}', problems)
  return from_files(items, cache_gib=cache_gib)


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
  source, problems = readable(path, cache_gib=cache_gib)
  raise_problems(f'image folder {str(path)!r}', problems)
  return source


def readable(path: str | Path, *, cache_gib: float = 4.0) -> tuple[Source, list[str]]:
  """As `folder`, of the images whose headers can be read; and a line on each of the others.

  Raises:
    FileNotFoundError: if the folder does not exist.
    ValueError: if it holds no image.
  """
  path = Path(path)
  files = image_files.list_images(path)
  if not files:
    raise ValueError(f'image folder {str(path)!r} holds no image; looked for {", ".join(image_files.READABLE)}')
  items, problems = sized([Item(name=f.relative_to(path).as_posix(), height=0, width=0, clean=f) for f in files])
  return from_files(items, cache_gib=cache_gib), problems


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


SOURCES = ('embedded', 'folder', 'pairs', 'dead_leaves', 'crops', *DATASETS)
# These may be joined, and have smaller copies: their degradations are synthesised.
CLEAN = ('embedded', 'folder', 'dead_leaves')


def build(
  name: str,
  *,
  path: str | Path = '',
  split: str = 'train',
  tasks: Sequence[str] | None = None,
  cache_gib: float = 4.0,
  painted: Mapping[str, int] | None = None,
  levels: int = 1,
  least: int = 1,
) -> Source:
  """Makes the source called `name` from the options of a config section.

  Args:
    name: one of `SOURCES`; or several joined by '+', of published data sets or of those in `CLEAN`.
    path: the folder, of all but 'embedded' and 'dead_leaves'.
    split: which images of 'embedded', 'crops' and the published data sets; see `data.splits`.
    tasks: the tasks to take of 'pairs' and of published data sets with several tasks; None takes all.
    cache_gib: memory for decoded images.
    painted: size, count and seed of 'dead_leaves'.
    levels: how many sizes of each clean image there are at most, see `items.pyramid`; others have one.
    least: height and width that a smaller copy must have.

  Returns:
    The source.

  Raises:
    ValueError: if the name is unknown, a folder is needed and none is named, or as the source says.
    FileNotFoundError: if the folder does not exist.
  """
  parts = name.split('+')
  if levels != 1:
    if not set(parts) <= set(CLEAN):
      raise ValueError(f'data.pyramid makes smaller copies of {", ".join(CLEAN)}; the source {name!r} has pairs')
    whole = build(name, path=path, split=split, cache_gib=0, painted=painted)
    return pyramid(whole, levels=levels, least=least, cache_gib=cache_gib)
  published = all(part in DATASETS for part in parts)
  if len(parts) > 1 and len(set(parts)) == len(parts) and set(parts) <= set(CLEAN):
    # The whole has the cache.
    options = {'path': path, 'split': split, 'cache_gib': 0, 'painted': painted}
    return joined({part: build(part, **options) for part in parts}, cache_gib=cache_gib)
  if name not in SOURCES and not published:
    raise ValueError(
      f'unknown source {name!r}; known: {", ".join(SOURCES)}; published data sets may be joined by +, and so may '
      f'{", ".join(CLEAN)}'
    )
  if name == 'embedded':
    return embedded(split=split, cache_gib=cache_gib)
  if name == 'dead_leaves':
    return dead_leaves(**(painted or {}), cache_gib=cache_gib)
  if not str(path):
    raise ValueError(f'source {name!r} reads a folder: name it in data.path (evaluate.path for evaluation)')
  if published:
    return layouts.source(name, path, split=split, tasks=tasks, cache_gib=cache_gib)
  if name == 'crops':
    from lh_jax.data import crops  # array_record is an extra that only this source needs

    return crops.source(path, split=split, cache_gib=cache_gib)
  return folder(path, cache_gib=cache_gib) if name == 'folder' else pairs(path, tasks=tasks, cache_gib=cache_gib)
