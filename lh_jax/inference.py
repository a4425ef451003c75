"""Restorer: parameters and an image in, a restored image out.

Three ways to run, one result: the whole image at once; in tiles, because encoder and decoder are local (`models.vae`)
and only the restorer sees the whole latent, which is small; and, either way, with the rows of every window split over
several devices. The image and its result stay on the host, in their own type; devices hold windows and latents.
"""

from __future__ import annotations

import logging
import pathlib
from typing import Any, Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax import exports
from lh_jax import networks as networks_lib
from lh_jax import planning
from lh_jax import programs as programs_lib
from lh_jax import storage
from lh_jax import windows as windows_lib
from lh_jax.models import lora
from lh_jax.windows import Restored

log = logging.getLogger('lh_jax')

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}
DEFAULT_ALPHA = 0.5  # as in the paper's main tables
ERROR_SIDE = 512  # pixels of the part on which the error of inexact tiles is measured


def activation_dtype(name: str) -> Any:
  """Returns the dtype that 'auto', 'float32' or 'bfloat16' names; 'auto' is float32 on CPU (bfloat16 is slower there)
  and bfloat16 elsewhere.

  Raises:
    ValueError: unknown name.
  """
  if name == 'auto':
    return jnp.float32 if jax.default_backend() == 'cpu' else jnp.bfloat16
  if name not in DTYPES:
    raise ValueError(f'Unknown dtype {name!r}; known: auto, {", ".join(DTYPES)}.')
  return DTYPES[name]


class Restorer:
  """A restoration model, ready to use.

  restorer = Restorer.from_pretrained('runs/quickstart')
  restored = restorer.restore(image, alpha=0.5)

  Attributes:
    programs: its compiled pieces (`programs.Programs`), for benchmarks and exports.
  """

  def __init__(self, networks: networks_lib.Networks, params: Any, *, devices: int = 1):
    """Wraps networks and a whole model's parameters (see `networks.PARTS`); `devices` as in `from_pretrained`."""
    self.programs = programs_lib.Programs(networks, params, devices=devices)
    # Compiles nothing until a window needs it.
    exact = networks.with_dtype(jnp.float32)
    self._float32_programs = programs_lib.Programs(exact, self.programs.params, devices=devices)
    # Where the encoder's branch does nothing, every alpha shares encoder and restorer.
    self._same_latent = lora.is_zero(jax.device_get(params['encoder_lora']))

  @classmethod
  def from_pretrained(
    cls, path_or_name: str | pathlib.Path | None = None, *, dtype: str = 'auto', devices: int = 1
  ) -> Restorer:
    """Loads a trained model.

    Args:
      path_or_name: a work directory of a finished run, or its export folder, also in a bucket (gs://...); None takes the
        weights that this version bundles (lh_jax/weights).
      dtype: of the activations: 'auto', 'float32' or 'bfloat16'.
      devices: how many devices of this process share the rows of an image.

    Raises:
      FileNotFoundError: there is no export.
      ValueError: a damaged export, one without a restorer, or more devices than there are.
    """
    if path_or_name is None and not (exports.BUNDLED / 'params.safetensors').is_file():
      raise FileNotFoundError(
        f'The bundled weights are missing from {exports.BUNDLED}: install lh_jax again, or name a work directory of a '
        'finished training run, or its export folder.'
      )
    export = exports.load(exports.BUNDLED if path_or_name is None else storage.path(path_or_name))
    if export.stage == 'stage1':
      raise ValueError(f'{path_or_name} has finished stage 1 only: it holds a VAE, no restorer. Train stage 2 first.')
    return cls(networks_lib.build(export.sections, dtype=activation_dtype(dtype)), export.params, devices=devices)

  def restore(self, image: np.ndarray, **options: Any) -> np.ndarray:
    """Restores an image; arguments and errors as `run`. Returns it with the same shape and dtype."""
    return self.run(image, **options).image

  def run(self, image: np.ndarray, *, alpha: float = DEFAULT_ALPHA, **options: Any) -> Restored:
    """Restores an image and says how.

    Args:
      image: (H, W, 3) RGB, any size; uint8, uint16, or float32 in [0, 1].
      alpha: in [0, 1]: 1 is most faithful (highest PSNR), 0 most perceptual (lowest LPIPS; Sec. 3.3).
      tile: 'full', the whole image at once; a number, the pixels on a side that a window yields (the halo that it needs
        beside them is added; rounded up to the VAE's factor); or 'auto', the windows with the least computation that
        fit into memory.
      max_memory: bytes that 'auto' may use, besides the image and its result; None is what the device has free. Only
        with 'auto'.
      progress: called with the share of the work that is done, 0 to 1, after every window.

    Raises:
      ValueError: not such an image, alpha outside [0, 1], or unknown tile.
      FloatingPointError: the result is not finite, in float32 either.
      MemoryError: the smallest tile, or the latent of the whole image, does not fit.
    """
    return next(self.sweep(image, [alpha], **options))

  def sweep(
    self,
    image: np.ndarray,
    alphas: Sequence[float],
    *,
    tile: str | int = 'auto',
    max_memory: int | None = None,
    progress: Callable[[float], None] | None = None,
  ) -> Iterator[Restored]:
    """Yields the image restored at each of several alphas; arguments and errors as `run`.

    Nothing is compiled twice, and everything that does not depend on alpha is done once: where the model has no encoder
    branch (its FHF-LoRA is zero) that is all but the decoder.
    """
    alphas = list(alphas)
    for alpha in alphas:
      windows_lib.check_alpha(alpha)
    run = self._start(image, tile, max_memory)
    latent = None
    for alpha in alphas:
      new = latent is None or not self._same_latent
      run.watch(progress, ('encode', 'restore', 'decode') if new else ('decode',))
      if new:
        latent = run.restore(run.encode(alpha))
      yield run.result(run.decode(latent, 1.0 - alpha))

  def reconstruct(self, image: np.ndarray, *, tile: str | int = 'auto', max_memory: int | None = None) -> np.ndarray:
    """Returns VAE(image), the best that any restoration through this latent can be; arguments and errors as `run`."""
    run = self._start(image, tile, max_memory)
    return run.decode(run.encode(0.0), 0.0)

  def _start(self, image: np.ndarray, tile: str | int, max_memory: int | None) -> windows_lib.Run:
    windows_lib.check_image(image)
    cells = self.programs.geometry.cells(image.shape)
    window = planning.choose_window(self.programs, cells, image.dtype, tile=tile, max_memory=max_memory)
    local = self.programs.networks.vae.preset.local
    smaller = None if local or tile != 'auto' else _refuse_to_cut
    run = windows_lib.Run(image, self.programs, self._in_float32, window=window, smaller=smaller)
    if window != cells and not local:
      run.note(
        f'this VAE takes in the whole image ({self.programs.networks.vae.preset.global_parts}), so tiles change it: by '
        f'{self.tiling_error(image, tile):.1e}, of a range of 1, on the middle of this image'
      )
    return run

  def _in_float32(self) -> programs_lib.Programs:
    return self._float32_programs

  def tiling_error(self, image: np.ndarray, tile: int) -> float:
    """Returns the largest difference, for pixels in [0, 1], that tiles make on the middle of an image.

    Zero, up to float32 rounding, for a local VAE (`Preset.local`).

    Args:
      image: as for `run`.
      tile: pixels; at most half of the part that is tried.
    """
    rows, columns = (
      slice(max(side - ERROR_SIDE, 0) // 2, max(side - ERROR_SIDE, 0) // 2 + ERROR_SIDE) for side in image.shape[:2]
    )
    part = np.asarray(programs_lib.to_unit_range(jnp.asarray(image[rows, columns])))
    programs = self.programs
    cells = programs.geometry.cells(part.shape)
    results = []
    for size in ('full', max(1, min(tile, max(part.shape[:2]) // 2))):
      window = planning.choose_window(programs, cells, part.dtype, tile=size, max_memory=None)
      run = windows_lib.Run(part, programs, self._in_float32, window=window)
      results.append(run.decode(run.restore(run.encode(DEFAULT_ALPHA)), 1.0 - DEFAULT_ALPHA))
    return float(np.abs(results[0] - results[1]).max())


def _refuse_to_cut(window: tuple[int, int]) -> tuple[int, int]:
  raise MemoryError(
    'The image does not fit into memory, and tiles would change the result of this VAE: name a --tile to accept it.'
  )
