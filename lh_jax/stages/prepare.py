"""From a host batch to a training batch, on the devices: pixels to [0, 1], and the degradations that are modelled.

A function of (seed, stream, step) and of each sample's place in the global batch, on any mesh.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping

import jax
import jax.numpy as jnp

from lh_jax import parallel
from lh_jax import stages
from lh_jax.ops import degradations
from lh_jax.state import stream_key


def make(
  *, tasks: tuple[str, ...], severity: tuple[float, float], seed: int, stream: str, mesh: Any
) -> Callable[..., stages.Batch]:
  """Makes the function that turns a host batch into a training batch on the devices.

  Args:
    tasks: what 'task' indexes; one more id, after the last, leaves a paired sample's degraded image as it is.
    severity: range of the modelled degradations' severities, uniform.
    seed: seed of the random streams.
    stream: name of the random stream.
    mesh: where the batch lies.

  Returns:
    prepare(batch, step) -> {'clean', 'degraded'}, float32 in [0, 1]; a function of (seed, stream, step) alone.

  Raises:
    ValueError: an unknown task, or severities outside [0, 1].
  """
  known = (*degradations.BENCHMARK, *degradations.UNMODELLED)
  unknown = [task for task in tasks if task not in known]
  if unknown:
    raise ValueError(f'Unknown data.tasks {unknown}; known: {known}.')
  low, high = severity
  if not 0.0 <= low <= high <= 1.0:
    raise ValueError(f'data.severity must be a range within [0, 1], got {severity}.')
  # No sample asks for what is not modelled: it comes in pairs.
  branches = tuple('identity' if task in degradations.UNMODELLED else task for task in (*tasks, 'identity'))
  degrade = parallel.map_shards(lambda *args: degradations.degrade_batch(*args, tasks=branches), mesh)

  def prepare(batch: Mapping[str, jax.Array], step: jax.Array) -> stages.Batch:
    clean = batch['clean'].astype(jnp.float32) / 255.0
    count = clean.shape[0]
    before = clean
    if 'degraded' in batch:
      paired = (batch['task'] == len(tasks)).reshape(-1, 1, 1, 1)
      before = jnp.where(paired, batch['degraded'].astype(jnp.float32) / 255.0, clean)
    keys = jax.random.split(stream_key(seed, f'{stream}/degradations', step), count)
    severities = jax.random.uniform(stream_key(seed, f'{stream}/severity', step), (count,), minval=low, maxval=high)
    return {'clean': clean, 'degraded': degrade(keys, before, batch['task'], severities)}

  return prepare
