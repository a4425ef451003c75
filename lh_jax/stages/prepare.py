"""From a host batch to a training batch, on the devices: pixels to [0, 1], and the degradations that are modelled.

A function of (seed, stream, step) and of each sample's place in the global batch, on any mesh. Where the data set lies
on the devices (`data.resident`), the crops are cut there.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping

import jax
import jax.numpy as jnp

from lh_jax import parallel
from lh_jax import stages
from lh_jax.ops import degradations
from lh_jax.state import stream_key


def crops(images: Mapping[str, jax.Array], places: jax.Array, *, size: int) -> jax.Array:
  """Cuts crops out of a data set that lies on the device.

  Args:
    images: as `data.resident.pack` makes them.
    places: (B, 4) int32, 'place' of `data.pipeline`.
    size: side of a crop in pixels.

  Returns:
    (B, size, size, 3) uint8, what `data.transforms` cuts and turns there.
  """

  def crop(place: jax.Array) -> jax.Array:
    image, top, left, turn = place
    last = size - 1
    y, x = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing='ij')
    x = jnp.where(turn % 2, last - x, x)
    # Where pixel (y, x) of the crop after each number of quarter turns came from.
    rows = jnp.choose(turn // 2, (y, x, last - y, last - x), mode='clip')
    columns = jnp.choose(turn // 2, (x, last - y, last - x, y), mode='clip')
    return images['pixels'][images['starts'][image] + (top + rows) * images['widths'][image] + left + columns]

  return jax.vmap(crop)(places)


def make(
  *, tasks: tuple[str, ...], severity: tuple[float, float], crop_size: int, seed: int, stream: str, mesh: Any
) -> Callable[..., stages.Batch]:
  """Makes the function that turns a host batch into a training batch on the devices.

  Args:
    tasks: what 'task' indexes; one more id, after the last, leaves a paired sample's degraded image as it is.
    severity: range of the modelled degradations' severities, uniform.
    crop_size: side of a crop, in pixels.
    seed: seed of the random streams.
    stream: name of the random stream.
    mesh: where the batch lies.

  Returns:
    prepare(batch, step, images) -> {'clean', 'degraded'}, float32 in [0, 1]; a function of (seed, stream, step) alone.
    `images` is as for `crops`, empty or None where the batch has its pixels.

  Raises:
    ValueError: an unknown task, or severities outside [0, 1].
  """
  known = (*degradations.BENCHMARK, *degradations.UNMODELLED, 'identity')
  unknown = [task for task in tasks if task not in known]
  if unknown:
    raise ValueError(f'Unknown data.tasks {unknown}; known: {known}.')
  low, high = severity
  if not 0.0 <= low <= high <= 1.0:
    raise ValueError(f'data.severity must be a range within [0, 1], got {severity}.')
  # No sample asks for what is not modelled: it comes in pairs.
  branches = tuple('identity' if task in degradations.UNMODELLED else task for task in (*tasks, 'identity'))
  degrade = parallel.map_shards(lambda *args: degradations.degrade_batch(*args, tasks=branches), mesh)

  def prepare(
    batch: Mapping[str, jax.Array], step: jax.Array, images: Mapping[str, jax.Array] | None = None
  ) -> stages.Batch:
    pixels = crops(images, batch['place'], size=crop_size) if images else batch['clean']
    clean = pixels.astype(jnp.float32) / 255.0
    count = clean.shape[0]
    before = clean
    if 'degraded' in batch:
      paired = (batch['task'] == len(tasks)).reshape(-1, 1, 1, 1)
      before = jnp.where(paired, batch['degraded'].astype(jnp.float32) / 255.0, clean)
    keys = jax.random.split(stream_key(seed, f'{stream}/degradations', step), count)
    severities = jax.random.uniform(stream_key(seed, f'{stream}/severity', step), (count,), minval=low, maxval=high)
    return {'clean': clean, 'degraded': degrade(keys, before, batch['task'], severities)}

  return prepare
