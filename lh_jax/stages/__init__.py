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
class Stage:
  """One stage of training.

  Attributes:
    name: 'stage1' or 'stage2'.
    total_steps: length of the stage.
    batch_size: global batch.
    crop_size: side of a training crop in pixels.
    init: key -> state; pure, so that it can be traced for shapes and compiled with shardings.
    steps: {phase: step(state, frozen, batch) -> (state, metrics)}, pure.
    phase: host step number -> the phase that step belongs to.
    export: (state, frozen) -> the parts of the model's parameters that exist after this stage; see `networks.PARTS`.
    preview: (state, frozen, batch) -> {name: images (B, H, W, 3)} to look at during training.
  """

  name: str
  total_steps: int
  batch_size: int
  crop_size: int
  init: Callable[[jax.Array], TrainState]
  steps: Mapping[str, StepFn]
  phase: Callable[[int], str]
  export: Callable[[TrainState, Any], dict[str, Any]]
  preview: Callable[[TrainState, Any, Batch], dict[str, jax.Array]]
