"""Where a run lives: a folder of this machine, or a bucket (gs://..., s3://...) through epath.

Contract: what is written appears whole or not at all. Files are made in a local folder and copied to a bucket, whose
objects appear when they are complete, so that whoever writes knows of local files alone. Buckets need TensorFlow, or
fsspec with gcsfs or s3fs.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import pathlib
import tempfile
from typing import IO, Any


def path(name: str | os.PathLike[str]) -> Any:
  """Returns a pathlib.Path, or for 'scheme://...' an epath.Path, which has the same methods."""
  if is_remote(name):
    from etils import epath

    return epath.Path(name)
  return pathlib.Path(name)


def is_remote(name: str | os.PathLike[str]) -> bool:
  """Whether a path is one of a bucket."""
  return '://' in os.fspath(name)


@contextlib.contextmanager
def staged(folder: Any) -> Iterator[pathlib.Path]:
  """Yields a local folder to write files into, which are then in `folder`: itself, or one whose files are copied."""
  if not is_remote(folder):
    yield folder
    return
  with tempfile.TemporaryDirectory() as temporary:
    local = pathlib.Path(temporary)
    yield local
    for file in sorted(file for file in local.rglob('*') if file.is_file()):
      target = folder / file.relative_to(local).as_posix()
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_bytes(file.read_bytes())


@contextlib.contextmanager
def fetched(file: Any) -> Iterator[pathlib.Path]:
  """Yields a local file with the bytes of `file`: itself, or a copy for as long as the context lasts."""
  if not is_remote(file):
    yield file
    return
  with tempfile.TemporaryDirectory() as temporary:
    local = pathlib.Path(temporary) / file.name
    local.write_bytes(file.read_bytes())
    yield local


class Lines:
  """A text file that lines are added to; each is there when it has been written, also in a bucket."""

  def __init__(self, file: Any):
    """Begins, or goes on with, a file."""
    self._file = file
    # An object of a bucket appears when it is closed; one of a disk can stay open.
    self._open: IO[str] | None = None if is_remote(file) else open(file, 'a', encoding='utf-8')

  def write(self, line: str) -> None:
    """Adds one line."""
    if self._open is not None:
      self._open.write(line + '\n')
      self._open.flush()
      return
    before = self._file.read_text(encoding='utf-8') if self._file.exists() else ''
    self._file.write_text(before + line + '\n', encoding='utf-8')

  def close(self) -> None:
    """Closes the file."""
    if self._open is not None:
      self._open.close()
