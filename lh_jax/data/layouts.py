"""The published data sets on disk: a downloaded folder becomes pairs of files, matched by name.

Contract: what belongs together is told by names, never by the order of a listing. `scan` looks at names only and
reports every problem it meets; `source` makes a training or test source and raises them all at once. An item is called
DATASET/STEM.SUFFIX, with the suffix of its clean file, wherever the folder lies and whatever its halves are called.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import logging
from pathlib import Path
from pathlib import PurePosixPath

from lh_jax.data import image_files
from lh_jax.data import pairs
from lh_jax.data import splits
from lh_jax.data.datasets import Dataset
from lh_jax.data.datasets import find
from lh_jax.data.items import from_files
from lh_jax.data.items import Item
from lh_jax.data.items import raise_problems
from lh_jax.data.items import sized
from lh_jax.data.items import Source


log = logging.getLogger(__name__)

# What browsers and download managers call files they have not finished.
_UNFINISHED = ('.aria2', '.crdownload', '.download', '.opdownload', '.part', '.partial', '.tmp')


@dataclasses.dataclass(frozen=True)
class Problem:
  """Something wrong with a data set.

  Attributes:
    kind: one word, see `data.check`.
    text: one line that names the file.
  """

  kind: str
  text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
  """What the names in the folder of one split tell.

  Attributes:
    folder: the folder of the split.
    items: the pairs, in the order of their names; sizes are not filled in.
    problems: everything that does not fit.
    others: files that belong to no pair because they are no images, such as a licence text.
  """

  folder: Path
  items: tuple[Item, ...]
  problems: tuple[Problem, ...]
  others: tuple[Path, ...]


def stem(item: Item) -> str:
  """The name that the validation split goes by: that of the item without data set and suffix."""
  return PurePosixPath(item.name.partition('/')[2]).with_suffix('').as_posix()


def _plain(name: str) -> str:
  """'Motion Blur', 'motion-blur' and 'motion_blur' are one name."""
  return name.lower().replace('-', '_').replace(' ', '_')


def split_folder(path: Path, dataset: Dataset, split: str) -> Path:
  """Finds the folder of a published split.

  Args:
    path: the folder of the data set.
    dataset: the data set.
    split: 'train' or 'test'.

  Returns:
    The folder.

  Raises:
    FileNotFoundError: if `path` or the folder is not there; tells how to get the data set.
    ValueError: if several folders go by the names of the split.
  """
  if not path.is_dir():
    reason = 'is not a folder' if path.exists() else 'does not exist'
    raise FileNotFoundError(f'data set folder {str(path)!r} {reason}. {dataset.instructions}')
  names = dataset.train if split == 'train' else dataset.test
  here = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith('.'))
  found = [entry for entry in here if _plain(entry.name) in names]
  if len(found) > 1:
    raise ValueError(
      f'{path.name}: has {" and ".join(entry.name for entry in found)}, both for the split {split}; keep one of them'
    )
  if not found:
    there = ', '.join(entry.name for entry in here) or 'no folder'
    raise FileNotFoundError(
      f'{str(path)!r} has no folder {" or ".join(names)} for the split {split}, it has {there}. {dataset.instructions}'
    )
  return found[0]


def _halves(parent: Path, dataset: Dataset) -> tuple[dict[str, Path], dict[str, Path] | None, list[Problem]]:
  """Stem -> clean file and stem -> degraded file below `parent`; None for a set without degraded images."""
  clean_half, problems = pairs.half(parent, dataset.clean)
  degraded_half, more = pairs.half(parent, dataset.degraded)
  if problems or more:
    return {}, {}, [Problem('layout', line) for line in problems + more]
  if not dataset.degraded:
    clean, lines = pairs.by_stem(clean_half or parent)
    return clean, None, [Problem('duplicate', line) for line in lines]
  if clean_half is None and degraded_half is None and dataset.marks is not None:
    (clean, lines), (degraded, more) = (pairs.by_stem(parent, mark=mark) for mark in dataset.marks)
    known = {*clean.values(), *degraded.values()}
    problems = [
      Problem('layout', f'{parent.name}: {file.name} ends in neither {" nor ".join(dataset.marks)}')
      for file in image_files.list_images(parent)
      if file not in known
    ]
  else:
    missing = [
      Problem('layout', f'{parent.name}: no folder of {what} images ({", ".join(names)})')
      for what, half, names in (
        ('clean', clean_half, dataset.clean),
        ('degraded', degraded_half, dataset.degraded),
      )
      if half is None
    ]
    if missing:
      return {}, {}, missing
    (clean, lines), (degraded, more), problems = pairs.by_stem(clean_half), pairs.by_stem(degraded_half), []
  return clean, degraded, problems + [Problem('duplicate', line) for line in lines + more]


def _match(parent: Path, dataset: Dataset, *, task: str | None, prefix: str) -> tuple[list[Item], list[Problem]]:
  clean, degraded, problems = _halves(parent, dataset)
  for name in sorted(clean.keys() ^ degraded.keys()) if degraded is not None else ():
    file, lacks = (clean[name], 'degraded') if name in clean else (degraded[name], 'clean')
    problems.append(
      Problem('unpaired', f'{parent.name}: {file.relative_to(parent).as_posix()} has no {lacks} counterpart')
    )
  if not clean and not problems:
    problems.append(Problem('empty', f'{parent.name}: holds no image'))
  return [
    Item(
      name=f'{prefix}/{name}{file.suffix}',
      height=0,
      width=0,
      clean=file,
      degraded=None if degraded is None else degraded[name],
      task=task,
    )
    for name, file in sorted(clean.items())
    if degraded is None or name in degraded
  ], problems


def scan(path: str | Path, dataset: Dataset, split: str) -> Scan:
  """Pairs the files of one published split by their names; no file is opened.

  Args:
    path: the folder of the data set.
    dataset: the data set.
    split: 'train' or 'test'.

  Returns:
    The pairs, and all that does not fit.

  Raises:
    FileNotFoundError, ValueError: as `split_folder`.
  """
  folder = split_folder(Path(path), dataset, split)
  items, problems = [], []
  if dataset.task_folders:
    for entry in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith('.')):
      name = _plain(entry.name)
      if name not in dataset.task_folders:
        known = ', '.join(dataset.task_folders)
        problems.append(
          Problem('layout', f'{folder.name}: {entry.name} is no degradation of {dataset.title} ({known})')
        )
        continue
      found, more = _match(entry, dataset, task=dataset.task_folders[name], prefix=f'{dataset.name}/{name}')
      items += found
      problems += more
    if not items and not problems:
      problems.append(Problem('empty', f'{folder.name}: holds no image'))
  else:
    items, problems = _match(folder, dataset, task=dataset.task, prefix=dataset.name)
  images = set(image_files.list_images(folder))
  others = sorted(file for file in folder.rglob('*') if file.is_file() and file not in images)
  begun = [file for file in others if file.suffix.lower() in _UNFINISHED]
  problems += [Problem('partial', f'{folder.name}/{file.relative_to(folder)}: half downloaded') for file in begun]
  others = tuple(file for file in others if file not in begun)
  return Scan(folder=folder, items=tuple(items), problems=tuple(problems), others=others)


def select(scanned: Scan, dataset: Dataset, split: str) -> list[Item]:
  """The items of one of our splits, out of those of the published one.

  Args:
    scanned: the published split.
    dataset: the data set.
    split: one of `splits.SPLITS`.

  Returns:
    The items, in their order.

  Raises:
    ValueError: as `splits.select`.
  """
  chosen = splits.select(dataset.name, split, [stem(item) for item in scanned.items])
  return [item for item in scanned.items if stem(item) in chosen]


def _set_folder(path: Path, dataset: Dataset, *, alone: bool) -> Path:
  """The folder of one data set: `path` itself, or one below it that bears the name or the title."""
  if alone:
    return path
  names = (dataset.name, dataset.title)
  found = [path / name for name in names if (path / name).is_dir()]
  if not found:
    raise FileNotFoundError(
      f'{str(path)!r} has no folder {" or ".join(names)} for one of several data sets. {dataset.instructions}'
    )
  return found[0]


def _of_tasks(items: list[Item], dataset: Dataset, tasks: Sequence[str] | None) -> list[Item]:
  """Of a set with a folder for each task, the items of the tasks asked for; tells what is left out."""
  if not dataset.task_folders or tasks is None:
    return items
  there = sorted({item.task for item in items})
  left = [task for task in there if task not in tasks]
  if left == there:
    raise ValueError(f'{dataset.title} has images for {", ".join(there)}, and none for {", ".join(tasks)}.')
  if left:
    log.warning('%s: left out, as no task asks for them: %s.', dataset.title, ', '.join(left))
  return [item for item in items if item.task in tasks]


def source(
  names: str, path: str | Path, *, split: str = 'train', tasks: Sequence[str] | None = None, cache_gib: float = 4.0
) -> Source:
  """One published data set, or several as one.

  Args:
    names: a name in `datasets.DATASETS`, or several, joined by '+'.
    path: the folder of the data set; of several, the folder that holds one for each, called by its name or title.
    split: one of `splits.SPLITS`.
    tasks: of a set with a folder for each task, the tasks to take; None takes all.
    cache_gib: memory for decoded images.

  Returns:
    The source; its items bear the tasks of their sets.

  Raises:
    FileNotFoundError: if a folder is missing; tells how to get the data set.
    ValueError: if a name or the split is unknown, naming all files that do not fit or cannot be read, or if none is
      of `tasks`.
  """
  chosen = [find(name) for name in names.split('+')]
  items, problems = [], []
  for dataset in chosen:
    folder = _set_folder(Path(path), dataset, alone=len(chosen) == 1)
    scanned = scan(folder, dataset, splits.published(split))
    problems += [f'{dataset.name}: {problem.text}' for problem in scanned.problems]
    if not scanned.problems:
      items += _of_tasks(select(scanned, dataset, split), dataset, tasks)
      counts = dataset.compare(splits.published(split), len(scanned.items))
      if counts.differs:
        log.warning('%s: %s.', dataset.title, counts.text)
  items, more = sized(items)
  raise_problems(f'data set {names} at {str(path)!r}', problems + more)
  return from_files(items, cache_gib=cache_gib)
