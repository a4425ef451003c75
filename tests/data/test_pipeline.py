"""Batches are a function of seed and step, on any number of processes, and the iterator cleans up."""

import threading
import time

import numpy as np
from PIL import Image
import pytest

from lh_jax.data import pipeline
from lh_jax.data import sources

TASKS = ('haze', 'rain', 'noise25')


class Numbered:
  """A source of flat images, each of its own grey, some paired (with grey + 100)."""

  def __init__(self, tasks=(None,) * 6, paired=(), size=12, delay=0.0):
    self.items = [
      sources.Item(name=f'{i}.png', height=size, width=size + 1, task=task, degraded='file' if i in paired else None)
      for i, task in enumerate(tasks)
    ]
    self._delay = delay

  def __len__(self):
    return len(self.items)

  def __getitem__(self, index):
    time.sleep(self._delay)
    item = self.items[index]
    shape = (item.height, item.width, 3)
    degraded = {'degraded': np.full(shape, index + 100, np.uint8)} if item.degraded else {}
    return {'name': item.name, 'clean': np.full(shape, index, np.uint8), **degraded}


def _batches(source, **options) -> list[dict[str, np.ndarray]]:
  defaults = dict(tasks=TASKS, batch_size=4, crop_size=8, seed=0, num_steps=5, num_threads=2)
  with pipeline.training_batches(source, **{**defaults, **options}) as batches:
    return list(batches)


def _assert_equal(first, second):
  assert len(first) == len(second)
  for a, b in zip(first, second):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


@pytest.fixture(scope='module')
def photographs():
  return sources.embedded(split='train')


def test_shapes_types_and_number_of_batches(photographs):
  batches = _batches(photographs, crop_size=32)
  assert len(batches) == 5
  for batch in batches:
    assert set(batch) == {'clean', 'task'}
    assert batch['clean'].shape == (4, 32, 32, 3) and batch['clean'].dtype == np.uint8
    assert batch['task'].shape == (4,) and batch['task'].dtype == np.int32
    assert set(batch['task'].tolist()) <= {0, 1, 2}


@pytest.mark.parametrize('num_threads', [0, 1, 7])
def test_same_seed_and_step_same_batch(photographs, num_threads):
  _assert_equal(_batches(photographs, num_threads=num_threads, prefetch=3), _batches(photographs))


def test_other_seed_or_step_other_batch(photographs):
  first, other = _batches(photographs), _batches(photographs, seed=1)
  images = [batch['clean'].tobytes() for batch in first + other]
  assert len(set(images)) == len(images)


def test_resume_equals_the_tail(photographs):
  _assert_equal(_batches(photographs, start_step=3), _batches(photographs)[3:])
  assert _batches(photographs, start_step=5) == []


def test_a_smaller_batch_draws_nothing_again(photographs):
  """By the stride of the larger batch before it: the first samples of what that one would have drawn."""
  larger = [{name: value[:2] for name, value in batch.items()} for batch in _batches(photographs)]
  _assert_equal(_batches(photographs, batch_size=2, stride=4, start_step=3), larger[3:])


@pytest.mark.parametrize('process_count', [2, 4])
def test_slices_of_the_processes_make_the_global_batch(photographs, process_count):
  parts = [_batches(photographs, process_index=i, process_count=process_count) for i in range(process_count)]
  joined = [
    {name: np.concatenate([part[step][name] for part in parts]) for name in ('clean', 'task')} for step in range(5)
  ]
  _assert_equal(joined, _batches(photographs))


def test_augmentation_turns_and_can_be_off():
  class Ramp(Numbered):
    def __getitem__(self, index):
      return {'name': '', 'clean': np.broadcast_to(np.arange(13, dtype=np.uint8)[None, :, None], (12, 13, 3))}

  def to_the_right(batches):
    return np.concatenate([(batch['clean'][:, 0, 1] > batch['clean'][:, 0, 0])[:, 0] for batch in batches])

  assert to_the_right(_batches(Ramp(), augment=False)).all()
  assert 0.0 < to_the_right(_batches(Ramp())).mean() < 0.7


def test_tasks_come_by_weight():
  tasks = np.concatenate([b['task'] for b in _batches(Numbered(), task_weights=(1, 0, 3), num_steps=200)])
  counts = np.bincount(tasks, minlength=3)
  assert counts[1] == 0 and abs(counts[2] / counts.sum() - 0.75) < 0.05


def test_pairs_get_the_identity_and_the_others_their_task():
  source = Numbered(tasks=('haze', 'haze', 'rain', 'noise'), paired=(0, 1))
  for batch in _batches(source, num_steps=40):
    index, degraded = batch['clean'][:, 0, 0, 0].astype(int), batch['degraded'][:, 0, 0, 0].astype(int)
    np.testing.assert_array_equal(batch['task'], np.array([3, 3, 1, 2])[index])
    np.testing.assert_array_equal(degraded, np.where(index < 2, index + 100, index))


def test_weights_choose_the_task_before_the_image():
  source = Numbered(tasks=('haze',) * 9 + ('rain', 'noise'))
  index = np.concatenate([b['clean'][:, 0, 0, 0] for b in _batches(source, num_steps=200)])
  shares = [(index < 9).mean(), (index == 9).mean(), (index == 10).mean()]
  np.testing.assert_allclose(shares, 1 / 3, atol=0.06)


def test_the_folder_of_a_level_goes_before_the_folder_of_all():
  source = Numbered(tasks=('noise', 'noise25'))
  batch = _batches(source, tasks=('noise15', 'noise25'), batch_size=32)[0]
  np.testing.assert_array_equal(batch['clean'][:, 0, 0, 0], batch['task'])


def test_real_pairs_are_cropped_alike(tmp_path):
  noise = np.random.default_rng(0).integers(0, 200, (30, 40, 3)).astype(np.uint8)
  for half, offset in (('gt', 0), ('input', 50)):
    (tmp_path / half).mkdir()
    Image.fromarray(noise + np.uint8(offset)).save(tmp_path / half / '1.png')
  for batch in _batches(sources.pairs(tmp_path)):
    np.testing.assert_array_equal(batch['degraded'] - batch['clean'], 50)
    assert (batch['task'] == 3).all()


def test_wait_seconds_counts_waiting_only():
  with pipeline.training_batches(
    Numbered(delay=0.05), tasks=TASKS, batch_size=2, crop_size=8, seed=0, num_steps=2, num_threads=1, prefetch=1
  ) as batches:
    assert batches.wait_seconds == 0.0
    next(batches)
    first = batches.wait_seconds
    assert first >= 0.09
    time.sleep(0.3)  # the next batch is made meanwhile
    next(batches)
    assert batches.wait_seconds - first < 0.09


def _threads_after(known) -> set[threading.Thread]:
  """Threads started since, given time to end."""
  deadline = time.monotonic() + 5.0
  while (left := set(threading.enumerate()) - known) and time.monotonic() < deadline:
    time.sleep(0.01)
  return left


def test_closing_ends_the_threads():
  known = set(threading.enumerate())
  batches = pipeline.training_batches(
    Numbered(delay=0.01), tasks=TASKS, batch_size=4, crop_size=8, seed=0, num_steps=100, num_threads=3
  )
  next(batches)
  assert set(threading.enumerate()) - known
  batches.close()
  batches.close()
  assert not _threads_after(known)
  with pytest.raises(ValueError, match=r'training batches were asked for after close\(\)'):
    next(batches)


def test_a_data_set_that_does_not_answer():
  """Ends with an error, and leaves the threads that hang behind."""
  hangs = threading.Event()

  class Hanging(Numbered):
    def __getitem__(self, index):
      hangs.wait()
      return super().__getitem__(index)

  options = dict(tasks=TASKS, batch_size=4, crop_size=8, seed=0, num_steps=5, num_threads=2)
  started = time.perf_counter()
  with pipeline.training_batches(Hanging(), timeout=0.2, **options) as batches:
    with pytest.raises(pipeline.DataStalledError, match=r'No training batch came for 0.2 s \(data.timeout_seconds\)'):
      next(batches)
  assert time.perf_counter() - started < 10
  hangs.set()


def test_errors_of_the_threads_reach_the_caller():
  class Broken(Numbered):
    def __getitem__(self, index):
      raise ValueError("cannot decode image file 'x.png': truncated")

  with pytest.raises(ValueError, match="cannot decode image file 'x.png': truncated"):
    _batches(Broken())


def test_copies_smaller_than_the_crop_are_not_drawn():
  source = sources.build('dead_leaves', painted={'size': 64, 'count': 2, 'seed': 0}, levels=3, least=16)
  assert [item.reduction for item in source.items] == [1, 1, 2, 2, 4, 4]
  for crop, drawn in ((16, {0, 1, 2, 3, 4, 5}), (17, {0, 1, 2, 3}), (64, {0, 1})):
    batches = _batches(source, crop_size=crop, places_only=True, num_steps=20)
    assert {int(image) for batch in batches for image in batch['place'][:, 0]} == drawn


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'tasks': ()}, r'data.tasks must name at least one task, each once, got \[\]'),
    ({'tasks': ('haze', 'haze')}, r"each once, got \['haze', 'haze'\]"),
    ({'task_weights': (1, 2)}, 'data.task_weights has 2 values for the 3 data.tasks haze, rain, noise25'),
    ({'task_weights': (1, -1, 1)}, r'must be finite, not negative and not all 0, got \[1.0, -1.0, 1.0\]'),
    ({'task_weights': (0, 0, 0)}, 'not all 0'),
    ({'process_index': 2, 'process_count': 2}, r'process_index 2 is not in 0..process_count-1, process_count is 2'),
    ({'process_count': 3}, 'batch_size 4 is not a positive multiple of the 3 processes'),
    ({'batch_size': 0}, 'batch_size 0 is not a positive multiple'),
    ({'stride': 3}, 'stride 3 is less than batch_size 4'),
    ({'crop_size': 0}, 'crop_size is 0; it must be positive'),
    ({'crop_size': 13}, r'6 image\(s\) are smaller than crop_size=13: 0.png \(12x13\), 1.png .* lower the crop_size'),
    ({'seed': -1}, 'need seed >= 0 and 0 <= start_step <= num_steps, got -1, 0, 5'),
    ({'start_step': 6}, 'start_step <= num_steps, got 0, 6, 5'),
    ({'num_threads': -1}, 'need data.num_threads >= 0, data.prefetch >= 1 .* got -1, 2'),
    ({'timeout': 0.0}, 'data.timeout_seconds > 0, got 2, 2, 0.0'),
    ({'prefetch': 0}, 'data.prefetch >= 1 .* got 2, 0'),
  ],
)
def test_option_errors(options, message):
  with pytest.raises(ValueError, match=message):
    _batches(Numbered(), **options)


def test_tasks_and_data_set_must_match():
  with pytest.raises(ValueError, match='has images for unknown tasks fog, snow; data.tasks names haze, rain, noise25'):
    _batches(Numbered(tasks=('haze', 'fog', 'snow')))
  with pytest.raises(ValueError, match='has no images for tasks rain, noise25; it has haze'):
    _batches(Numbered(tasks=('haze', 'haze')))
  with pytest.raises(ValueError, match='task rain is not modelled: its clean images need degraded ones beside them'):
    _batches(Numbered(tasks=('rain', 'rain'), paired=(0,)), tasks=('rain',), pairs_only=('rain',))
  assert _batches(Numbered(tasks=('rain', 'rain'), paired=(0, 1)), tasks=('rain',), pairs_only=('rain',))
