"""Files through a stand-in for the model: overlap, failures of single files, what is kept in memory."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from lh_jax import inference
from lh_jax import jobs
from lh_jax import reports
from lh_jax.data import image_files

WAIT = 20.0  # seconds after which a test that waits for another thread has failed


@dataclasses.dataclass
class Negative:
  """Turns images into their negatives; `on_run` is called before."""

  on_run: object = lambda image: None

  def run(self, image, *, alpha, progress, tile='auto', max_memory=None):
    self.on_run(image)
    progress(1.0)
    return inference.Restored(np.iinfo(image.dtype).max - image, (8, 16), ('a note',))


@pytest.fixture(name='records')
def _records(tmp_path):
  found = []
  for value in range(4):
    source = tmp_path / 'in' / f'{value}.png'
    image_files.write_image(source, np.full((4, 6, 3), value, np.uint8))
    found.append(reports.Record(source, tmp_path / 'out' / 'new' / source.name))
  return found


def restore(records, restorer=Negative(), *, overwrite=False):
  jobs.restore_files(restorer, records, overwrite=overwrite, metadata='keep', quality=95, alpha=0.5)


def test_records_are_completed(records):
  restore(records)
  for value, record in enumerate(records):
    assert (image_files.read_rgb(record.target) == 255 - value).all()
    assert (record.status, record.size, record.bits, record.alpha) == ('restored', (6, 4), 8, 0.5)
    assert record.window == (8, 16) and record.notes == ['a note'] and record.error is None
    assert set(record.seconds) == set(reports.STEPS)


def test_each_step_may_fail_for_a_file_alone(records, tmp_path):
  def fail_on_second(image):
    if image[0, 0, 0] == 1:
      raise MemoryError('the smallest tile does not fit')

  records[0].source.write_bytes(b'')
  (tmp_path / 'out' / 'new' / '2.png').mkdir(parents=True)
  restore(records, Negative(fail_on_second))
  assert [record.status for record in records] == ['failed', 'failed', 'failed', 'restored']
  assert 'it is empty' in records[0].error and 'does not fit' in records[1].error and records[2].error
  assert [list(record.seconds) for record in records[:3]] == [['read'], ['read', 'restore'], [*reports.STEPS]]
  assert sorted(path.name for path in (tmp_path / 'out' / 'new').iterdir()) == ['2.png', '3.png']


def test_a_size_that_the_output_cannot_hold_is_refused_before_restoring(records):
  image_files.write_image(records[0].source, np.zeros((1, 16384, 3), np.uint8))
  records[0].target = records[0].target.with_suffix('.webp')
  restore(records[:1])
  assert 'WebP holds up to 16383 pixels a side, not 16384x1' in records[0].error
  assert list(records[0].seconds) == ['read']


def test_finished_files(records):
  image_files.write_image(records[1].target, np.zeros((2, 2, 3), np.uint8))
  assert jobs.skip_finished(records) == 1
  # One more appears while others are worked on.
  image_files.write_image(records[2].target, np.zeros((2, 2, 3), np.uint8))
  restore(records)
  assert [record.status for record in records] == ['restored', 'skipped', 'skipped', 'restored']
  assert image_files.size(records[2].target) == (2, 2)
  again = [reports.Record(record.source, record.target) for record in records]
  restore(again, overwrite=True)
  assert {record.status for record in again} == {'restored'} and image_files.size(records[2].target) == (4, 6)


def test_steps_of_neighbours_overlap_and_no_more(records, monkeypatch):
  """While the second file is restored the third is read and the first is written, and the fourth is not yet read."""
  read, write = image_files.read_photo, image_files.write_photo
  third_read, first_written, second_runs = threading.Event(), threading.Event(), threading.Event()
  names_read = []

  def noted_read(path):
    names_read.append(path.name)
    photo = read(path)
    if path.name == '2.png':
      third_read.set()
    return photo

  def noted_write(path, photo, **options):
    if path.name == '0.png':
      assert second_runs.wait(WAIT)
    notes = write(path, photo, **options)
    if path.name == '0.png':
      first_written.set()
    return notes

  def meanwhile(image):
    if image[0, 0, 0] == 1:
      second_runs.set()
      assert third_read.wait(WAIT) and first_written.wait(WAIT)
      time.sleep(0.05)  # for a reader that would go on
      assert names_read == ['0.png', '1.png', '2.png']

  monkeypatch.setattr(image_files, 'read_photo', noted_read)
  monkeypatch.setattr(image_files, 'write_photo', noted_write)
  restore(records, Negative(meanwhile))
  assert {record.status for record in records} == {'restored'}, [record.error for record in records]


def test_an_interrupt_drops_what_waits(records):
  def interrupt_second(image):
    if image[0, 0, 0] == 1:
      raise KeyboardInterrupt

  before = threading.active_count()
  with pytest.raises(KeyboardInterrupt):
    restore(records, Negative(interrupt_second))
  assert [record.status for record in records] == ['restored', None, None, None]
  assert records[0].target.is_file() and not records[1].target.exists()
  assert threading.active_count() == before
