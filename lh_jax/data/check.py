"""Is a downloaded data set whole and sound? Looks at every file and says what is wrong, without changing anything.

Contract: each problem has one of the `KINDS`, names its file, and none hides another. Files are judged by their headers
and their ends; with `deep` every pixel is decoded. A count that neither the paper nor a publisher gives is a problem
too: it is how an incomplete download shows that lacks whole pairs.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
import dataclasses
import os
from pathlib import Path
import re
from typing import Any

from lh_jax.data import image_files
from lh_jax.data import layouts
from lh_jax.data import splits
from lh_jax.data.datasets import Dataset
from lh_jax.data.formats import known
from lh_jax.data.items import Item
from lh_jax.data.layouts import Problem

KINDS = {
  'missing': 'a split has no folder',
  'layout': 'folders or names that are not those of the data set',
  'empty': 'a split without images',
  'unpaired': 'an image without its counterpart',
  'duplicate': 'two files of one name, or a second download of one',
  'partial': 'a file that is empty, cut short, or half downloaded',
  'format': 'a file that is not what its suffix says, such as a JPEG saved as PNG',
  'unreadable': 'a file that cannot be read as an image',
  'size': 'a pair of different sizes, EXIF orientation applied',
  'count': 'neither the number of images that the paper has nor the publishers',
}
_SECOND = re.compile(r' \(\d+\)$| - Copy$')
_PNG_END = b'IEND\xaeB`\x82'
_JPEG_END = b'\xff\xd9'
_TAIL_BYTES = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitReport:
  """What was found of one published split.

  Attributes:
    split: 'train' or 'test'.
    images: pairs (or clean images) whose names fit together.
    validation: how many of them our validation split takes.
    sizes: 'HEIGHTxWIDTH' -> number of sound images, the most frequent first.
    items: the sound ones, with their sizes.
    problems: what is wrong.
    notes: what a user should know that is not wrong.
  """

  split: str
  images: int = 0
  validation: int = 0
  sizes: dict[str, int] = dataclasses.field(default_factory=dict)
  items: tuple[Item, ...] = ()
  problems: tuple[Problem, ...] = ()
  notes: tuple[str, ...] = ()


def _ends_early(path: Path, kinds: Sequence[str]) -> bool:
  """Whether the end of a PNG or JPEG file is not where it should be; compressed pixels cannot look like it."""
  mark = {'.png': _PNG_END, '.jpg': _JPEG_END}.get(kinds[0])
  if mark is None:
    return False
  with path.open('rb') as stream:
    stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
    return mark not in stream.read()


def _examine(path: Path, name: str, *, deep: bool) -> tuple[tuple[int, int] | None, list[Problem]]:
  """The (height, width) of one file, None if it cannot be used, and what is wrong with it."""
  if not path.stat().st_size:
    return None, [Problem('partial', f'{name}: is empty (0 bytes)')]
  try:
    size = image_files.size(path)
  except (OSError, ValueError) as error:
    return None, [Problem('unreadable', f'{name}: {_reason(error)}')]
  with path.open('rb') as stream:
    kinds = known.suffixes(stream.read(16))
  problems = []
  if text := image_files.renamed(path):
    problems.append(Problem('format', f'{name}: {text}'))
  early = _ends_early(path, kinds)
  if deep or early:  # What some cameras write behind the picture hides its end, so that decoding decides.
    try:
      image_files.read_rgb(path)
    except (OSError, ValueError) as error:
      return None, [*problems, Problem('partial' if early else 'unreadable', f'{name}: {_reason(error)}')]
  return size, problems


def _reason(error: Exception) -> str:
  """The message without the path, which the line begins with."""
  return str(error.__cause__ or error)


def _pair(item: Item, folder: Path, *, deep: bool) -> tuple[Item | None, list[Problem]]:
  """The item with its size, None if it cannot be used, and what is wrong with its files."""
  sizes, problems = [], []
  for file in filter(None, (item.clean, item.degraded)):
    size, more = _examine(file, f'{folder.name}/{file.relative_to(folder).as_posix()}', deep=deep)
    sizes.append(size)
    problems += more
  if None in sizes:
    return None, problems
  if len(set(sizes)) > 1:
    clean, degraded = ('x'.join(map(str, size)) for size in sizes)
    text = f'{folder.name}: {item.name} is {clean} clean and {degraded} degraded (height x width as shown)'
    return None, [*problems, Problem('size', text)]
  return dataclasses.replace(item, height=sizes[0][0], width=sizes[0][1]), problems


def _second_downloads(items: Sequence[Item]) -> list[Problem]:
  """'0001 (1).png' beside '0001.png': pairs by name, but the same picture twice."""
  stems = {layouts.stem(item) for item in items}
  return [
    Problem('duplicate', f'{name}: looks like a second download of {_SECOND.sub("", name)}')
    for name in sorted(stems)
    if _SECOND.search(name) and _SECOND.sub('', name) in stems
  ]


def check_split(
  path: str | Path,
  dataset: Dataset,
  split: str,
  *,
  deep: bool = False,
  threads: int = 8,
  advance: Callable[[int, int], None] | None = None,
) -> SplitReport:
  """Checks one published split.

  Args:
    path: the folder of the data set.
    dataset: the data set.
    split: 'train' or 'test'.
    deep: decode every pixel; otherwise headers and ends of files are read.
    threads: how many files at a time.
    advance: called with the number of items looked at and of all.

  Returns:
    The report; a split without folder is a problem of kind 'missing'.
  """
  try:
    scanned = layouts.scan(path, dataset, split)
  except (FileNotFoundError, ValueError) as error:
    kind = 'missing' if isinstance(error, FileNotFoundError) else 'layout'
    return SplitReport(split=split, problems=(Problem(kind, str(error)),))
  items, problems = [], [*scanned.problems, *_second_downloads(scanned.items)]
  with futures.ThreadPoolExecutor(threads) as pool:
    looked = pool.map(lambda item: _pair(item, scanned.folder, deep=deep), scanned.items)
    for done, (sound, more) in enumerate(looked, start=1):
      items += [sound] if sound else []
      problems += more
      if advance:
        advance(done, len(scanned.items))
  images = len(scanned.items)
  counts, notes = dataset.compare(split, images), []
  if counts.differs:
    problems.append(Problem('count', counts.text))
  elif counts.text:
    notes.append(counts.text)
  rest = [file.name for file in scanned.others if not file.name.startswith('.')]
  if rest:
    notes.insert(0, f'{len(rest)} file(s) are no images and are left alone: {", ".join(rest[:3])}')
  held = 0
  if split == 'train' and images > 1:
    held = len(splits.validation(dataset.name, [layouts.stem(item) for item in scanned.items]))
  return SplitReport(
    split=split,
    images=images,
    validation=held,
    sizes=dict(collections.Counter(f'{item.height}x{item.width}' for item in items).most_common()),
    items=tuple(items),
    problems=tuple(problems),
    notes=tuple(notes),
  )


def lines(dataset: Dataset, reports: Sequence[SplitReport]) -> Iterator[str]:
  """The report for people.

  Args:
    dataset: the data set.
    reports: of its splits.

  Yields:
    Lines of text.
  """
  for report in reports:
    what = 'pairs' if dataset.degraded else 'clean images'
    held = f', of which {report.validation} are the validation split' if report.validation else ''
    yield f'{dataset.title} {report.split}: {report.images} {what}{held}'
    if report.sizes:
      shown = [f'{size} ({number})' for size, number in list(report.sizes.items())[:5]]
      more = f' and {len(report.sizes) - 5} other sizes' if len(report.sizes) > 5 else ''
      yield f'  height x width: {", ".join(shown)}{more}'
    for note in report.notes:
      yield f'  note: {note}'
    for kind, said in KINDS.items():
      found = [problem.text for problem in report.problems if problem.kind == kind]
      if found:
        yield f'  {kind} ({said}): {len(found)}'
        yield from (f'    {text}' for text in found)
  total = sum(len(report.problems) for report in reports)
  yield f'{total} problem(s)' if total else 'no problem found'


def as_json(path: str | Path, dataset: Dataset, reports: Sequence[SplitReport], *, deep: bool) -> dict[str, Any]:
  """The report for programs.

  Args:
    path: the folder of the data set.
    dataset: the data set.
    reports: of its splits.
    deep: whether every pixel was decoded.

  Returns:
    Plain values, ready for `json`.
  """
  return {
    'dataset': dataset.name,
    'path': os.fspath(path),
    'deep': deep,
    'expected': [dataclasses.asdict(count) for count in dataset.counts],
    'splits': {
      report.split: {
        'images': report.images,
        'validation': report.validation,
        'sizes': report.sizes,
        'problems': [dataclasses.asdict(problem) for problem in report.problems],
        'notes': list(report.notes),
      }
      for report in reports
    },
  }
