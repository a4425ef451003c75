"""The one training loop, for both stages.

Order of a run, an invariant: everything that can be wrong with the input is checked; then, stage by stage: shapes,
shardings, restore or initialise, compile, loop (batch, step, log, save), export. Running the same command again
resumes: a finished stage is skipped, an unfinished one continues from its latest checkpoint and draws what it would
have drawn.

A work directory holds config.json, checkpoints/<stage>/, metrics.jsonl, TensorBoard files and export/.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from typing import Any, Callable
import zlib

import jax
from ml_collections import ConfigDict

from lh_jax import checkpoint
from lh_jax import exports
from lh_jax import hosts
from lh_jax import inference
from lh_jax import logs as logs_lib
from lh_jax import loop as loop_lib
from lh_jax import networks as networks_lib
from lh_jax import parallel
from lh_jax import results
from lh_jax import stages as stages_lib
from lh_jax import storage
from lh_jax import weight_files
from lh_jax.data import pipeline
from lh_jax.data import resident
from lh_jax.data import sources
from lh_jax.ops import degradations
from lh_jax.stages import build as stages_build
from lh_jax.stages import prepare
from lh_jax.stages import stage2
from lh_jax.state import TrainState, stream_key

log = logging.getLogger(__name__)

# Up to so many images are all decoded before training, which finds a damaged one; of more, only the headers are read.
SMALL_DATA_SET = 64


def train(config: ConfigDict, workdir: pathlib.Path) -> tuple[TrainState | None, dict[str, float]]:
  """Trains the stages of `config.train.stages`, in order, in a work directory.

  Args:
    config: see configs/base.py.
    workdir: made if it does not exist.

  Returns:
    The last trained stage's final state and last metrics; (None, {}) where every stage had finished before.

  Raises:
    ValueError, FileNotFoundError: a config value, data set, weight file or checkpoint that does not fit; before any
    training.
    logs.TrainingDivergedError: a metric became non-finite.
    pipeline.DataStalledError: no batch came for data.timeout_seconds.
    preemption.Preempted: SIGTERM came; the state has been saved.
    hosts.HostsDisagreeError: the processes' data sets or checkpoints differ.
  """
  run = hosts.together(lambda: Run(config, workdir))
  state, metrics = None, {}
  with logs_lib.Logs(workdir, tensorboard=config.train.tensorboard) as logs:
    for stage in run.unfinished:
      state, metrics = run.train_stage(stage, logs)
  return state, metrics


def check_settings(config: ConfigDict) -> None:
  """Checks the plain numbers of a configuration.

  Raises:
    ValueError: one is out of its range; names it.
  """
  stages = tuple(config.train.stages)
  if not stages:
    raise ValueError(f'train.stages is empty: name at least one of {stages_build.STAGES}.')
  if stages != tuple(sorted(stages)):
    raise ValueError(f'train.stages must name stage1 before stage2, got {stages}.')
  least = {
    'train.seed': 0,
    'data.device_gib': 0,
    'train.log_steps': 1,
    'train.image_steps': 1,
    'train.checkpoint_steps': 1,
  }
  least |= {'stage1.steps': 1, 'stage2.restorer_steps': 1, 'stage2.lora_steps': 0}
  for name, minimum in least.items():
    section, key = name.split('.')
    if config[section][key] < minimum:
      raise ValueError(f'{name} must be at least {minimum}, got {config[section][key]}.')
  for name in ('stage1', 'stage2'):
    if not 0.0 <= config[name].ema_decay < 1.0:
      raise ValueError(f'{name}.ema_decay must lie in [0, 1), got {config[name].ema_decay}.')
  data = config.data
  if len(data.task_weights) != len(data.tasks):
    raise ValueError(
      f'data.task_weights has {len(data.task_weights)} values for the {len(data.tasks)} data.tasks '
      f'{", ".join(data.tasks)}.'
    )
  strangers = sorted(set(data.stage1_tasks) - set(data.tasks))
  if strangers:
    raise ValueError(f'data.stage1_tasks must be some of data.tasks, but {", ".join(strangers)} are not.')


class Run:
  """One call of `train`: what its stages share, all of it checked on construction."""

  def __init__(self, config: ConfigDict, workdir: pathlib.Path):
    self.config = config
    self.workdir = workdir
    self.mesh = parallel.make_mesh(**config.mesh)
    self.sections = {name: config[name].to_dict() for name in networks_lib.SECTIONS}
    self.networks = networks_lib.build(self.sections, dtype=inference.activation_dtype(config.train.dtype))
    check_settings(config)
    stages = [stages_build.build(name, config, self.networks) for name in config.train.stages]
    for stage in stages:
      for stretch in stage.stretches:
        parallel.check_batch(stretch.batch_size, stretch.crop_size, self.mesh, rows=self.networks.least_rows)
    self.unfinished = [stage for stage in stages if not self._finished(stage)]
    if not self.unfinished:
      log.info('Every stage of %s has finished.', workdir)
      return
    names = [stage.name for stage in self.unfinished]
    self.foundation = self._load_foundation()
    if 'stage1' not in names:
      self._stage1_parts()
    elif (workdir / 'checkpoints' / 'stage2').is_dir():
      raise ValueError(
        f'{workdir} has trained stage2 on the VAE of a finished stage1, which this configuration would train further: '
        'use another --workdir.'
      )
    self.source = sources.build(
      config.data.source,
      path=config.data.path,
      split=config.data.split,
      tasks=tuple(config.data.tasks),
      cache_gib=config.data.cache_gib,
      painted=config.data.dead_leaves.to_dict(),
      levels=config.data.pyramid,
      least=min(stretch.crop_size for stage in stages for stretch in stage.stretches),
    )
    self.resident = 0 < resident.packed_bytes(self.source) <= config.data.device_gib * 2**30
    for stage in self.unfinished:
      for stretch in stage.stretches:
        self.batches(stage, dataclasses.replace(stretch, start=stretch.stop)).close()
        self.prepare(stage, stretch)
      # Traces every network, so that an option that does not fit one of them is found now.
      jax.eval_shape(stage.init, jax.random.key(0))
    self.source.check_readable(limit=SMALL_DATA_SET)
    self.images = self._resident_images()
    workdir.mkdir(parents=True, exist_ok=True)
    if jax.process_index() == 0:
      (workdir / 'config.json').write_text(config.to_json_best_effort(indent=2) + '\n', encoding='utf-8')

  def train_stage(self, stage: stages_lib.Stage, logs: logs_lib.Logs) -> tuple[TrainState, dict[str, float]]:
    """Trains one stage from its latest checkpoint, or from scratch, to its end, and exports it."""
    frozen = {} if stage.name == 'stage1' else hosts.together(self._stage1_parts)
    if stages_build.foundation(self.config, stage.name) is not None:
      frozen['foundation'] = self.foundation
    key = stream_key(self.config.train.seed, f'{stage.name}/init', 0)
    shapes = jax.eval_shape(stage.init, key)
    shardings = parallel.state_shardings(self.mesh, shapes)
    abstract = parallel.abstract_like(shapes, shardings)
    frozen_shardings = jax.tree.map(lambda _: parallel.replicated(self.mesh), frozen)
    frozen = parallel.put(frozen, frozen_shardings)
    with self._checkpoints(stage) as checkpoints:
      start = checkpoints.latest_step() or 0
      hosts.agree(f'where {stage.name} stands', {'step': start, **self._listing()})
      if start:
        log.info('%s: resuming from step %d of %d.', stage.name, start, stage.total_steps)
        state = checkpoints.restore(start, abstract)
      else:
        state = jax.jit(stage.init, out_shardings=shardings)(key)
        log.info(
          '%s: starting; %s parameters.',
          stage.name,
          {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in state.params.items()},
        )
      loop = loop_lib.Loop(self, stage, abstract, parallel.abstract_like(frozen, frozen_shardings), start)
      state, metrics = loop.run(state, frozen, checkpoints, logs)
    params = jax.device_get(jax.jit(stage.export, out_shardings=parallel.replicated(self.mesh))(state, frozen))
    # Together: the next stage reads the export on every process.
    hosts.together(lambda: self._save_export(exports.Export(sections=self.sections, params=params, stage=stage.name)))
    return state, metrics

  def _save_export(self, export: exports.Export) -> None:
    if jax.process_index() == 0:
      exports.save(self.workdir / 'export', export)

  def _listing(self) -> dict[str, Any]:
    """What tells this process's data set from another's: names and sizes, not pixels."""
    entries = [(item.name, item.height, item.width) for item in self.source.items]
    return {'images': len(entries), 'SHA-256 of their names and sizes': results.list_hash(entries)}

  def _resident_images(self) -> dict[str, jax.Array]:
    """Returns the data set on the devices where it shall lie there, else nothing."""
    if not self.resident:
      return {}
    images = resident.pack(self.source)
    log.info('%d images, %.2f GB, lie on every device.', len(self.source), images['pixels'].nbytes / 1e9)
    return parallel.put(images, jax.tree.map(lambda _: parallel.replicated(self.mesh), images))

  def _load_foundation(self) -> Any:
    """Returns the parameters of the foundation model, {} where no unfinished stage needs it."""
    models = [stages_build.foundation(self.config, stage.name) for stage in self.unfinished]
    model = next((model for model in models if model is not None), None)
    if model is None:
      return {}
    if not model.needs_weights:
      log.warning('foundation.name=%s has random weights: it is for tests only.', model.name)
      return jax.device_get(model.init(jax.random.key(0)))
    return weight_files.load_foundation(model.name, self.config.foundation.weights, model.abstract_params())

  def _stage1_parts(self) -> dict[str, Any]:
    """Returns the frozen VAE of stage 2: from this work directory, else from train.init_from."""
    path = self.workdir
    if not (path / 'export').is_dir():
      if not self.config.train.init_from:
        raise ValueError(
          'stage2 needs a trained VAE: put stage1 in train.stages, or name a finished stage-1 run in train.init_from.'
        )
      path = storage.path(self.config.train.init_from)
    export = exports.load(path)
    if networks_lib.build(export.sections).vae.preset != networks_lib.build(self.sections).vae.preset:
      raise ValueError(
        f'{path} holds another VAE: config.vae is {export.sections["vae"]} there and {self.sections["vae"]} here.'
      )
    return {name: export.params[name] for name in networks_lib.STAGE1_PARTS}

  def _finished(self, stage: stages_lib.Stage) -> bool:
    """Whether the stage is trained and exported; a checkpoint of another model is refused here."""
    if not checkpoint.exists(self.workdir / 'checkpoints' / stage.name):
      return False
    with self._checkpoints(stage) as checkpoints:
      step = checkpoints.latest_step()
      if step is None:
        return False
      checkpoints.check_identity(step)
      if step > stage.total_steps:
        raise ValueError(
          f'{self.workdir} has trained {stage.name} for {step} steps, the configuration asks for {stage.total_steps}: '
          'use another --workdir.'
        )
      # A run that ended between its last checkpoint and its export only has to export; one whose last checkpoint was
      # damaged after its export has lost nothing.
      exported = exports.stage_of(self.workdir)
      ended = step == stage.total_steps or checkpoints.was_set_aside(stage.total_steps)
      return ended and exported is not None and exported >= stage.name

  def _checkpoints(self, stage: stages_lib.Stage) -> checkpoint.Checkpointer:
    identity = self.sections | {'stage': stage.name, 'seed': self.config.train.seed}
    if stage.name == 'stage1':
      section = self.config.foundation
      identity |= {'foundation': section.name, 'losses.invariance': bool(self.config.losses.invariance)}
      identity |= {'foundation.input_size': section.input_size}
      identity |= {'stage1.reconstruction_steps': self.config.stage1.reconstruction_steps}
      identity |= {'optim.stage1.method': self.config.optim.stage1.method}
    else:
      schedule = ('restorer_steps', 'lora_phases', 'alternate_steps')
      identity |= {f'stage2.{name}': self.config.stage2[name] for name in schedule}
      identity |= {'discriminator': self.config.discriminator.to_dict()}
      identity |= {f'optim.{name}.method': self.config.optim[name].method for name in stage2.OPTIMIZERS}
      identity |= {'SHA-256 of the VAE': weight_files.digest(self._stage1_parts())}
    return checkpoint.Checkpointer(
      self.workdir / 'checkpoints' / stage.name, identity=identity, keep=self.config.train.keep_checkpoints
    )

  def prepare(self, stage: stages_lib.Stage, stretch: stages_lib.Stretch) -> Callable[..., stages_lib.Batch]:
    """Returns the function that turns a stretch's host batches into training batches on the devices."""
    data = self.config.data
    return prepare.make(
      tasks=tuple(data.tasks),
      severity=tuple(data.severity),
      crop_size=stretch.crop_size,
      seed=self.config.train.seed,
      stream=stage.name,
      mesh=self.mesh,
    )

  def batches(self, stage: stages_lib.Stage, stretch: stages_lib.Stretch) -> pipeline.TrainingBatches:
    """Returns this process's share of a stretch's batches."""
    data = self.config.data
    weights = tuple(data.task_weights)
    if stage.name == 'stage1' and data.stage1_tasks:
      weights = tuple(weight * (task in data.stage1_tasks) for task, weight in zip(data.tasks, weights))
    return pipeline.training_batches(
      self.source,
      tasks=tuple(data.tasks),
      task_weights=weights,
      pairs_only=degradations.UNMODELLED,
      batch_size=stretch.batch_size,
      stride=max(stretch.batch_size for stretch in stage.stretches),
      crop_size=stretch.crop_size,
      seed=zlib.crc32(f'{self.config.train.seed}/{stage.name}/data'.encode()),
      start_step=stretch.start,
      num_steps=stretch.stop,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      places_only=self.resident,
      num_threads=data.num_threads,
      prefetch=data.prefetch,
      timeout=data.timeout_seconds,
    )
