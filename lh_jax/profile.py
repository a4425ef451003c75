"""A trace of a few training steps, for xprof (`pip install xprof`, `xprof WORKDIR/profile`).

Of every stage that is trained, steps after the first are traced, when programs and caches are warm; of stage 2 begun
anew these are steps of the restorer, of one resumed in its LoRA phases steps of those. Process 0 writes.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
from typing import Any

import jax

from lh_jax import storage

log = logging.getLogger(__name__)

SKIPPED = 5
TRACED = 5


class Profiler:
  """Use as a context manager around the steps of a run, `step` around each, and call `ended` after each."""

  def __init__(self, folder: pathlib.Path | None, *, first: int, last: int):
    """Chooses the steps.

    Args:
      folder: where the trace goes; None traces nothing.
      first: the first step of the run.
      last: its last one; of a short run, the steps traced are its last.
    """
    self._folder = folder if jax.process_index() == 0 else None
    self._begin = max(first, min(first + SKIPPED, last - TRACED + 1))
    self._end = min(self._begin + TRACED - 1, last)
    self._tracing = False
    self._written = contextlib.ExitStack()

  def __enter__(self) -> Profiler:
    return self

  def __exit__(self, *exception: Any) -> None:
    if self._tracing:
      self._stop()

  def step(self, number: int, name: str) -> Any:
    """Returns the context manager that marks one step in the trace, which begins here where its turn has come."""
    if self._folder is not None and number == self._begin:
      jax.profiler.start_trace(str(self._written.enter_context(storage.staged(self._folder))))
      self._tracing = True
    return jax.profiler.StepTraceAnnotation(name, step_num=number)

  def ended(self, number: int, outputs: Any) -> None:
    """Ends the trace after its last step, whose outputs it waits for: a step is dispatched long before it is computed."""
    if self._tracing and number == self._end:
      jax.block_until_ready(outputs)
      self._stop()

  def _stop(self) -> None:
    jax.profiler.stop_trace()
    self._tracing = False
    self._written.close()
    log.info('Wrote the trace of steps %d to %d to %s.', self._begin, self._end, self._folder)
