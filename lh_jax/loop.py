"""The steps of one stage: compiled, and run in a loop that logs, saves, stops where it is asked to, and loses nothing."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any, Mapping, TYPE_CHECKING

import jax

from lh_jax import checkpoint
from lh_jax import logs as logs_lib
from lh_jax import parallel
from lh_jax import preemption
from lh_jax import profile as profile_lib
from lh_jax import stages as stages_lib
from lh_jax.state import TrainState

if TYPE_CHECKING:
  from lh_jax import train

log = logging.getLogger(__name__)

PREVIEW_IMAGES = 4


@dataclasses.dataclass(frozen=True)
class Programs:
  """The compiled functions of one stretch.

  Attributes:
    stretch: its steps.
    prepare: (host batch on the devices, step, images) -> training batch.
    steps: {phase: step(state, frozen, batch) -> (state, metrics)}.
  """

  stretch: stages_lib.Stretch
  prepare: jax.stages.Compiled
  steps: Mapping[str, jax.stages.Compiled]


class Loop:
  """The compiled functions of one stage, and the loop over its steps."""

  def __init__(self, run: train.Run, stage: stages_lib.Stage, state: Any, frozen: Any, start: int):
    """Compiles every function that the steps from `start` need; `state` and `frozen` are abstract, with shardings."""
    self.stage = stage
    self.mesh = run.mesh
    self.settings = run.config.train
    self.start = start
    self.batches = functools.partial(run.batches, stage)
    self.profile = run.workdir / 'profile' if run.config.profile else None
    self.images = run.images
    self.compile_seconds = 0.0
    self.programs = [
      self._compile(stretch, run.prepare(stage, stretch), state, frozen) for stretch in stage.stretches_from(start)
    ]
    parallel.wait_for_all()
    self.preview = jax.jit(
      lambda state, frozen, batch: stage.preview(state, frozen, jax.tree.map(lambda x: x[:PREVIEW_IMAGES], batch)),
      out_shardings=parallel.replicated(self.mesh),
    )

  def _compile(self, stretch: stages_lib.Stretch, prepare: Any, state: Any, frozen: Any) -> Programs:
    with self.batches(dataclasses.replace(stretch, start=stretch.stop - 1)) as batches:
      host_batch = next(batches)
    sharding = parallel.batch_sharding(self.mesh)
    scale = jax.process_count()
    raw = {
      k: jax.ShapeDtypeStruct((v.shape[0] * scale, *v.shape[1:]), v.dtype, sharding=sharding)
      for k, v in host_batch.items()
    }
    sharding = parallel.image_sharding(self.mesh)
    lowered = jax.jit(prepare, out_shardings=sharding).lower(raw, state.step, self.images)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), lowered.out_info)
    steps = {}
    for phase in sorted({self.stage.phase(step) for step in range(stretch.start, stretch.stop)}):
      steps[phase], seconds = parallel.compile_step(self.stage.steps[phase], state, frozen, batch)
      self.compile_seconds += seconds
      log.info(
        '%s: compiled the step %s for %d x %d px in %.1f s.',
        self.stage.name,
        phase,
        stretch.batch_size,
        stretch.crop_size,
        seconds,
      )
    return Programs(stretch, lowered.compile(), steps)

  def run(
    self, state: TrainState, frozen: Any, checkpoints: checkpoint.Checkpointer, logs: logs_lib.Logs
  ) -> tuple[TrainState, dict[str, float]]:
    """Runs from `self.start` to the end; returns the final state and the last metrics."""
    name, total, settings = self.stage.name, self.stage.total_steps, self.settings
    metrics: dict[str, float] = {}
    # Process 0 alone writes images, but all compute them.
    shows_images = parallel.gather(logs.shows_images)[0]
    with (
      preemption.Notice() as notice,
      profile_lib.Profiler(self.profile, first=self.start + 1, last=total) as profiler,
    ):
      for programs in self.programs:
        stretch = programs.stretch
        meter = logs_lib.Meter(
          name,
          start=stretch.start,
          total_steps=total,
          batch_size=stretch.batch_size,
          compile_seconds=self.compile_seconds,
        )
        with self.batches(stretch) as batches:
          for done in range(stretch.start + 1, stretch.stop + 1):
            with profiler.step(done, name):
              # A value that slips from the host into a step would be sent anew each time.
              raw = parallel.put_batch(next(batches), self.mesh)
              with jax.transfer_guard_host_to_device('disallow'):
                batch = programs.prepare(raw, state.step, self.images)
                state, step_metrics = programs.steps[self.stage.phase(done - 1)](state, frozen, batch)
            profiler.ended(done, state)
            meter.add(step_metrics)
            # Of a stretch: its last losses and images are shown, and its state is kept.
            last, stopping = done == stretch.stop, notice.came()
            save = last or stopping or done % settings.checkpoint_steps == 0
            # A state is saved only after its losses were seen to be finite.
            if save or done % settings.log_steps == 0:
              metrics = meter.read(done, wait_seconds=batches.wait_seconds)
              logs.scalars(done, metrics)
            if shows_images and (done % settings.image_steps == 0 or last):
              images = jax.device_get(self.preview(state, frozen, batch))
              logs.images(done, {f'{name}/{title}': image for title, image in images.items()})
            if save:
              checkpoints.save(done, state)
            if stopping:
              checkpoints.wait()
              raise preemption.Preempted(
                f'SIGTERM: {name} stopped after step {done} of {total}, which is saved; the same command goes on from '
                'there.'
              )
    return state, metrics
