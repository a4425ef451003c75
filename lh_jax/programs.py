"""The compiled pieces of a restoration: encode a window, restore the whole latent, decode a window.

Contract: pixels are (1, H, W, 3) RGB, uint8, uint16 or float32 in [0, 1], H and W multiples of the VAE's factor; they
are converted on the device, so that the host moves and keeps images in their own type. Latents are (1, H/f, W/f, C_z)
float32, normalised. Every piece also says whether its result is finite. `scale` is the strength of the LoRA branch and
is traced: one program serves every alpha.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax import networks as networks_lib
from lh_jax import parallel
from lh_jax import windows
from lh_jax.models import vae as vae_lib
from lh_jax.ops import tiles

log = logging.getLogger('lh_jax')

STAGES = ('encode', 'restore', 'decode')
# A folder of photographs of many sizes needs a program of the restorer for each; the disk keeps those dropped here.
MAX_PROGRAMS = 32


def to_unit_range(pixels: jax.Array) -> jax.Array:
  """Returns pixels of any of the three types as float32 in [0, 1]."""
  if jnp.issubdtype(pixels.dtype, jnp.integer):
    return pixels.astype(jnp.float32) / jnp.iinfo(pixels.dtype).max
  return pixels


def from_unit_range(image: jax.Array, dtype: Any) -> jax.Array:
  """Clips a float image to [0, 1] and converts it to `dtype`, rounding to the nearest level (half up)."""
  image = jnp.clip(image, 0.0, 1.0)
  if jnp.issubdtype(dtype, jnp.integer):
    return jnp.floor(image * jnp.iinfo(dtype).max + 0.5).astype(dtype)
  return image.astype(dtype)


def encode(
  networks: networks_lib.Networks, params: Any, scale: jax.Array, pixels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns (latent, whether it is finite) of a window, by the encoder phi* + scale dphi."""
  encoder = networks.adapt(params['vae']['encoder'], params['encoder_lora'], scale)
  latent = networks.encode(encoder, params['latent'], to_unit_range(pixels))
  return latent, jnp.isfinite(latent).all()


def restore(networks: networks_lib.Networks, params: Any, latent: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (restored latent, whether it is finite) of a whole image's latent."""
  latent = networks.restore_latent(params['restorer'], params['restorer_stats'], latent)
  return latent, jnp.isfinite(latent).all()


def decode(
  networks: networks_lib.Networks, params: Any, scale: jax.Array, latent: jax.Array, *, dtype: Any
) -> tuple[jax.Array, jax.Array]:
  """Returns (pixels of type `dtype`, whether they were finite) of a window, by the decoder psi* + scale dpsi."""
  decoder = networks.adapt(params['vae']['decoder'], params['decoder_lora'], scale)
  image = networks.decode(decoder, params['latent'], latent)
  return from_unit_range(image, dtype), jnp.isfinite(image).all()


class Programs:
  """Compiles the pieces of one model for windows as they are asked for, and keeps the `MAX_PROGRAMS` last used."""

  def __init__(self, networks: networks_lib.Networks, params: Any, *, devices: int = 1):
    """Places the parameters.

    Args:
      networks: the model; its dtype is that of the activations.
      params: a whole model (see `networks.PARTS`), on the host.
      devices: each window's rows are split over so many devices (mesh axis 'space').

    Raises:
      ValueError: there are not so many devices.
    """
    self.networks = networks
    self.geometry = geometry_of(networks.vae.preset)
    self.exact = networks.vae.dtype == jnp.float32
    self.mesh = parallel.make_space_mesh(devices)
    self.params = jax.device_put(params, parallel.replicated(self.mesh))
    self._programs: dict[tuple, windows.Program] = {}
    self._lock = threading.Lock()
    self._seconds = 0.0

  @property
  def device(self) -> jax.Device:
    """The first of the devices."""
    return self.mesh.devices.flat[0]

  def get(self, stage: str, rows: int, columns: int, dtype: Any = np.float32) -> windows.Program:
    """Returns the program of a stage for windows of rows x columns cells, compiling it where it is new.

    Args:
      stage: one of `STAGES`.
      rows: cells of a window, of the whole latent in the stage 'restore'.
      columns: likewise.
      dtype: of the pixels.
    """
    key = (stage, rows, columns, np.dtype(dtype).name if stage != 'restore' else None)
    with self._lock:
      program = self._programs.pop(key, None) or self._compile(stage, rows, columns, dtype)
      self._programs[key] = program  # The one last used stands last.
      if len(self._programs) > MAX_PROGRAMS:
        del self._programs[next(iter(self._programs))]
      return program

  @property
  def compiled(self) -> list[tuple]:
    """(stage, rows, columns, dtype) of every program there is, the one last used last."""
    return list(self._programs)

  @property
  def compile_seconds(self) -> float:
    """Seconds that compiling them took."""
    return self._seconds

  def _compile(self, stage: str, rows: int, columns: int, dtype: Any) -> windows.Program:
    if not self._programs:
      log.info('Compiling, or loading what an earlier run compiled ...')
    fn, arguments = piece(self.networks, stage, rows, columns, dtype)
    started = time.perf_counter()
    # Float32 is float32: by default, GPUs round the operands of its convolutions to 10 bits, TPUs to 7.
    with jax.default_matmul_precision('highest' if self.exact and self.device.platform != 'cpu' else None):
      compiled = parallel.compile_over_space(fn, self.mesh, abstract(self.params), arguments)
    seconds = time.perf_counter() - started
    self._seconds += seconds
    log.debug('Compiled %s of %dx%d cells in %.1f s.', stage, columns, rows, seconds)
    return windows.Program(compiled, program_bytes(compiled))


def geometry_of(preset: vae_lib.Preset) -> tiles.Geometry:
  """Returns what tiling needs to know of a VAE."""
  return tiles.Geometry(preset.factor, preset.latent_channels, preset.encoder_halo, preset.decoder_halo)


def piece(networks: networks_lib.Networks, stage: str, rows: int, columns: int, dtype: Any) -> tuple[Any, list]:
  """Returns a stage's function of (params, *arguments), and the shapes of these arguments.

  Raises:
    ValueError: unknown stage.
  """
  preset = networks.vae.preset
  scale = jax.ShapeDtypeStruct((), jnp.float32)
  latent = jax.ShapeDtypeStruct((1, rows, columns, preset.latent_channels), jnp.float32)
  if stage == 'encode':
    pixels = jax.ShapeDtypeStruct((1, rows * preset.factor, columns * preset.factor, 3), dtype)
    return functools.partial(encode, networks), [scale, pixels]
  if stage == 'restore':
    return functools.partial(restore, networks), [latent]
  if stage == 'decode':
    return functools.partial(decode, networks, dtype=dtype), [scale, latent]
  raise ValueError(f'Unknown stage {stage!r}; known: {", ".join(STAGES)}.')


def abstract(tree: Any) -> Any:
  """Returns the shapes and types of a tree of arrays."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def program_bytes(compiled: Any) -> int:
  """Returns the bytes of a compiled program on one device: arguments, results and temporaries."""
  found = compiled.memory_analysis()
  return (
    found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes - found.alias_size_in_bytes
  )
