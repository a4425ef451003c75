"""The two stages as values. Everything the paper's equations say about training is in this package; the loop in
`train.py` knows none of it.

A batch is {'clean', 'degraded'}: float32 (B, H, W, 3) RGB in [0, 1], pixel-aligned.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Mapping

import jax

from lh_jax.state import TrainState

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
StepFn = Callable[[TrainState, Any, Batch], tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True)
class Stretch:
  """Consecutive steps of a stage whose batches are of one size.

  Attributes:
    start: number of its first step.
    stop: number of the step after its last.
    batch_size: global batch.
    crop_size: side of a training crop in pixels.
  """

  start: int
  stop: int
  batch_size: int
  crop_size: int


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of training.

  Attributes:
    name: 'stage1' or 'stage2'.
    stretches: all its steps, in order.
    init: key -> state; pure, so that it can be traced for shapes and compiled with shardings.
    steps: {phase: step(state, frozen, batch) -> (state, metrics)}, pure.
    phase: host step number -> the phase that step belongs to.
    export: (state, frozen) -> the parts of the model's parameters that exist after this stage; see `networks.PARTS`.
    preview: (state, frozen, batch) -> {name: images (B, H, W, 3)} to look at during training.
  """

  name: str
  stretches: tuple[Stretch, ...]
  init: Callable[[jax.Array], TrainState]
  steps: Mapping[str, StepFn]
  phase: Callable[[int], str]
  export: Callable[[TrainState, Any], dict[str, Any]]
  preview: Callable[[TrainState, Any, Batch], dict[str, jax.Array]]

  @property
  def total_steps(self) -> int:
    """Length of the stage."""
    return self.stretches[-1].stop

  def stretches_from(self, step: int) -> list[Stretch]:
    """Returns what is left after so many steps."""
    return [
      dataclasses.replace(stretch, start=max(stretch.start, step)) for stretch in self.stretches if step < stretch.stop
    ]
