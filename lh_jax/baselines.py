"""Baseline: a published restorer of images (`models.restorers.pixel`), for comparison with what goes through a latent.

Its file is what `python -m lh_jax.convert NAME` writes. It sees the whole image, through channel attention or a Fourier
transform, so an image is computed in one piece: what does not fit into memory is refused before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import logging
import os
import pathlib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lh_jax import inference
from lh_jax import memory
from lh_jax import options as options_lib
from lh_jax import programs as programs_lib
from lh_jax import storage
from lh_jax import weight_files
from lh_jax import windows
from lh_jax.models.restorers import pixel

log = logging.getLogger('lh_jax')

# Of images of different sizes or types, whose programs are kept.
MAX_PROGRAMS = 8


class Baseline:
  """A published network, ready to use.

  baseline = Baseline.from_file('nafnet_gopro_width32.safetensors')
  restored = baseline.restore(image)

  Attributes:
    name: key of `pixel.NETWORKS`.
  """

  def __init__(self, name: str, variables: Any, *, dtype: str = 'auto'):
    """Places a network.

    Args:
      name: key of `pixel.NETWORKS`.
      variables: of that network, on the host.
      dtype: of the activations: 'auto', 'float32' or 'bfloat16'.

    Raises:
      ValueError: unknown name or dtype.
    """
    self.name = name
    self._module = pixel.build(name, dtype=inference.activation_dtype(dtype))
    self._device = jax.local_devices()[0]
    self._variables = jax.device_put(variables, self._device)
    self._programs: dict[tuple, Any] = {}

  @classmethod
  def from_file(cls, path: str | pathlib.Path, *, dtype: str = 'auto') -> Baseline:
    """Loads a converted network.

    Args:
      path: safetensors file that `python -m lh_jax.convert NAME` has written, also in a bucket; or that NAME, for the
        file at its default place.
      dtype: of the activations: 'auto', 'float32' or 'bfloat16'.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, holds something else, or has yet to be converted.
    """
    path = options_lib.find_checkpoint(os.fspath(path))
    with storage.fetched(storage.path(path)) as local:
      variables, metadata = weight_files.load(local)
    name = metadata.get('name')
    if name not in pixel.NETWORKS:
      raise ValueError(
        f'{path} holds no network that restores images: its metadata names {name!r}. Networks on pixels are '
        f'{", ".join(pixel.NETWORKS)}; of a model that was trained here, name the work directory or export folder.'
      )
    variables = weight_files.fitted(path, variables, pixel.abstract_variables(pixel.build(name)))
    return cls(name, variables, dtype=dtype)

  def restore(self, image: np.ndarray, **options: Any) -> np.ndarray:
    """Restores an image; arguments and errors as `run`. Returns it with the same shape and dtype."""
    return self.run(image, **options).image

  def run(
    self,
    image: np.ndarray,
    *,
    max_memory: int | None = None,
    progress: Callable[[float], None] | None = None,
  ) -> windows.Restored:
    """Restores an image and says how.

    Args:
      image: (H, W, 3) RGB, any size; uint8, uint16, or float32 in [0, 1].
      max_memory: bytes that the computation may take; None is what the device has free.
      progress: called with 1.0 when it is done.

    Raises:
      ValueError: not such an image.
      MemoryError: the image does not fit.
      FloatingPointError: the result is not finite, in float32 either.
    """
    windows.check_image(image)
    notes = []
    result, finite = self._compute(self._module, image, max_memory)
    if not finite and self._module.dtype != jnp.float32:
      notes.append('non-finite values in bfloat16, computed again in float32')
      log.warning('%s: %s.', self.name, notes[0])
      result, finite = self._compute(self._module.clone(dtype=jnp.float32), image, max_memory)
    if not finite:
      raise FloatingPointError(f'{self.name} gave non-finite values in float32: its weights are damaged.')
    if progress is not None:
      progress(1.0)
    return windows.Restored(result, None, tuple(notes))

  def _compute(self, module: nn.Module, image: np.ndarray, max_memory: int | None) -> tuple[np.ndarray, bool]:
    program = self._program(module, image.shape, image.dtype)
    height, width, _ = image.shape
    needed = programs_lib.program_bytes(program)
    free = memory.available(self._device)
    limit = int(memory.SAFE_SHARE * free) if max_memory is None else max_memory
    reason = f'{memory.in_words(free)} are free' if max_memory is None else f'{memory.in_words(limit)} are allowed'
    if needed > limit:
      raise MemoryError(
        f'{self.name} takes {memory.in_words(needed)} for an image of {width}x{height} pixels and {reason}; it sees '
        'the whole image, so there are no tiles: shrink the image, or use a device with more memory.'
      )
    try:
      result, finite = program(self._variables, jax.device_put(image, self._device))
      return np.asarray(result), bool(finite)
    except Exception as error:
      if not memory.is_out_of_memory(error):
        raise
      raise MemoryError(
        f'Memory ran out while {self.name} restored an image of {width}x{height} pixels, which it cannot do in tiles.'
      ) from error

  def _program(self, module: nn.Module, shape: tuple[int, ...], dtype: Any) -> Any:
    key = (module.dtype, shape, np.dtype(dtype).name)
    program = self._programs.pop(key, None)
    if program is None:
      log.info('Compiling, or loading what an earlier run compiled, for images of %dx%d ...', shape[1], shape[0])
      exact = module.dtype == jnp.float32 and self._device.platform != 'cpu'
      # Float32 is float32: by default, GPUs round the operands of its convolutions to 10 bits, TPUs to 7.
      with jax.default_matmul_precision('highest' if exact else None):
        lowered = jax.jit(functools.partial(_restore, module)).lower(
          programs_lib.abstract(self._variables), jax.ShapeDtypeStruct(shape, dtype)
        )
        program = lowered.compile()
    self._programs[key] = program  # The one last used stands last.
    if len(self._programs) > MAX_PROGRAMS:
      del self._programs[next(iter(self._programs))]
    return program


def _restore(module: nn.Module, variables: Any, pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (pixels of the same type, whether they were finite)."""
  image = module.apply(variables, programs_lib.to_unit_range(pixels)[None], train=False)[0]
  return programs_lib.from_unit_range(image, pixels.dtype), jnp.isfinite(image).all()
