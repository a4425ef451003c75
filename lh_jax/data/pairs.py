"""Data sets of clean and degraded photographs in two folders, matched by file stem.

Contract: names decide what belongs together, never the order of a listing, and a pair must have one size as shown (EXIF
orientation applied). Nothing is left out in silence: all that does not fit is reported at once, before training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lh_jax.data import image_files
from lh_jax.data.items import Item
from lh_jax.data.items import Source
from lh_jax.data.items import from_files
from lh_jax.data.items import raise_problems
from lh_jax.data.items import sized

# Names the published data sets give to the two halves (UHD-LL, UHD-Haze, UHD-Snow, UHD-Rain: gt/input; 4K-Rain13k:
# target/input; UHD-Blur: gt_new/input_new for training, gt300/input300 for testing).
CLEAN_FOLDERS = ('gt', 'target', 'gt_new', 'gt300')
DEGRADED_FOLDERS = ('input', 'input_new', 'input300')


def half(parent: Path, names: Sequence[str]) -> tuple[Path | None, list[str]]:
  """Finds the one sub-folder that goes by any of several names.

  Args:
    parent: the folder above it.
    names: what it may be called, in lower case.

  Returns:
    The folder, None where there is none or more than one; and a line on the problem.
  """
  found = [entry for entry in sorted(parent.iterdir()) if entry.name.lower() in names and entry.is_dir()]
  if len(found) > 1:
    return None, [f'{parent.name}: has {" and ".join(f.name for f in found)}, which are one thing; keep one of them']
  return (found[0] if found else None), []


def by_stem(folder: Path, *, mark: str = '') -> tuple[dict[str, Path], list[str]]:
  """Files by their relative path without suffix.

  Args:
    folder: searched recursively.
    mark: take only files whose stem ends so, and leave it off.

  Returns:
    Stem -> file, and a line on every two files of one stem.
  """
  files, problems = {}, []
  for file in image_files.list_images(folder):
    stem = file.relative_to(folder).with_suffix('').as_posix()
    if not stem.endswith(mark):
      continue
    stem = stem.removesuffix(mark)
    if stem in files:
      problems.append(f'{folder.parent.name}/{folder.name}: {files[stem].name} and {file.name} have the same stem')
    files[stem] = file
  return files, problems


def _match(parent: Path, *, task: str | None) -> tuple[list[Item], list[str]]:
  """Pairs the two halves below `parent` by stem; sizes are not filled in yet."""
  clean_half, problems = half(parent, CLEAN_FOLDERS)
  degraded_half, more = half(parent, DEGRADED_FOLDERS)
  problems += more
  if problems:
    return [], problems
  if clean_half is None:
    return [], [f'{parent.name}: no folder of clean images ({", ".join(CLEAN_FOLDERS)})']
  if degraded_half is None and task is None:
    return [], [
      f'{parent.name}: no folder of degraded images ({", ".join(DEGRADED_FOLDERS)}); for clean images alone '
      'use data.source=folder'
    ]
  clean, problems = by_stem(clean_half)
  degraded = {}
  if degraded_half is not None:
    degraded, more = by_stem(degraded_half)
    problems += more
    for stem in sorted(clean.keys() ^ degraded.keys()):
      has, lacks = (clean_half, degraded_half) if stem in clean else (degraded_half, clean_half)
      problems.append(f'{parent.name}: {has.name}/{stem} has no counterpart in {lacks.name}')
  if not clean:
    problems.append(f'{parent.name}/{clean_half.name}: holds no image')
  prefix = '' if task is None else f'{task}/'
  both = [stem for stem in clean if degraded_half is None or stem in degraded]
  return [
    Item(
      name=prefix + clean[stem].relative_to(clean_half).as_posix(),
      height=0,
      width=0,
      clean=clean[stem],
      degraded=degraded.get(stem),
      task=task,
    )
    for stem in both
  ], problems


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
  if any(entry.is_dir() and entry.name.lower() in CLEAN_FOLDERS + DEGRADED_FOLDERS for entry in path.iterdir()):
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
  items, more = sized(items)
  raise_problems(f'paired folder {str(path)!r}', problems + more)
  return from_files(items, cache_gib=cache_gib)
