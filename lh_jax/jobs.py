"""Photographs from file to file: read, restored, written, each step while the neighbours of its file are in the others.

Contract: a file succeeds or fails by itself, and its record says how. Restoring is done by the calling thread; one
thread reads and one writes, and beside the image that is being restored there is at most one that waits and one that is
being written, so that memory stays bounded. An interrupt drops what waits, lets the file that is being written be
finished, and goes on to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent import futures
import contextlib
import dataclasses
import logging
import time
from typing import Any

from lh_jax import baselines
from lh_jax import inference
from lh_jax import progress
from lh_jax import reports
from lh_jax.data import image_files
from lh_jax.data import unfinished

log = logging.getLogger('lh_jax.restore')


def skip_finished(records: Sequence[reports.Record]) -> int:
  """Marks the records whose output exists as skipped and returns how many these are."""
  for record in records:
    if record.status is None and record.target.is_file():
      record.status = 'skipped'
  return sum(record.status == 'skipped' for record in records)


def restore_files(
  restorer: inference.Restorer | baselines.Baseline,
  records: Sequence[reports.Record],
  *,
  overwrite: bool,
  metadata: str,
  quality: int,
  **options: Any,
) -> None:
  """Restores the files whose records have no status yet, and completes the records.

  Args:
    restorer: the model.
    records: the files.
    overwrite: also restore what has been written meanwhile, by somebody else.
    metadata: see `image_files.write_photo`.
    quality: likewise.
    **options: see its `run`.

  Raises:
    KeyboardInterrupt: as it came.
  """
  waiting = [record for record in records if record.status is None]
  line = _Line(restorer, len(waiting), overwrite, {'metadata': metadata, 'quality': quality}, options)
  reader, writer = futures.ThreadPoolExecutor(1, 'read'), futures.ThreadPoolExecutor(1, 'write')
  try:
    with progress.Bar([record.source for record in waiting], shown=progress.wanted()) as bar:
      line.run(waiting, reader, writer, bar)
      writer.shutdown()  # While lines are still printed above the bar.
  except KeyboardInterrupt:
    log.info('Stopping; the file that is being written is finished first.')
    raise
  finally:
    reader.shutdown(cancel_futures=True)
    writer.shutdown()


class _Line:
  """The three steps of every file, and the order in which they are taken."""

  def __init__(
    self,
    restorer: inference.Restorer | baselines.Baseline,
    count: int,
    overwrite: bool,
    written: dict,
    options: dict,
  ):
    self._restorer, self._count, self._overwrite = restorer, count, overwrite
    self._written, self._options = written, options
    self._shown = False  # whether there is a bar, which tells enough about files without troubles
    self._swept = set()

  def run(
    self,
    records: Sequence[reports.Record],
    reader: futures.Executor,
    writer: futures.Executor,
    bar: progress.Bar,
  ) -> None:
    self._shown = bar.shown
    ahead = reader.submit(self._read, records[0])
    writing = None
    for number, record in enumerate(records, 1):
      bar.begin(record.source, f'{number}/{self._count}')
      photo = ahead.result()
      ahead = reader.submit(self._read, records[number]) if number < self._count else None
      if photo is not None:
        photo = self._restore(record, photo, bar)
      if writing is not None:
        writing.result()
      if photo is not None:
        writing = writer.submit(self._write, number, record, photo)
      else:
        bar.drop(record.source)
        self._tell(number, record)
      photo = None  # Its memory is the writer's now.

  def _read(self, record: reports.Record) -> image_files.Photo | None:
    if not self._overwrite and record.target.is_file():  # Another process may be at work on the same folder.
      record.status = 'skipped'
      return None
    with _step(record, 'read'):
      photo = image_files.read_photo(record.source)
      height, width, _ = photo.pixels.shape
      record.size, record.bits = (width, height), 8 * photo.pixels.itemsize
      record.notes += photo.notes
      image_files.check_can_hold(record.target, photo)
      return photo
    return None

  def _restore(self, record: reports.Record, photo: image_files.Photo, bar: progress.Bar) -> image_files.Photo | None:
    with _step(record, 'restore'):
      record.alpha = self._options.get('alpha')
      restored = self._restorer.run(photo.pixels, progress=bar.at, **self._options)
      bar.at(1.0)
      record.window = restored.window
      record.notes += restored.notes
      return dataclasses.replace(photo, pixels=restored.image)
    return None

  def _write(self, number: int, record: reports.Record, photo: image_files.Photo) -> None:
    with _step(record, 'write'):
      if record.target.parent not in self._swept:
        self._swept.add(record.target.parent)
        unfinished.remove_leftovers(record.target.parent)
      record.notes += image_files.write_photo(record.target, photo, **self._written)
      record.status = 'restored'
    self._tell(number, record)

  def _tell(self, number: int, record: reports.Record) -> None:
    place = f'[{number}/{self._count}] {record.source}'
    if record.status == 'failed':
      log.error('[%d/%d] failed: %s', number, self._count, record.failure())
      return
    if record.status == 'skipped':
      log.info('%s: %s exists by now, skipped.', place, record.target)
      return
    for note in record.notes:
      log.info('%s: %s.', place, note)
    seconds = ', '.join(f'{step} {record.seconds[step]:.1f} s' for step in reports.STEPS)
    log.log(
      logging.DEBUG if self._shown else logging.INFO,
      '%s -> %s, %dx%d, %d bits, %s',
      place,
      record.target,
      *record.size,
      record.bits,
      seconds,
    )


@contextlib.contextmanager
def _step(record: reports.Record, name: str) -> Iterator[None]:
  """Times a step; its failure is the file's, and must not end a batch of thousands."""
  started = time.perf_counter()
  try:
    yield
  except Exception as error:
    record.fail(error)
    log.debug('Traceback of %s:', record.source, exc_info=True)
  finally:
    record.seconds[name] = time.perf_counter() - started
