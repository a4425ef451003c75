"""Devices: the mesh, what is sharded over it, and moving host batches onto it. The only module that knows Mesh.

Axes: 'data' splits the batch; 'fsdp' splits the batch and, beside it, every large parameter and its optimizer state;
'space' splits the rows of the images. A global batch is the same batch on any mesh, and an image the same image: the
partitioner inserts the collectives, and batch statistics are taken over the whole batch.
"""

from __future__ import annotations

import collections
import itertools
import os
import pathlib
import pickle
import time
from typing import Any, Callable

import jax
from jax._src import distributed  # The barrier of jax.distributed has no public name.
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

BATCH_AXES = ('data', 'fsdp')
SPACE_AXIS = 'space'
_CPU_LIBRARY_FUSIONS = 'LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'
# Smaller arrays stay whole: gathering them costs more than holding them.
MIN_SHARDED_SIZE = 2**12
_FOREVER_MS = 7 * 24 * 3600 * 1000
_barriers = itertools.count()


def make_mesh(*, data: int = -1, fsdp: int = 1, space: int = 1, devices: list[jax.Device] | None = None) -> Mesh:
  """Arranges devices as (data, fsdp, space).

  Devices come process by process, 'space' innermost: each process holds whole samples, and the p-th of n processes the
  p-th of n equal slices of every batch.

  Args:
    data: devices along 'data'; -1 takes all that the others leave.
    fsdp: devices along 'fsdp'.
    space: devices along 'space', all of one process.
    devices: defaults to all devices of all processes.

  Raises:
    ValueError: the axes do not multiply to the number of devices, or 'space' would reach beyond a process.
  """
  devices = sorted(jax.devices() if devices is None else devices, key=lambda device: (device.process_index, device.id))
  count = len(devices)
  rest = fsdp * space
  if data == -1 and min(fsdp, space) >= 1 and count % rest == 0:
    data = count // rest
  if min(data, fsdp, space) < 1 or data * rest != count:
    raise ValueError(
      f'mesh.data={data} x mesh.fsdp={fsdp} x mesh.space={space} must use all {count} devices; set mesh.data=-1 to fill '
      f'up, and mesh.fsdp and mesh.space so that their product divides {count}.'
    )
  for process, own in collections.Counter(device.process_index for device in devices).items():
    if own % space:
      raise ValueError(
        f'mesh.space={space} must divide the {own} devices of process {process}: the rows of an image are split within '
        'a process.'
      )
  return Mesh(np.asarray(devices).reshape(data, fsdp, space), (*BATCH_AXES, SPACE_AXIS))


def make_space_mesh(count: int) -> Mesh:
  """Returns the first `count` devices of this process along the axis 'space'.

  Raises:
    ValueError: there are not so many.
  """
  devices = jax.local_devices()
  if not 1 <= count <= len(devices):
    raise ValueError(f'devices must lie between 1 and {len(devices)}, the devices of this process; got {count}.')
  return Mesh(np.asarray(devices[:count]), (SPACE_AXIS,))


def compile_over_space(fn: Callable[..., Any], mesh: Mesh, params: Any, arguments: list[Any]) -> Any:
  """Compiles `fn(params, *arguments) -> (array, scalar)` with the rows of the last argument, and those of the array,
  split over 'space'; everything else is held whole by every device.

  Rows need not divide over the devices: the program takes them with rows of padding below, which it drops, and returns
  such rows below its result.

  Args:
    fn: pure function; the last argument and the array are (1, rows, ...), with different numbers of rows.
    mesh: from `make_space_mesh`; with one device this is plain compilation.
    params: abstract tree.
    arguments: abstract arrays.
  """
  if mesh.size == 1:
    return _compile_alike(jax.jit(fn).lower(params, *arguments), mesh)
  *others, image = arguments
  rows = image.shape[1]
  padded = jax.ShapeDtypeStruct((1, rows + -rows % mesh.size, *image.shape[2:]), image.dtype)

  def split(params: Any, *arguments: Any) -> tuple[jax.Array, jax.Array]:
    *others, image = arguments
    result, scalar = fn(params, *others, image[:, :rows])
    margins = [(0, 0), (0, -result.shape[1] % mesh.size)] + [(0, 0)] * (result.ndim - 2)
    return jnp.pad(result, margins), scalar

  whole, by_rows = replicated(mesh), space_sharding(mesh)
  jitted = jax.jit(split, in_shardings=(whole, *[whole] * len(others), by_rows), out_shardings=(by_rows, whole))
  return _compile_alike(jitted.lower(params, *others, padded), mesh)


def _compile_alike(lowered: jax.stages.Lowered, mesh: Mesh) -> Any:
  """Compiles so that a pixel's arithmetic does not depend on the size of the array around it."""
  if mesh.devices.flat[0].platform != 'cpu':
    return lowered.compile()
  try:
    # On the CPU, XLA gives large sums to a library that adds in another order; convolutions may stay with it.
    return lowered.compile(compiler_options={'xla_cpu_experimental_ynn_fusion_type': _CPU_LIBRARY_FUSIONS})
  except jax.errors.JaxRuntimeError as error:
    if 'xla_cpu_experimental_ynn_fusion_type' not in str(error):
      raise
    return lowered.compile()  # A version of XLA without that option.


def put_rows(image: np.ndarray, mesh: Mesh) -> jax.Array:
  """Places an image (1, rows, ...) as programs of `compile_over_space` take it."""
  missing = -image.shape[1] % mesh.size
  if missing:
    image = np.pad(image, [(0, 0), (0, missing)] + [(0, 0)] * (image.ndim - 2))
  return jax.device_put(image, space_sharding(mesh))


def space_sharding(mesh: Mesh) -> NamedSharding:
  """The sharding of an image: its rows over 'space'."""
  return NamedSharding(mesh, PartitionSpec(None, SPACE_AXIS))


def check_batch(batch_size: int, crop_size: int, mesh: Mesh, *, rows: int = 1) -> None:
  """Checks that a global batch of square crops divides over the devices.

  Args:
    batch_size: global.
    crop_size: in pixels.
    mesh: from `make_mesh`.
    rows: the least that a device along 'space' may hold, and a divisor of what it holds (`Networks.least_rows`).

  Raises:
    ValueError: it does not.
  """
  shards, space = mesh.shape['data'] * mesh.shape['fsdp'], mesh.shape[SPACE_AXIS]
  if batch_size < 1 or batch_size % shards:
    raise ValueError(
      f'A global batch of {batch_size} does not divide over mesh.data x mesh.fsdp = {shards} devices: set batch_size to '
      f'a multiple of {shards}, use fewer devices, or give some of them to mesh.space.'
    )
  if space > 1 and crop_size % (rows * space):
    raise ValueError(
      f'The rows of a crop of {crop_size} do not divide over mesh.space={space} devices by {rows}: set crop_size to a '
      f'multiple of {rows * space}, or a smaller mesh.space.'
    )


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of an array that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The sharding of a batch from the host: its first axis over 'data' and 'fsdp'."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def image_sharding(mesh: Mesh) -> NamedSharding:
  """The sharding of a batch of images in training: as `batch_sharding`, and the rows over 'space'."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES, SPACE_AXIS))


def state_shardings(mesh: Mesh, abstract: Any, *, min_size: int = MIN_SHARDED_SIZE) -> Any:
  """Shards, of every array in `abstract` of at least `min_size` elements, the largest axis that divides over 'fsdp';
  replicates the rest.
  """

  def rule(leaf: jax.ShapeDtypeStruct) -> NamedSharding:
    shards = mesh.shape['fsdp']
    if shards > 1 and int(np.prod(leaf.shape)) >= min_size:
      axes = [axis for axis, length in enumerate(leaf.shape) if length % shards == 0]
      if axes:
        largest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*(None,) * largest, 'fsdp'))
    return replicated(mesh)

  return jax.tree.map(rule, abstract)


def abstract_like(tree: Any, shardings: Any) -> Any:
  """Returns the ShapeDtypeStructs of `tree` with these shardings."""
  return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Makes a global batch of each process's share (its contiguous slice of the first axis)."""
  sharding = batch_sharding(mesh)
  return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()}


def put(tree: Any, shardings: Any) -> Any:
  """Places a tree of host arrays, which every process holds whole, with these shardings."""

  def place(value: Any, sharding: NamedSharding) -> jax.Array:
    value = np.asarray(value)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

  return jax.tree.map(place, tree, shardings)


def wait_for_all() -> None:
  """Returns when every process has come here, however long that takes; a process that has died is an error.

  Collectives on the CPU give up after 30 seconds, and compilation or a share of the images may well take longer on one
  process than on another.
  """
  if jax.process_count() > 1:
    client = distributed.global_state.client
    client.wait_at_barrier(f'lh_jax/{next(_barriers)}', timeout_in_ms=_FOREVER_MS)


class OtherProcessError(RuntimeError):
  """Another process has failed where this one waited for something of it."""


def gather(value: Any) -> list[Any]:
  """Returns what every process has given, in the order of the processes, to all of them; it waits for all.

  Args:
    value: anything that can be pickled.

  Raises:
    OtherProcessError: another process has failed, and told so through `gather_failures`.
  """
  found = _exchange((value, None))
  failures = [f'process {process}: {failure}' for process, (_, failure) in enumerate(found) if failure is not None]
  if failures:
    raise OtherProcessError('; '.join(failures))
  return [value for value, _ in found]


def gather_failures(failure: str | None) -> list[str | None]:
  """Returns what has failed on every process, or None for each; it waits for all, and ends those that `gather`."""
  return [failure for _, failure in _exchange((None, failure))]


def _exchange(value: Any) -> list[Any]:
  if jax.process_count() == 1:
    return [value]
  wait_for_all()
  data = np.frombuffer(pickle.dumps(value), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(data.size))
  padded = np.zeros(sizes.max(), np.uint8)
  padded[: data.size] = data
  return [pickle.loads(row[:size].tobytes()) for row, size in zip(multihost_utils.process_allgather(padded), sizes)]


def device_name(count: int) -> str:
  """Returns the platform, and where it has one the kind, of this process's devices, such as '2 x gpu (NVIDIA H100)'.

  Args:
    count: how many are in use.
  """
  device = jax.local_devices()[0]
  kind = device.device_kind
  name = device.platform if kind.lower() == device.platform else f'{device.platform} ({kind})'
  return name if count == 1 else f'{count} x {name}'


def map_shards(fn: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
  """Lets each device run `fn` on its own slice of the batch, without collectives.

  For functions that treat every sample by itself but loop over them, which the partitioner would otherwise gather.
  """
  spec = PartitionSpec(BATCH_AXES)
  return jax.shard_map(fn, mesh=mesh, in_specs=spec, out_specs=spec)


def compile_step(step: Callable[..., Any], state: Any, frozen: Any, batch: Any) -> tuple[Callable[..., Any], float]:
  """Compiles `step(state, frozen, batch) -> (state, metrics)` ahead of time, donating the state.

  Sharded parameters are gathered once, before they are used: left to itself, the partitioner would split convolutions
  as their kernels are and send activations around. What is updated stays sharded.

  Args:
    step: pure step function.
    state: abstract TrainState, each leaf with its sharding; the new state leaves with the same.
    frozen: abstract frozen tree, likewise.
    batch: abstract batch, likewise.

  Returns:
    The compiled step and the seconds it took.
  """
  shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
  mesh = jax.tree.leaves(shardings)[0].mesh

  def gathered(state: Any, frozen: Any, batch: Any) -> Any:
    params = jax.lax.with_sharding_constraint(state.params, replicated(mesh))
    return step(state.replace(params=params), frozen, batch)

  started = time.perf_counter()
  jitted = jax.jit(gathered, donate_argnums=0, out_shardings=(shardings, replicated(mesh)))
  compiled = jitted.lower(state, frozen, batch).compile()
  return compiled, time.perf_counter() - started


def enable_compilation_cache() -> None:
  """Keeps compiled programs in ~/.cache/lh_jax/xla (JAX_COMPILATION_CACHE_DIR overrides), so that a second start does
  not compile again.
  """
  if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    jax.config.update('jax_compilation_cache_dir', str(pathlib.Path.home() / '.cache' / 'lh_jax' / 'xla'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
  # ops.fourier's partitioning is a function of this version's code, wherever it lies in memory.
  jax.config.update('jax_remove_custom_partitioning_ptr_from_cache_key', True)
