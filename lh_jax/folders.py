"""Which file goes where: inputs and an output, as people name them, become pairs of files.

Contract: a folder's tree is kept below the output; hidden files and folders are left out, and so is the output folder
itself where it lies inside an input; a link that leads back to a folder above it is not followed. Nothing is written
here and no image is opened: a file is an image by its name, and one that is named by itself is taken as it is.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
import dataclasses
import logging
import os
from pathlib import Path
import unicodedata

from lh_jax.data import image_files

log = logging.getLogger('lh_jax.restore')

MAX_NAMED = 5  # pairs in one message


@dataclasses.dataclass(frozen=True)
class Job:
  """One file to restore.

  Attributes:
    source: the file to read.
    target: the file to write.
    notes: what a user should know, such as a changed suffix.
    error: why it cannot be done; the source is then a folder whose images are not known.
  """

  source: Path
  target: Path
  notes: tuple[str, ...] = ()
  error: str | None = None


def plan(inputs: Sequence[Path], output: Path, *, recursive: bool) -> list[Job]:
  """Pairs every input image with the file to write.

  Args:
    inputs: image files and folders of images.
    output: a file name where the only input is a file, else a folder; a folder's tree is kept below it.
    recursive: also take the images in sub-folders.

  Returns:
    The jobs, in the order of the inputs, each folder's in the order of their relative paths. A kind of file that is
    read but not written, such as .bmp, becomes .png. A sub-folder that cannot be read is a job with an error.

  Raises:
    FileNotFoundError: an input does not exist.
    OSError: an input folder cannot be read, or the output cannot be written to.
    ValueError: there is no image; or an output file would be an input, of two inputs, or of a kind that is not written.
  """
  for path in inputs:
    if not path.exists():
      raise FileNotFoundError(f'{path} does not exist.')
  into_file = bool(output.suffix) and not output.is_dir() and not any(path.is_dir() for path in inputs)
  if into_file:
    jobs = [_into_file(inputs, output)]
  else:
    _check_folder(inputs, output)
    jobs = [job for path in inputs for job in _into_folder(path, output, recursive=recursive)]
  if not jobs:
    names = ', '.join(map(str, inputs))
    raise ValueError(f'No images in {names}{"" if recursive else " (sub-folders need --recursive)"}.')
  _check_targets(jobs)
  _check_writable(output.parent if into_file else output)
  return jobs


def _into_file(inputs: Sequence[Path], output: Path) -> Job:
  if len(inputs) > 1:
    raise ValueError(f'{len(inputs)} inputs cannot be written to the one file {output}: name a folder with -o.')
  if output.suffix.lower() not in image_files.WRITABLE:
    known = ', '.join(image_files.WRITABLE)
    raise ValueError(
      f'{output}: {output.suffix!r} files cannot be written; known: {known}. If it is to be a folder, make it first.'
    )
  return Job(inputs[0], output)


def _check_folder(inputs: Sequence[Path], output: Path) -> None:
  if output.exists() and not output.is_dir():
    raise ValueError(f'The output {output} is a file, and the input is not one image: name a folder with -o.')
  place = os.path.realpath(output)
  for path in inputs:
    if path.is_dir() and os.path.realpath(path) == place:
      raise ValueError(
        f'The output {output} is the input folder itself, whose files would be lost: write into another folder, '
        f'such as {path / "restored"}.'
      )


def _into_folder(path: Path, output: Path, *, recursive: bool) -> Iterator[Job]:
  if not path.is_dir():
    yield _job(path, output / path.name)
    return
  found = dict(_images(path, output, recursive=recursive))
  for image in sorted(found, key=lambda image: image.relative_to(path).as_posix()):
    target = output / image.relative_to(path)
    yield Job(image, target, error=found[image]) if found[image] else _job(image, target)


def _job(source: Path, target: Path) -> Job:
  if target.suffix.lower() in image_files.WRITABLE:
    return Job(source, target)
  return Job(source, target.with_suffix('.png'), (f'written as PNG: {target.suffix or "such"} files are not written',))


def _images(folder: Path, output: Path, *, recursive: bool) -> Iterator[tuple[Path, str | None]]:
  """The images in a folder, and below it, without those in the output folder; and, with the reason, the sub-folders
  that cannot be read.
  """
  left_out = os.path.realpath(output)

  def walk(here: Path, above: frozenset[str]) -> Iterator[tuple[Path, str | None]]:
    folders = []
    with os.scandir(here) as entries:
      for entry in entries:
        if entry.name.startswith('.'):
          continue
        try:
          is_folder = entry.is_dir()
        except OSError as error:  # A link to itself.
          log.warning('%s is left out: %s.', here / entry.name, error.strerror or error)
          continue
        if is_folder:
          folders.append(entry.name)
        elif os.path.splitext(entry.name)[1].lower() in image_files.READABLE:
          yield here / entry.name, None
    for name in folders if recursive else []:
      place = os.path.realpath(here / name)
      if place == left_out:
        continue
      if place in above:
        log.warning('%s leads back to a folder above it and is left out.', here / name)
        continue
      try:
        yield from walk(here / name, above | {place})
      except OSError as error:
        yield here / name, f'the folder cannot be read: {error.strerror or error}'

  return walk(folder, frozenset({os.path.realpath(folder)}))


def _check_targets(jobs: Sequence[Job]) -> None:
  places: dict[Path, str] = {}

  def place(path: Path) -> str:
    """The file that a path names, links in its folders resolved."""
    if path.parent not in places:
      places[path.parent] = os.path.realpath(path.parent)
    return os.path.join(places[path.parent], path.name)

  # Replacing a link would do its file no harm; reading through one and replacing the file that it names would.
  sources = {os.path.realpath(job.source) if job.source.is_symlink() else place(job.source) for job in jobs}
  onto = [str(job.target) for job in jobs if place(job.target) in sources]
  if onto:
    raise ValueError(f'The output {_listed(onto)} would replace an input file: write into another folder with -o.')
  # Names that differ in case, or in how an accent is encoded, are one file on some systems.
  by_name = collections.defaultdict(list)
  for job in jobs:
    by_name[unicodedata.normalize('NFC', str(job.target)).casefold()].append(job)
  twice = [
    f'{" and ".join(str(job.source) for job in group)} to {group[0].target}'
    for group in by_name.values()
    if len(group) > 1
  ]
  if twice:
    raise ValueError(
      f'Several inputs would be written to one file: {_listed(twice)}. Rename some, or restore them into different '
      'folders.'
    )


def _listed(items: Sequence[str]) -> str:
  more = len(items) - MAX_NAMED
  return '; '.join(items[:MAX_NAMED]) + (f'; and {more} more' if more > 0 else '')


def _check_writable(folder: Path) -> None:
  """Checks what can be checked without making the folder."""
  while not folder.exists() and folder != folder.parent:
    folder = folder.parent
  if not folder.is_dir():
    raise NotADirectoryError(f'{folder} is a file, so that nothing can be written below it: name another output.')
  if not os.access(folder, os.W_OK | os.X_OK):
    raise PermissionError(f'No permission to write into {folder}: name another output.')
