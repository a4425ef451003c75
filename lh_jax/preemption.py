"""SIGTERM, with which schedulers announce that a machine will be taken: a run saves, and ends.

Contract: while a `Notice` is open, SIGTERM no longer ends the process; the run asks after every step whether it came.
Of several processes, a notice to one of them stops all after the same step: jax.distributed passes it on.
"""

from __future__ import annotations

import itertools
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

# Counted through all stages of a process: what processes agree on is the next number.
_asked = itertools.count()
EXIT_CODE = 128 + signal.SIGTERM  # as shells have it: a job that waits for a finished training does not start


class Preempted(Exception):
  """The run was asked to stop, and has saved its state."""


def end_at_once() -> None:
  """Lets SIGTERM end the process from here on, where there is nothing to save: jax.distributed has taken it over."""
  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Notice:
  """Use as a context manager around the steps of a run."""

  def __init__(self):
    self._came = False
    self._before: Any = None
    # With several processes, jax.distributed has a handler of its own, which must stay. Python's live in one thread.
    self._own = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()

  def __enter__(self) -> Notice:
    if self._own:
      self._before = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *exception: Any) -> None:
    if self._own:
      signal.signal(signal.SIGTERM, self._before)

  def _note(self, *_: Any) -> None:
    self._came = True

  def came(self) -> bool:
    """Whether to stop after this step; to be asked after every step, on every process."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(next(_asked))
    return self._came
