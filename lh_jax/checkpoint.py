"""Checkpoints of training states, through orbax: asynchronous saves, exact restores onto any mesh.

Beside the state each checkpoint keeps its identity, a JSON tree that says which model it belongs to, so
that a checkpoint of another run is refused by name instead of by shape.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any, Mapping

import orbax.checkpoint as ocp


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
    self._identity = json.loads(json.dumps(identity))
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
    self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

  def __enter__(self) -> Checkpointer:
    return self

  def __exit__(self, *exception: Any) -> None:
    try:
      self.wait()
    finally:
      self._manager.close()

  def latest_step(self) -> int | None:
    """Returns the step of the latest checkpoint, or None."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any) -> None:
    """Starts saving `state` in the background.

    Raises if an earlier save failed. A step that is saved already is left alone.
    """
    self._manager.check_for_errors()
    if step not in self._manager.all_steps():
      items = ocp.args.Composite(state=ocp.args.StandardSave(state), identity=ocp.args.JsonSave(self._identity))
      self._manager.save(step, args=items)

  def wait(self) -> None:
    """Waits until the last save is complete; raises if it failed."""
    self._manager.wait_until_finished()
    self._manager.check_for_errors()

  def check_identity(self, step: int) -> None:
    """Checks that a checkpoint was saved by this model.

    Raises:
      ValueError: it was not; names every field that differs.
    """
    found = self._manager.restore(step, args=ocp.args.Composite(identity=ocp.args.JsonRestore()))['identity']
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


def _differences(found: Any, wanted: Any, path: str = ''):
  if isinstance(found, dict) and isinstance(wanted, dict):
    for name in sorted(found.keys() | wanted.keys()):
      yield from _differences(found.get(name), wanted.get(name), f'{path}.{name}' if path else name)
  elif found != wanted:
    yield f'{path} is {found!r} there and {wanted!r} here'
