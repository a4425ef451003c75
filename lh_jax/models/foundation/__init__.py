"""Frozen vision foundation models: f = VFM(I_clean), the target of the invariance loss L_Inv (Eq. 4).

`build(name)` gives a FoundationModel, whose `features` maps (B, H, W, 3) float32 RGB images in [0, 1] to a map of
tokens (B, h, w, C_f) float32, preprocessing included: DINOv2, MAE, CLIP, SigLIP (`vit`), SAM (`sam`) and VGG16 (`vgg`).
The default input size keeps one token per 16 pixels of the image for all transformers, whatever their patch (256 -> 224
-> 16 x 16 tokens where it is 14), so that the grid is an integer fraction of the VAE's latent grid, and one feature per
8 pixels for VGG16.

Weights are converted once by `python -m lh_jax.convert` and read by `weight_files.load_foundation`; this module opens
no file. The models whose names begin with `tiny_` are for tests and run on random weights.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.models.foundation import table
from lh_jax.ops import resize

FOUNDATIONS = table.FOUNDATIONS


@dataclasses.dataclass(frozen=True)
class FoundationModel:
  """A frozen feature extractor; parameters are passed in, never held.

  Attributes:
    name: key of FOUNDATIONS.
    module: the network, from normalised images of the input size to the token map.
    pixels_per_token: image pixels per token, along one side, when `input_size` is None.
    mean: of the images that the network was trained with, RGB in [0, 1].
    deviation: their standard deviation.
    input_size: (height, width) that images are resized to, or None for `pixels_per_token`.
  """

  name: str
  module: nn.Module
  pixels_per_token: int
  mean: table.Colour
  deviation: table.Colour
  input_size: tuple[int, int] | None = None

  @property
  def channels(self) -> int:
    """C_f, the channels of the token map."""
    return self.module.channels

  @property
  def image_size_multiple(self) -> int:
    """What the sides of the images must be multiples of."""
    return 1 if self.input_size else self.pixels_per_token

  @property
  def needs_weights(self) -> bool:
    """Whether the model is meaningless without a weight file (everything but the tiny test models)."""
    return not self.name.startswith('tiny_')

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Random parameters, for tests and for shapes.

    Args:
      key: random key.

    Returns:
      Parameters as nested dicts of arrays.
    """
    side = 2 * self.module.stride
    # One compiled program instead of an eager forward pass, whose result is not needed.
    return jax.jit(self.module.init)(key, jnp.zeros((1, side, side, 3)))['params']

  def abstract_params(self) -> dict[str, Any]:
    """Shapes and dtypes of the parameters, without making any.

    Returns:
      Nested dicts of `jax.ShapeDtypeStruct`.
    """
    return jax.eval_shape(self.init, jax.random.key(0))

  def token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
    """Token grid of an image.

    Args:
      size: (H, W) of the image.

    Returns:
      (h, w) of the token map.

    Raises:
      ValueError: the sides are no positive multiples of `image_size_multiple`.
    """
    if self.input_size:
      return self.input_size[0] // self.module.stride, self.input_size[1] // self.module.stride
    multiple = self.pixels_per_token
    if any(side < 1 or side % multiple for side in size):
      raise ValueError(
        f'foundation model {self.name!r} needs images whose sides are multiples of {multiple}, got '
        f'{size[0]}x{size[1]}; change stage1.crop_size, or give it an input_size.'
      )
    return size[0] // multiple, size[1] // multiple

  def features(self, params: dict[str, Any], images: jax.Array) -> jax.Array:
    """Token map of a batch of images, preprocessing included.

    Args:
      params: parameters, as from `weight_files.load_foundation`.
      images: (B, H, W, 3) float32 RGB in [0, 1].

    Returns:
      (B, h, w, C_f) float32 with (h, w) = token_grid((H, W)).

    Raises:
      ValueError: the images are not (B, H, W, 3), or of a size that does not fit.
    """
    return self.module.apply({'params': params}, self._prepared(images))

  def taps(self, params: dict[str, Any], images: jax.Array) -> list[jax.Array]:
    """Maps of several depths, for a perceptual loss; arguments and errors as of `features`.

    Returns:
      Maps (B, h, w, C) float32, finest first: of VGG, the last of every stage; of other models, the token map alone.
    """
    tokens, state = self.module.apply({'params': params}, self._prepared(images), mutable=['intermediates'])
    return jax.tree.leaves(state.get('intermediates', {})) or [tokens]

  def _prepared(self, images: jax.Array) -> jax.Array:
    if images.ndim != 4 or images.shape[-1] != 3:
      raise ValueError(f'foundation model {self.name!r} needs images (B, H, W, 3), got shape {images.shape}.')
    rows, columns = self.token_grid(images.shape[1:3])
    size = (rows * self.module.stride, columns * self.module.stride)
    images = images.astype(jnp.float32)
    if size != images.shape[1:3]:
      images = resize.resize_bilinear(images, size)
    mean, deviation = (np.array(values, np.float32).reshape(1, 1, 1, 3) for values in (self.mean, self.deviation))
    return (images - mean) / deviation


def build(name: str, *, input_size: int | tuple[int, int] | None = None) -> FoundationModel:
  """Makes a foundation model by name.

  Args:
    name: key of FOUNDATIONS: 'dinov2_vit{s,b,l,g}14', the same with '_reg4', 'mae_vit{b16,l16,h14}',
      'clip_vit{b16,b32,l14}', 'siglip_{vitb16,vitl16,so400m14}', 'sam_vit{b,l,h}16', 'vgg16', or a tiny test model.
    input_size: side, or (height, width), that images are resized to before the network; multiples of the patch size
      (VGG16: 8). None keeps one token per 16 (VGG16: 8) image pixels along each side.

  Returns:
    The model, without parameters.

  Raises:
    ValueError: unknown name, or an input size that is no multiple of the patch size.
  """
  if name not in FOUNDATIONS:
    raise ValueError(f'unknown foundation model {name!r}; foundation.name must be one of {", ".join(FOUNDATIONS)}.')
  entry = FOUNDATIONS[name]
  if input_size is not None:
    input_size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(input_size) != 2 or any(side < 1 or side % entry.module.stride for side in input_size):
      raise ValueError(
        f'input_size must be None or positive multiples of {entry.module.stride} for {name!r}, got {input_size}.'
      )
  return FoundationModel(name=name, input_size=input_size, **entry._asdict())
