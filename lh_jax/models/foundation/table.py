"""The foundation models by name: network, preprocessing, token rule.

Sizes are those of the papers' tables and of the published checkpoints; tests compare the numbers of parameters.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from flax import linen as nn

from lh_jax.models.foundation import sam
from lh_jax.models.foundation import vgg
from lh_jax.models.foundation import vit

Colour = tuple[float, float, float]


class Entry(NamedTuple):
  """A foundation model.

  Attributes:
    module: the network, from normalised images to the token map.
    pixels_per_token: image pixels per token, along one side, when the input size is left to the rule.
    mean: of the images in [0, 1] that the network was trained with, RGB.
    deviation: their standard deviation.
  """

  module: nn.Module
  pixels_per_token: int
  mean: Colour
  deviation: Colour


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_SIGLIP = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Published for images in [0, 255].
_SAM = (tuple(x / 255 for x in (123.675, 116.28, 103.53)), tuple(x / 255 for x in (58.395, 57.12, 57.375)))

# size: (dim, depth, heads) of the published ViT-S, B, L, H, g and the shape-optimised So400m (arXiv 2305.13035).
_SIZES = {
  's': (384, 12, 6),
  'b': (768, 12, 12),
  'l': (1024, 24, 16),
  'h': (1280, 32, 16),
  'g': (1536, 40, 24),
  'so400m': (1152, 27, 16),
}
_SO400M_HIDDEN = 4304
# size: the blocks that attend to the whole map; every third, sixth and eighth.
_SAM_GLOBAL = {'b': (2, 5, 8, 11), 'l': (5, 11, 17, 23), 'h': (7, 15, 23, 31)}


def _dinov2(size: str, registers: int) -> Entry:
  dim, depth, heads = _SIZES[size]
  module = vit.VisionTransformer(dim=dim, depth=depth, heads=heads, swiglu=size == 'g', registers=registers)
  return Entry(module, 16, *_IMAGENET)


def _plain(
  statistics: tuple[Colour, Colour], dim: int, depth: int, heads: int, patch: int, grid: int, **options: Any
) -> Entry:
  """Without LayerScale, and with positions for one grid."""
  module = vit.VisionTransformer(
    dim=dim, depth=depth, heads=heads, patch=patch, grid=grid, layer_scale=False, position_offset=0.0, **options
  )
  return Entry(module, 16, *statistics)


_mae = functools.partial(_plain, _IMAGENET)
_clip = functools.partial(_plain, _CLIP, patch_bias=False, first_norm=True, activation='quick', epsilon=1e-5)
_siglip = functools.partial(_plain, _SIGLIP, class_token=False, activation='tanh')


def _sam(size: str) -> Entry:
  dim, depth, heads = _SIZES[size]
  return Entry(sam.SamEncoder(dim=dim, depth=depth, heads=heads, global_blocks=_SAM_GLOBAL[size]), 16, *_SAM)


FOUNDATIONS: dict[str, Entry] = {
  **{f'dinov2_vit{size}14': _dinov2(size, 0) for size in 'sblg'},
  **{f'dinov2_vit{size}14_reg4': _dinov2(size, 4) for size in 'sblg'},
  'mae_vitb16': _mae(*_SIZES['b'], patch=16, grid=14),
  'mae_vitl16': _mae(*_SIZES['l'], patch=16, grid=14),
  'mae_vith14': _mae(*_SIZES['h'], patch=14, grid=16),
  'clip_vitb16': _clip(*_SIZES['b'], patch=16, grid=14),
  'clip_vitb32': _clip(*_SIZES['b'], patch=32, grid=7),
  'clip_vitl14': _clip(*_SIZES['l'], patch=14, grid=16),
  'siglip_vitb16': _siglip(*_SIZES['b'], patch=16, grid=14),
  'siglip_vitl16': _siglip(*_SIZES['l'], patch=16, grid=16),
  'siglip_so400m14': _siglip(*_SIZES['so400m'], patch=14, grid=16, hidden=_SO400M_HIDDEN),
  **{f'sam_vit{size}16': _sam(size) for size in 'blh'},
  'vgg16': Entry(vgg.VGG(), 8, *_IMAGENET),
  'tiny_vit': Entry(vit.VisionTransformer(dim=32, depth=2, heads=2, grid=5), 16, *_IMAGENET),
  'tiny_mae': _mae(dim=16, depth=2, heads=2, patch=8, grid=5),
  'tiny_clip': _clip(dim=16, depth=2, heads=2, patch=8, grid=5),
  'tiny_siglip': _siglip(dim=16, depth=2, heads=2, patch=8, grid=5, hidden=40),
  'tiny_sam': Entry(
    sam.SamEncoder(dim=16, depth=2, heads=2, global_blocks=(1,), patch=8, grid=5, window=3, channels=8), 16, *_SAM
  ),
  'tiny_vgg': Entry(vgg.VGG(stages=((1, 8), (1, 8), (1, 16), (1, 32))), 8, *_IMAGENET),
}
