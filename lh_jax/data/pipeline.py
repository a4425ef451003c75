"""Training batches: sampling, decoding, cropping and turning in threads, ahead of the device.

Contract: batch number `step` is a pure function of (source, options, seed, step). So a run resumes by its step number
alone, on any number of processes: process p of n gets the p-th of n equal contiguous slices of the global batch.
Images are drawn with replacement, for then no sample needs to know what was drawn before it. Where the source has
tasks, a task is drawn by weight and then one of its images; elsewhere the task is drawn apart from the image.

A batch is a dict of numpy arrays: 'clean' uint8 (b, c, c, 3); 'task' int32 (b,), an index into `tasks`, or `len(tasks)`
(the 'identity' that the training step appends) for a sample whose degraded twin comes from a file; and, if the source
has such pairs, 'degraded' uint8 (b, c, c, 3), equal to 'clean' for samples without one. Degrading 'degraded' by 'task'
is then right for both kinds. For images that lie on the devices (`data.resident`), 'place' int32 (b, 4) stands instead
of pixels: index of the image, top, left and `transforms.draw_turn` of the crop that there would be.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import functools
import queue
import threading
import time
from typing import Any

import grain
import numpy as np

from lh_jax.data import transforms
from lh_jax.data.items import Item
from lh_jax.data.items import Source
from lh_jax.data.pairs import without_level


class DataStalledError(RuntimeError):
  """No batch came for too long: a disk, a network or a decoder hangs, or is too slow by far."""


class TrainingBatches:
  """The iterator that `training_batches` returns. Also a context manager that closes itself.

  Batches are taken from the threads that make them by one more, which can be left behind where they hang.

  Attributes:
    wait_seconds: time spent so far waiting for batches; next to the run time it tells whether data limit training.
  """

  def __init__(self, batches: grain.DatasetIterator, *, timeout: float):
    """Starts the thread.

    Args:
      batches: the iterator of grain.
      timeout: seconds after which a batch that has not come is an error.
    """
    self._batches, self._timeout = batches, timeout
    self._closed = self._stalled = False
    self.wait_seconds = 0.0
    self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
    self._made: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=self._take, name='batches', daemon=True).start()

  def _take(self) -> None:
    while self._wanted.get():
      try:
        self._made.put((next(self._batches), None))
      except BaseException as error:
        self._made.put((None, error))

  def __iter__(self) -> TrainingBatches:
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    if self._closed:
      raise ValueError('training batches were asked for after close()')
    start = time.perf_counter()
    self._wanted.put(True)
    try:
      batch, error = self._made.get(timeout=self._timeout)
    except queue.Empty:
      self._stalled = True
      raise DataStalledError(
        f'No training batch came for {self._timeout:g} s (data.timeout_seconds): the data set does not answer, or reading '
        'it is slower than that. Look at the disk or the network, or at data.num_threads.'
      ) from None
    finally:
      self.wait_seconds += time.perf_counter() - start
    if error is not None:
      raise error
    return batch

  def close(self) -> None:
    """Ends the threads; batches being decoded are dropped. Closing twice is allowed."""
    if self._closed:
      return
    self._closed = True
    self._wanted.put(False)
    # Closing waits for what is being read; what hangs would never let go.
    if not self._stalled:
      self._batches.close()

  def __enter__(self) -> TrainingBatches:
    return self

  def __exit__(self, *exception) -> None:
    self.close()


def _side(item: Item) -> int:
  return min(item.height, item.width)


def _candidates(
  items: Sequence[Item], tasks: Sequence[str], pairs_only: Sequence[str], crop_size: int
) -> list[np.ndarray]:
  """For each task, the indices of the items that serve it; no smaller copies that hold no crop."""
  labels = {item.task for item in items if item.task is not None}
  known = set(tasks) | {without_level(task) for task in tasks}
  if labels - known:
    raise ValueError(
      f'the data set has images for unknown tasks {", ".join(sorted(labels - known))}; data.tasks names '
      f'{", ".join(tasks)}'
    )
  # A folder of its own goes before the folder for all levels.
  wanted = [task if task in labels else without_level(task) for task in tasks]
  held = [(i, item) for i, item in enumerate(items) if item.reduction == 1 or _side(item) >= crop_size]
  serving = [np.array([i for i, item in held if item.task in (None, name)], int) for name in wanted]
  without = [task for task, indices in zip(tasks, serving) if not indices.size]
  if without:
    raise ValueError(f'the data set has no images for tasks {", ".join(without)}; it has {", ".join(sorted(labels))}')
  for task, indices in zip(tasks, serving):
    if task in pairs_only and any(items[index].degraded is None for index in indices):
      raise ValueError(f'task {task} is not modelled: its clean images need degraded ones beside them')
  return serving


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Samples:
  """This process's samples in order: those of its slice of the first batch, of the second, and so on."""

  source: Source
  serving: Sequence[np.ndarray]  # for each task, the items that serve it
  probabilities: np.ndarray
  steps: range
  batch_size: int
  stride: int
  process_index: int
  process_count: int
  crop_size: int
  seed: int
  augment: bool
  places_only: bool

  def __post_init__(self):
    count, index, crop = self.process_count, self.process_index, self.crop_size
    if count < 1 or not 0 <= index < count:
      raise ValueError(f'process_index {index} is not in 0..process_count-1, process_count is {count}')
    if self.batch_size < 1 or self.batch_size % count:
      raise ValueError(f'batch_size {self.batch_size} is not a positive multiple of the {count} processes')
    start, stop = self.steps.start, self.steps.stop
    if self.seed < 0 or not 0 <= start <= stop:
      raise ValueError(f'need seed >= 0 and 0 <= start_step <= num_steps, got {self.seed}, {start}, {stop}')
    if self.stride < self.batch_size:
      raise ValueError(f'stride {self.stride} is less than batch_size {self.batch_size}')
    if crop < 1:
      raise ValueError(f'crop_size is {crop}; it must be positive')
    if self.places_only and self.paired:
      raise ValueError('images that come in pairs cannot be kept on the devices: set data.device_gib=0')
    # Copies that are smaller are not drawn.
    images = [item for item in self.source.items if item.reduction == 1]
    small = [f'{item.name} ({item.height}x{item.width})' for item in images if _side(item) < crop]
    if small:
      raise ValueError(
        f'{len(small)} image(s) are smaller than crop_size={crop}: {", ".join(small[:20])}; '
        'lower the crop_size of the stage or remove them'
      )

  @property
  def local_size(self) -> int:
    return self.batch_size // self.process_count

  @functools.cached_property
  def paired(self) -> bool:
    return any(item.degraded is not None for item in self.source.items)

  def __len__(self) -> int:
    return len(self.steps) * self.local_size

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    step, place = divmod(index, self.local_size)
    # The place in the stream of all processes decides what is drawn, so the number of processes does not.
    number = self.steps[step] * self.stride + self.process_index * self.local_size + place
    rng = np.random.default_rng([self.seed, number])
    task = int(rng.choice(len(self.serving), p=self.probabilities))
    image = int(rng.choice(self.serving[task]))
    if self.places_only:
      item = self.source.items[image]
      corner = transforms.draw_corner(rng, item.height, item.width, size=self.crop_size)
      turn = transforms.draw_turn(rng) if self.augment else 0
      return {'place': np.array([image, *corner, turn], np.int32), 'task': np.int32(task)}
    item = self.source[image]
    arrays = {name: item[name] for name in ('clean', 'degraded') if name in item}
    arrays = transforms.random_crop(rng, arrays, size=self.crop_size)
    if self.augment:
      arrays = transforms.random_dihedral(rng, arrays)
    if 'degraded' in arrays:
      task = len(self.serving)
    elif self.paired:
      arrays['degraded'] = arrays['clean']
    return {**arrays, 'task': np.int32(task)}


def _probabilities(tasks: Sequence[str], task_weights: Sequence[float] | None) -> np.ndarray:
  if not tasks or len(set(tasks)) != len(tasks):
    raise ValueError(f'data.tasks must name at least one task, each once, got {list(tasks)}')
  weights = np.ones(len(tasks)) if task_weights is None else np.asarray(task_weights, float)
  if weights.shape != (len(tasks),):
    raise ValueError(f'data.task_weights has {weights.size} values for the {len(tasks)} data.tasks {", ".join(tasks)}')
  if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
    raise ValueError(f'data.task_weights must be finite, not negative and not all 0, got {weights.tolist()}')
  return weights / weights.sum()


def training_batches(
  source: Source,
  *,
  tasks: Sequence[str],
  task_weights: Sequence[float] | None = None,
  pairs_only: Sequence[str] = (),
  batch_size: int,
  stride: int | None = None,
  crop_size: int,
  seed: int,
  start_step: int = 0,
  num_steps: int,
  process_index: int = 0,
  process_count: int = 1,
  augment: bool = True,
  places_only: bool = False,
  num_threads: int = 8,
  prefetch: int = 2,
  timeout: float = 900.0,
) -> TrainingBatches:
  """Makes the iterator over this process's slices of batches `start_step` to `num_steps - 1`.

  Args:
    source: the data set.
    tasks: names of the tasks; the ids in the batch are places in this list.
    task_weights: relative frequency of each task; None means equal.
    pairs_only: tasks whose images must all have a degraded twin, as nothing models them.
    batch_size: of all processes together.
    stride: the largest batch of the run, by which samples are numbered, so that none is drawn again where the batch
      becomes smaller; None means this one.
    crop_size: side of the square crops in pixels.
    seed: not negative.
    start_step: the first batch, the number of steps done before.
    num_steps: where the run ends, counted from step 0.
    process_index: which process this is.
    process_count: how many there are.
    augment: whether to turn and mirror the crops at random.
    places_only: instead of pixels, tell where they are, for images that lie on the devices.
    num_threads: threads that read and decode; 0 decodes in the caller's thread.
    prefetch: batches made ahead.
    timeout: seconds after which a batch that has not come is a DataStalledError.

  Returns:
    The iterator; close it to end its threads.

  Raises:
    ValueError: if an option is out of range, an image is smaller than the crop, or the tasks of the data set and those
      asked for do not match.
  """
  if num_threads < 0 or prefetch < 1 or not timeout > 0:
    raise ValueError(
      'need data.num_threads >= 0, data.prefetch >= 1 and data.timeout_seconds > 0, got '
      f'{num_threads}, {prefetch}, {timeout}'
    )
  samples = _Samples(
    source=source,
    probabilities=_probabilities(tasks, task_weights),
    serving=_candidates(source.items, tasks, pairs_only, crop_size),
    steps=range(start_step, num_steps),
    batch_size=batch_size,
    stride=batch_size if stride is None else stride,
    process_index=process_index,
    process_count=process_count,
    crop_size=crop_size,
    seed=seed,
    augment=augment,
    places_only=places_only,
  )
  local = samples.local_size
  # Threads work on samples rather than on batches, so that the first batch comes as early as it can.
  options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch * local if num_threads else 0)
  stream = grain.MapDataset.source(samples).to_iter_dataset(options).batch(local, drop_remainder=True)
  return TrainingBatches(iter(stream), timeout=timeout)
