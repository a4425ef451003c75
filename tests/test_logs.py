"""lh_jax.logs: JSON lines always, TensorBoard where TensorFlow is."""

import importlib.util
import json
import logging

import numpy as np
import pytest

from lh_jax import logs


def lines(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def test_json_lines_are_appended(tmp_path):
  for step in (1, 2):
    with logs.Logs(tmp_path, tensorboard=False) as writer:
      writer.scalars(step, {'train/loss': np.float32(0.5)})
      writer.images(step, {'x': np.zeros((1, 8, 8, 3))})
  assert lines(tmp_path) == [{'step': 1, 'train/loss': 0.5}, {'step': 2, 'train/loss': 0.5}]


def test_without_tensorflow_it_says_so_and_goes_on(tmp_path, monkeypatch, caplog):
  real = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda name, *rest: None if name == 'tensorflow' else real(name, *rest)
  )
  with caplog.at_level(logging.WARNING):
    with logs.Logs(tmp_path, tensorboard=True) as writer:
      writer.scalars(1, {'a': 1.0})
      writer.images(1, {'x': np.zeros((1, 8, 8, 3))})
  assert caplog.text.count('tensorflow is not installed') == 1
  assert lines(tmp_path) == [{'step': 1, 'a': 1.0}]


@pytest.mark.skipif(importlib.util.find_spec('tensorflow') is None, reason='needs TensorFlow (extra: train)')
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # TensorFlow's and protobuf's own
def test_tensorboard_files(tmp_path):
  with logs.Logs(tmp_path, tensorboard=True) as writer:
    writer.scalars(7, {'train/loss': 0.25})
    writer.images(7, {'before': np.full((2, 8, 8, 3), 0.5, np.float32)})
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  events = EventAccumulator(str(tmp_path), size_guidance={'tensors': 0})
  events.Reload()
  assert {'train/loss', 'before'} <= {tag.split('/0')[0] for tag in events.Tags()['tensors']}


def test_meter_averages_and_measures():
  meter = logs.Meter('s', start=0, total_steps=10, batch_size=8, compile_seconds=1.5)
  meter.add({'s/a': np.float32(1.0)})
  meter.add({'s/a': np.float32(3.0), 's/b': np.float32(5.0)})
  metrics = meter.read(2, wait_seconds=0.0)
  assert metrics['s/a'] == 2.0 and metrics['s/b'] == 5.0 and metrics['perf/s/compile_sec'] == 1.5
  assert (
    metrics['perf/s/images_per_sec'] == 8 * metrics['perf/s/steps_per_sec']
    and metrics['perf/s/data_wait_percent'] == 0.0
  )
  meter.add({'s/a': np.float32(4.0)})
  assert meter.read(3, wait_seconds=0.1)['s/a'] == 4.0


def test_meter_stops_at_a_value_that_is_not_finite():
  meter = logs.Meter('s', start=4, total_steps=10, batch_size=8, compile_seconds=0.0)
  meter.add({'s/a': np.float32('nan')})
  with pytest.raises(logs.TrainingDivergedError, match='s/a became nan between steps 5 and 6 of s'):
    meter.read(6, wait_seconds=0.0)
