"""Checkpoints of training states, through orbax: asynchronous saves, exact restores onto any mesh.

Contract: beside the state each checkpoint keeps its identity, a JSON tree that says which model it belongs to, so that a
checkpoint of another run is refused by name instead of by shape, and the checksums of its files, which are committed
with them. Nothing is lost in silence: a save that fails ends the run, a checkpoint that cannot be read or is not what was
written is set aside for the one before it, loudly, and where none can be read there is an error, not a start from scratch.
"""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any, Mapping
import uuid
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp

from lh_jax import parallel

log = logging.getLogger(__name__)

# Of what is in a checkpoint; one without a number is of format 1. Raised whenever an older one cannot be read as it is.
FORMAT = 1
DAMAGED = 'damaged-'
# Size and CRC-32 of each file of a checkpoint: orbax's files have checksums of their own for all but the arrays' values.
CHECKSUMS = 'checksums.json'
# Fields of an identity that earlier versions did not write.
_ADDED = (
  'SHA-256 of the VAE',
  'foundation.input_size',
  'stage1.reconstruction_steps',
  *(f'optim.{name}.method' for name in ('stage1', 'restorer', 'encoder_lora', 'decoder_lora', 'discriminator')),
)
_ITEMS = ('state', 'identity')
_CHUNK = 2**20
# Errors of the operating system that a checkpoint with files gone can raise.
_OF_DAMAGE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def exists(directory: pathlib.Path) -> bool:
  """Whether there is a directory of checkpoints; to be asked on every process.

  Raises:
    ValueError: there is for some processes only.
  """
  seen = parallel.gather(directory.is_dir())
  if any(seen) and not all(seen):
    raise _not_shared(directory, 'of which some have none')
  return seen[0]


def _not_shared(directory: pathlib.Path, seen: str) -> ValueError:
  return ValueError(
    f'The processes see different checkpoints in {directory}, {seen}: a work directory must be on storage that all '
    'hosts share.'
  )


class Checkpointer:
  """Saves and restores the states of one stage in one directory.

  Use as a context manager: leaving it waits for the last save and raises its error.
  """

  def __init__(self, directory: pathlib.Path, *, identity: Mapping[str, Any], keep: int):
    """Opens (or makes) `directory`.

    Args:
      directory: where the checkpoints live.
      identity: JSON tree that a restored checkpoint must have been saved with.
      keep: how many of the latest checkpoints to keep, at least 1.

    Raises:
      ValueError: `keep` is below 1.
    """
    if keep < 1:
      raise ValueError(f'train.keep_checkpoints must be at least 1, got {keep}.')
    self._directory = directory
    self._identity = json.loads(json.dumps({**identity, 'format': FORMAT}))
    self._saving: int | None = None
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      create=True,
      # What a process that was killed has left behind; gone, at the latest, before the next save begins.
      cleanup_tmp_directories=True,
      enable_async_checkpointing=True,
      # Before the commit, on process 0: a checkpoint has its checksums or is none.
      async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
    )
    self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

  def __enter__(self) -> Checkpointer:
    return self

  def __exit__(self, *exception: Any) -> None:
    try:
      self.wait()
    finally:
      self._manager.close()

  def latest_step(self) -> int | None:
    """Returns the step of the latest checkpoint that can be read, or None where there has never been one.

    Later ones that cannot be read are set aside: renamed to `DAMAGED` and their step, for a person to look at. Process 0
    reads them, alone, because the others would wait for a process that fails in the middle.

    Raises:
      ValueError: no checkpoint can be read, or the processes see different ones.
      OSError: the storage refuses to be read, which says nothing about a checkpoint, or one cannot be set aside.
    """
    self.wait()
    seen = parallel.gather(sorted(self._manager.all_steps()))
    if any(steps != seen[0] for steps in seen):
      raise _not_shared(self._directory, f'the steps {seen}')
    self._check_shared()
    for step in reversed(seen[0]):
      reason, refused = parallel.gather(self._damage(step) if jax.process_index() == 0 else None)[0]
      if reason is None:
        return step
      if refused:
        raise OSError(f'The checkpoint of step {step} in {self._directory} cannot be read now: {reason}')
      log.error('The checkpoint of step %d in %s cannot be read and is set aside: %s', step, self._directory, reason)
      failure = parallel.gather(self._set_aside(step) if jax.process_index() == 0 else None)[0]
      if failure:
        raise OSError(f'The damaged checkpoint {self._directory / str(step)} cannot be renamed: {failure}')
      self._manager.reload()
    aside = sorted(path.name for path in self._directory.glob(f'{DAMAGED}*'))
    if aside:
      raise ValueError(
        f'No checkpoint in {self._directory} can be read: {", ".join(aside)}. Repair one and give it its number as '
        'name, or remove the folder to start anew.'
      )
    return None

  def was_set_aside(self, step: int) -> bool:
    """Whether a checkpoint of this step was there and was damaged."""
    return (self._directory / f'{DAMAGED}{step}').exists()

  def _check_shared(self) -> None:
    """Of a new run there is nothing to compare yet: process 0 leaves a mark for the others to see."""
    if jax.process_count() == 1:
      return
    mark = self._directory / parallel.gather(f'.shared-{uuid.uuid4().hex}')[0]
    if jax.process_index() == 0:
      mark.write_text('', encoding='utf-8')
    parallel.wait_for_all()
    seen = parallel.gather(mark.exists())
    if jax.process_index() == 0:
      mark.unlink()
    if not all(seen):
      raise _not_shared(self._directory, f'where process {seen.index(False)} does not see what process 0 writes')

  def _set_aside(self, step: int) -> str | None:
    """Renames a checkpoint to a name that is free; returns why it could not."""
    names = [f'{DAMAGED}{step}', *(f'{DAMAGED}{step}-{number}' for number in range(2, 100))]
    try:
      target = next(path for name in names if not (path := self._directory / name).exists())
      (self._directory / str(step)).rename(target)
    except (OSError, StopIteration) as error:
      return f'{type(error).__name__}: {error}'
    return None

  def _write_checksums(self) -> None:
    """Writes the checksums of the save that is about to be committed, in orbax's thread."""
    folders = [path for path in self._directory.iterdir() if path.name.split('.')[0] == str(self._saving)]
    folder = max(folders, key=lambda path: path.stat().st_mtime_ns)
    (folder / CHECKSUMS).write_text(json.dumps(_checksums(folder)), encoding='utf-8')

  def _damage(self, step: int) -> tuple[str | None, bool]:
    """Reads a whole checkpoint; returns what is wrong with it, and whether that is wrong with the storage instead."""
    folder = (self._directory / str(step)).absolute()
    try:
      if not (folder / CHECKSUMS).exists():  # of an earlier version
        return self._damage_of_arrays(folder), False
      written, found = json.loads((folder / CHECKSUMS).read_text(encoding='utf-8')), _checksums(folder)
      wrong = [name for name in written if written[name] != found.get(name)]
      return (f'{", ".join(wrong)}: gone, or not what was written' if wrong else None), False
    # What a damaged file raises is the affair of whoever reads it.
    except Exception as error:
      refused = isinstance(error, OSError) and not isinstance(error, _OF_DAMAGE)
      return f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}', refused

  def _damage_of_arrays(self, folder: pathlib.Path) -> str | None:
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix='damage')
    json.loads((folder / 'identity' / 'metadata').read_text(encoding='utf-8'))
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
      metadata = reader.metadata(folder / 'state').item_metadata
      if metadata is None:
        return 'the description of its state is not there or damaged'
      arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree)
      reader.restore(folder / 'state', args=ocp.args.PyTreeRestore(restore_args=arrays))
    return None

  def save(self, step: int, state: Any) -> None:
    """Starts saving `state` in the background. A step that is saved already is left alone.

    Raises:
      OSError: an earlier save failed, or this one could not begin.
    """
    self.wait()  # As orbax does too, but then its error would be taken for this step's.
    if step not in self._manager.all_steps():
      items = ocp.args.Composite(state=ocp.args.StandardSave(state), identity=ocp.args.JsonSave(self._identity))
      self._saving = step
      try:
        self._manager.save(step, args=items)
      except Exception as error:
        raise self._failed(error) from error

  def wait(self) -> None:
    """Waits until the last save is complete.

    Raises:
      OSError: it failed.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._failed(error) from error
    self._check()

  def _check(self) -> None:
    try:
      self._manager.check_for_errors()
    except Exception as error:
      raise self._failed(error) from error

  def _failed(self, error: Exception) -> OSError:
    return OSError(
      f'The checkpoint of step {self._saving} could not be saved in {self._directory}: {error} Those before it are '
      'untouched; the same command goes on from the last one.'
    )

  def check_identity(self, step: int) -> None:
    """Checks that a checkpoint was saved by this model.

    Raises:
      ValueError: it was not; names every field that differs; or it is of another format.
    """
    found = self._manager.restore(step, args=ocp.args.Composite(identity=ocp.args.JsonRestore()))['identity']
    found_format = found.setdefault('format', 1)
    if found_format != FORMAT:
      raise ValueError(
        f'{self._directory} holds checkpoints of format {found_format}, this version of lh_jax reads format {FORMAT}: '
        'go on with the version that wrote them, or start stage 2 from its export (train.init_from).'
      )
    found = {name: self._identity[name] for name in _ADDED if name in self._identity} | found
    differences = list(_differences(found, self._identity))
    if differences:
      raise ValueError(
        f'{self._directory} holds a checkpoint of another configuration: '
        + '; '.join(differences)
        + '. Use another --workdir, or the configuration that this one was started with.'
      )

  def restore(self, step: int, abstract_state: Any) -> Any:
    """Restores a state onto the shardings of `abstract_state`, whatever devices it was saved from."""
    items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
    return self._manager.restore(step, args=items)['state']


def _checksums(folder: pathlib.Path) -> dict[str, list[int]]:
  """Returns the size and the CRC-32 of every file of a checkpoint that a restore may read."""
  found = {}
  for item in _ITEMS:
    for path in sorted((folder / item).rglob('*')):
      if path.is_file():
        size, checksum = 0, 0
        with path.open('rb') as file:
          while chunk := file.read(_CHUNK):
            size, checksum = size + len(chunk), zlib.crc32(chunk, checksum)
        found[str(path)[len(str(folder)) + 1 :]] = [size, checksum]
  return found


def _differences(found: Any, wanted: Any, path: str = ''):
  if isinstance(found, dict) and isinstance(wanted, dict):
    for name in sorted(found.keys() | wanted.keys()):
      yield from _differences(found.get(name), wanted.get(name), f'{path}.{name}' if path else name)
  elif found != wanted:
    yield f'{path} is {found!r} there and {wanted!r} here'
