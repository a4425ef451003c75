"""Metrics out of training: one JSON line per write in metrics.jsonl always, TensorBoard through clu where TensorFlow is
installed.

The only module that knows clu. Scalars are named group/name; images are (B, H, W, 3) in [0, 1].
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pathlib
import time
from typing import Mapping

from absl import logging as absl_logging
import jax
import numpy as np

from lh_jax import storage

log = logging.getLogger(__name__)


def to_console() -> None:
  """Prints what this package logs to standard error, with the time of day; of other libraries only warnings."""
  absl_logging.set_verbosity(absl_logging.WARNING)
  logger = logging.getLogger('lh_jax')
  if not logger.handlers:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


class Logs:
  """Writers of one work directory. Use as a context manager: leaving it flushes."""

  def __init__(self, workdir: pathlib.Path, *, tensorboard: bool):
    """Opens the writers.

    Args:
      workdir: directory of metrics.jsonl and the TensorBoard event files.
      tensorboard: also write event files; without TensorFlow this says once what is missing and goes on.
    """
    # One process of many writes; the others' files go nowhere.
    first = jax.process_index() == 0
    if first:
      workdir.mkdir(parents=True, exist_ok=True)
    self._lines = storage.Lines(workdir / 'metrics.jsonl' if first else os.devnull)
    self._summaries = _summary_writer(workdir) if tensorboard and first else None

  def __enter__(self) -> Logs:
    return self

  def __exit__(self, *exception) -> None:
    self._lines.close()
    if self._summaries is not None:
      self._summaries.close()

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes scalars of one step."""
    values = {name: float(value) for name, value in values.items()}
    self._lines.write(json.dumps({'step': step, **values}))
    if self._summaries is not None:
      self._summaries.write_scalars(step, values)

  @property
  def shows_images(self) -> bool:
    """Whether images are written anywhere."""
    return self._summaries is not None

  def images(self, step: int, values: Mapping[str, np.ndarray]) -> None:
    """Writes images of one step, to TensorBoard only."""
    if self._summaries is not None:
      self._summaries.write_images(step, {name: np.clip(np.asarray(value), 0.0, 1.0) for name, value in values.items()})


def _summary_writer(workdir: pathlib.Path):
  missing = [name for name in ('clu', 'tensorflow') if importlib.util.find_spec(name) is None]
  if missing:
    log.warning(
      'No TensorBoard files: %s is not installed (pip install "lh_jax[train]"). Metrics go to metrics.jsonl.',
      ' and '.join(missing),
    )
    return None
  # TensorFlow computes nothing here; these keep its start-up notices out of the log.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  import tensorflow as tf

  # TensorFlow only writes files here; it must not take the accelerator's memory.
  tf.config.set_visible_devices([], 'GPU')
  tf.config.set_visible_devices([], 'TPU')
  from clu import metric_writers

  return metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(workdir)))


class TrainingDivergedError(RuntimeError):
  """A metric became non-finite; the message names it and the steps in which that happened."""


class Meter:
  """Averages the metrics of the steps since it was last read, checks that they are finite, and measures speed."""

  def __init__(self, name: str, *, start: int, total_steps: int, batch_size: int, compile_seconds: float):
    """Starts the clock.

    Args:
      name: of the stage.
      start: steps done before.
      total_steps: length of the stage.
      batch_size: images per step.
      compile_seconds: noted beside the speeds.
    """
    self._name = name
    self._total_steps = total_steps
    self._batch_size = batch_size
    self._compile_seconds = compile_seconds
    self._pending: list[Mapping[str, jax.Array]] = []
    self._since = (start, time.perf_counter(), 0.0)

  def add(self, metrics: Mapping[str, jax.Array]) -> None:
    """Notes one step's metrics, without waiting for the device."""
    self._pending.append(metrics)

  def read(self, done: int, *, wait_seconds: float) -> dict[str, float]:
    """Returns the averages since the last reading, with speeds, and prints one line.

    Args:
      done: steps done.
      wait_seconds: time spent waiting for data, since the start.

    Raises:
      TrainingDivergedError: one of them is not finite.
    """
    since_step, since_time, since_wait = self._since
    values: dict[str, list[float]] = {}
    for metrics in jax.device_get(self._pending):
      for name, value in metrics.items():
        values.setdefault(name, []).append(float(value))
    metrics = {name: float(np.mean(value)) for name, value in values.items()}
    for name, value in metrics.items():
      if not np.isfinite(value):
        raise TrainingDivergedError(
          f'{name} became {value} between steps {since_step + 1} and {done} of {self._name}. '
          'The checkpoints before it are untouched; lower the learning rate in config.optim, or look at the data.'
        )
    now = time.perf_counter()
    self._pending, self._since = [], (done, now, wait_seconds)
    seconds = max(now - since_time, 1e-9)
    rate = (done - since_step) / seconds
    left = (self._total_steps - done) / rate
    metrics |= {
      f'perf/{self._name}/steps_per_sec': rate,
      f'perf/{self._name}/images_per_sec': rate * self._batch_size,
      f'perf/{self._name}/data_wait_percent': 100.0 * (wait_seconds - since_wait) / seconds,
      f'perf/{self._name}/compile_sec': self._compile_seconds,
    }
    shown = ' '.join(
      f'{name.split("/", 1)[1]}={value:.4g}' for name, value in metrics.items() if not name.startswith('perf/')
    )
    log.info(
      '%s %d/%d  %s  %.1f images/s, waiting for data %.1f %%, %d:%02d left',
      self._name,
      done,
      self._total_steps,
      shown,
      metrics[f'perf/{self._name}/images_per_sec'],
      metrics[f'perf/{self._name}/data_wait_percent'],
      *divmod(round(left), 60),
    )
    return metrics
