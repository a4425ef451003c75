"""Metrics out of training: one JSON line per write in metrics.jsonl always, TensorBoard through clu where TensorFlow is installed.

The only module that knows clu. Scalars are named group/name; images are (B, H, W, 3) in [0, 1].
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pathlib
from typing import Mapping

from absl import logging as absl_logging
import numpy as np

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
    workdir.mkdir(parents=True, exist_ok=True)
    self._lines = open(workdir / 'metrics.jsonl', 'a', encoding='utf-8')
    self._summaries = _summary_writer(workdir) if tensorboard else None

  def __enter__(self) -> Logs:
    return self

  def __exit__(self, *exception) -> None:
    self._lines.close()
    if self._summaries is not None:
      self._summaries.close()

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes scalars of one step."""
    values = {name: float(value) for name, value in values.items()}
    self._lines.write(json.dumps({'step': step, **values}) + '\n')
    self._lines.flush()
    if self._summaries is not None:
      self._summaries.write_scalars(step, values)

  def images(self, step: int, values: Mapping[str, np.ndarray]) -> None:
    """Writes images of one step, to TensorBoard only."""
    if self._summaries is not None:
      self._summaries.write_images(step, {name: np.clip(np.asarray(value), 0.0, 1.0) for name, value in values.items()})


def _summary_writer(workdir: pathlib.Path):
  missing = [name for name in ('clu', 'tensorflow') if importlib.util.find_spec(name) is None]
  if missing:
    log.warning('No TensorBoard files: %s is not installed (pip install "lh_jax[train]"). Metrics go to metrics.jsonl.', ' and '.join(missing))
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
