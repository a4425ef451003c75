"""The steps of one stage: compiled, and run in a loop that logs, saves, stops where it is asked to, and loses nothing."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, TYPE_CHECKING

import jax

from lh_jax import checkpoint
from lh_jax import logs as logs_lib
from lh_jax import parallel
from lh_jax import preemption
from lh_jax import profile as profile_lib
from lh_jax import stages as stages_lib
from lh_jax.data import pipeline
from lh_jax.state import TrainState

if TYPE_CHECKING:
  from lh_jax import train

log = logging.getLogger(__name__)

PREVIEW_IMAGES = 4


class Loop:
  """The compiled functions of one stretch of a stage, and the loop over them."""

  def __init__(self, run: train.Run, stage: stages_lib.Stage, stretch: stages_lib.Stretch, state: Any, frozen: Any):
    """Compiles every function that the steps need; `state` and `frozen` are abstract, with shardings."""
    self.stage, self.stretch = stage, stretch
    self.mesh = run.mesh
    self.settings = run.config.train
    self.profile = run.workdir / 'profile' if run.config.profile else None
    with run.batches(stage, dataclasses.replace(stretch, start=stretch.stop - 1)) as batches:
      host_batch = next(batches)
    sharding = parallel.batch_sharding(self.mesh)
    scale = jax.process_count()
    raw = {
      k: jax.ShapeDtypeStruct((v.shape[0] * scale, *v.shape[1:]), v.dtype, sharding=sharding)
      for k, v in host_batch.items()
    }
    sharding = parallel.image_sharding(self.mesh)
    self.images = run.images
    prepare = jax.jit(run.prepare(stage, stretch), out_shardings=sharding).lower(raw, state.step, self.images)
    self.prepare = prepare.compile()
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), prepare.out_info)
    self.steps, self.compile_seconds = {}, 0.0
    for phase in sorted({stage.phase(step) for step in range(stretch.start, stretch.stop)}):
      self.steps[phase], seconds = parallel.compile_step(stage.steps[phase], state, frozen, batch)
      self.compile_seconds += seconds
      log.info('%s: compiled the step %s in %.1f s.', stage.name, phase, seconds)
    parallel.wait_for_all()
    self.preview = jax.jit(
      lambda state, frozen, batch: stage.preview(state, frozen, jax.tree.map(lambda x: x[:PREVIEW_IMAGES], batch)),
      out_shardings=parallel.replicated(self.mesh),
    )

  def run(
    self,
    state: TrainState,
    frozen: Any,
    batches: pipeline.TrainingBatches,
    checkpoints: checkpoint.Checkpointer,
    logs: logs_lib.Logs,
  ) -> tuple[TrainState, dict[str, float]]:
    """Runs the stretch; returns the final state and the last metrics."""
    total, settings = self.stage.total_steps, self.settings
    start, stop = self.stretch.start, self.stretch.stop
    meter = logs_lib.Meter(
      self.stage.name,
      start=start,
      total_steps=total,
      batch_size=self.stretch.batch_size,
      compile_seconds=self.compile_seconds,
    )
    metrics: dict[str, float] = {}
    # Process 0 alone writes images, but all compute them.
    shows_images = parallel.gather(logs.shows_images)[0]
    with preemption.Notice() as notice, profile_lib.Profiler(self.profile, first=start + 1, last=stop) as profiler:
      for done in range(start + 1, stop + 1):
        with profiler.step(done, self.stage.name):
          # A value that slips from the host into a step would be sent anew each time.
          raw = parallel.put_batch(next(batches), self.mesh)
          with jax.transfer_guard_host_to_device('disallow'):
            batch = self.prepare(raw, state.step, self.images)
            state, step_metrics = self.steps[self.stage.phase(done - 1)](state, frozen, batch)
        profiler.ended(done, state)
        meter.add(step_metrics)
        last, stopping = done == stop, notice.came()
        save = last or stopping or done % settings.checkpoint_steps == 0
        # A state is saved only after its losses were seen to be finite.
        if save or done % settings.log_steps == 0:
          metrics = meter.read(done, wait_seconds=batches.wait_seconds)
          logs.scalars(done, metrics)
        if shows_images and (done % settings.image_steps == 0 or last):
          images = jax.device_get(self.preview(state, frozen, batch))
          logs.images(done, {f'{self.stage.name}/{name}': image for name, image in images.items()})
        if save:
          checkpoints.save(done, state)
        if stopping:
          checkpoints.wait()
          raise preemption.Preempted(
            f'SIGTERM: {self.stage.name} stopped after step {done} of {total}, which is saved; the same command goes on '
            'from there.'
          )
    return state, metrics
