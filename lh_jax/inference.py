"""Restorer: parameters and an image in, a restored image out.

The image is restored whole. Encoder and decoder are local (see `models.vae`), only the restorer sees the whole latent,
so the three steps of `Networks.restore` can be tiled without changing the result.
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax import exports
from lh_jax import networks as networks_lib

TILES = ('auto', 'full')
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


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
  """

  def __init__(self, networks: networks_lib.Networks, params: Any):
    """Wraps networks and a whole model's parameters (see `networks.PARTS`)."""
    self._networks = networks
    self._params = jax.device_put(params)
    self._restore = jax.jit(networks.restore)
    self._reconstruct = jax.jit(networks.reconstruct)

  @classmethod
  def from_pretrained(cls, path_or_name: str | pathlib.Path | None = None, *, dtype: str = 'auto') -> Restorer:
    """Loads a trained model.

    Args:
      path_or_name: a work directory of a finished run, or its export folder.
      dtype: of the activations: 'auto', 'float32' or 'bfloat16'.

    Raises:
      FileNotFoundError: there is no export.
      ValueError: nothing named (no weights are bundled with this version), a damaged export, or one without a restorer.
    """
    if path_or_name is None:
      raise ValueError(
        'This version bundles no weights: name a work directory of a finished training run, or its export folder.'
      )
    export = exports.load(pathlib.Path(path_or_name))
    if export.stage == 'stage1':
      raise ValueError(f'{path_or_name} has finished stage 1 only: it holds a VAE, no restorer. Train stage 2 first.')
    return cls(networks_lib.build(export.sections, dtype=activation_dtype(dtype)), export.params)

  def restore(self, image: np.ndarray, *, alpha: float = 0.5, tile: str = 'auto') -> np.ndarray:
    """Restores an image.

    Args:
      image: (H, W, 3) RGB, any size; uint8, uint16, or float32 in [0, 1].
      alpha: in [0, 1]: 1 is most faithful (highest PSNR), 0 most perceptual (lowest LPIPS; Sec. 3.3).
      tile: 'auto' or 'full': the whole image at once.

    Returns:
      The restored image, of the same shape and dtype.

    Raises:
      ValueError: not such an image, alpha outside [0, 1], or unknown tile.
      FloatingPointError: the result is not finite.
    """
    if not 0.0 <= alpha <= 1.0:
      raise ValueError(f'alpha must lie in [0, 1], got {alpha}.')
    if tile not in TILES:
      raise ValueError(f'Unknown tile {tile!r}; known: {", ".join(TILES)}.')
    return self._run(functools.partial(self._restore, alpha=jnp.float32(alpha)), image)

  def reconstruct(self, image: np.ndarray) -> np.ndarray:
    """Returns VAE(image), the best that any restoration through this latent can be.

    Arguments and result as in `restore`.
    """
    return self._run(self._reconstruct, image)

  def _run(self, fn: Any, image: np.ndarray) -> np.ndarray:
    pixels = to_unit_range(image)
    height, width = pixels.shape[:2]
    multiple = self._networks.vae.preset.factor
    # Symmetric padding, unlike reflection, works for any size down to one pixel.
    margins = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    padded = np.pad(pixels, margins, mode='symmetric')
    output = np.asarray(fn(self._params, images=padded[None]))[0, :height, :width]
    if not np.isfinite(output).all():
      raise FloatingPointError(
        'The model gave non-finite pixels: its weights are damaged, or --dtype float32 is needed.'
      )
    return from_unit_range(output, image.dtype)


def to_unit_range(image: np.ndarray) -> np.ndarray:
  """Returns an image as float32 in [0, 1].

  Raises:
    ValueError: it is not (H, W, 3), or neither uint8, uint16 nor float32 in [0, 1].
  """
  if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
    raise ValueError(f'An image must have shape (H, W, 3), got {image.shape}.')
  if image.dtype in (np.uint8, np.uint16):
    return image.astype(np.float32) / np.iinfo(image.dtype).max
  if image.dtype != np.float32:
    raise ValueError(f'An image must be uint8, uint16 or float32, got {image.dtype}.')
  if not (image.min() >= 0.0 and image.max() <= 1.0):
    raise ValueError(f'A float32 image must lie in [0, 1], got values from {image.min()} to {image.max()}.')
  return image


def from_unit_range(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
  """Clips a float image to [0, 1] and converts it to `dtype`, rounding to the nearest level."""
  image = np.clip(image, 0.0, 1.0)
  if np.issubdtype(dtype, np.integer):
    return np.floor(image * np.iinfo(dtype).max + 0.5).astype(dtype)
  return image.astype(dtype)
