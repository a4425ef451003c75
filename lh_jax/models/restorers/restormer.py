"""Restormer: a U-net of transformer blocks whose attention is among channels.

Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration" (CVPR 2022, arXiv:2111.09881).
Contract: images or normalised latents (B, h, w, channels) float32 in and out, any h and w; the input is added to the
output, as published. Where we differ: the last convolution starts at zero, so that the restorer starts as the identity.
The attention compares channels over the whole image, so tiles are not exact.

Norms, attention and the residual around the network are float32; the rest runs in `dtype`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lh_jax.models.layers import depth_to_space
from lh_jax.models.pointwise import Pointwise
from lh_jax.models.restorers import borders
from lh_jax.models.transposed_attention import TransformerBlock


def pixel_unshuffle(x: jax.Array) -> jax.Array:
  """Moves each 2x2 patch into channels, ordered (channel, row, column).

  The order of PyTorch, which `layers.space_to_depth` has not: heads are groups of neighbouring channels, so that
  published weights fit this one only.

  Args:
    x: (B, h, w, C), h and w even.

  Returns:
    (B, h / 2, w / 2, 4 C).
  """
  b, h, w, c = x.shape
  return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 2, 4 * c)


class Restormer(nn.Module):
  """Restorer z -> z + net(z); net is a U-net of `TransformerBlock`s. The defaults are the latent preset.

  Attributes:
    channels: of the latent or image, in and out.
    width: channels of the finest level; each halving of the resolution doubles them. On the way up the finest level
      keeps its two inputs side by side and runs at twice the width.
    blocks: blocks per level, finest first, on the way down and again on the way up; the coarsest level has them once.
    heads: heads of attention per level, finest first.
    refinement: further blocks at the end.
    expansion: of the feed-forward networks.
    use_bias: of the convolutions, but for the first one and those between levels.
    norm: 'layer' or 'bias_free', see `transposed_attention.make_norm`.
    padding: see `borders.pad_to_multiple`.
    dtype: of the activations; bfloat16 for GPUs and TPUs.
  """

  channels: int = 32
  width: int = 32
  blocks: Sequence[int] = (2, 6)
  heads: Sequence[int] = (1, 2)
  refinement: int = 1
  expansion: float = 2.66
  use_bias: bool = False
  norm: str = 'layer'
  padding: str = 'edge'
  dtype: Any = jnp.float32

  @property
  def multiple(self) -> int:
    """Sides that are a multiple of it are not padded."""
    return 2 ** (len(self.blocks) - 1)

  @nn.compact
  def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
    """Restores latents or images.

    Args:
      z: (B, h, w, channels) of any height and width.
      train: changes nothing, this network keeps no statistics.

    Returns:
      (B, h, w, channels) float32.

    Raises:
      ValueError: fields that do not fit each other, or an input of another channel count.
    """
    del train
    self._check(z)
    conv = functools.partial(nn.Conv, kernel_size=(3, 3), use_bias=False, dtype=self.dtype)
    coarsest = len(self.blocks) - 1
    h, w = z.shape[1:3]
    x = borders.pad_to_multiple(z, self.multiple, self.padding)

    x = conv(self.width, name='conv_in')(x)
    skips = []
    for i in range(coarsest):
      x = self._level(x, i, f'encoder{i}')
      skips.append(x)
      x = pixel_unshuffle(conv(x.shape[-1] // 2, name=f'down{i}')(x))
    x = self._level(x, coarsest, 'middle')
    for i in reversed(range(coarsest)):
      x = depth_to_space(conv(2 * x.shape[-1], name=f'up{i}')(x), 2)
      x = jnp.concatenate([x, skips.pop()], axis=-1)
      if i > 0:
        x = Pointwise(x.shape[-1] // 2, use_bias=self.use_bias, dtype=self.dtype, name=f'reduce{i}')(x)
      x = self._level(x, i, f'decoder{i}')
    x = self._transformer(x, self.refinement, self.heads[0], 'refinement')
    zeros = nn.initializers.zeros
    x = conv(self.channels, use_bias=self.use_bias, kernel_init=zeros, name='conv_out')(x)

    return z.astype(jnp.float32) + x[:, :h, :w].astype(jnp.float32)

  def _level(self, x: jax.Array, index: int, name: str) -> jax.Array:
    return self._transformer(x, self.blocks[index], self.heads[index], name)

  def _transformer(self, x: jax.Array, count: int, heads: int, name: str) -> jax.Array:
    for j in range(count):
      x = TransformerBlock(heads, self.expansion, self.use_bias, self.norm, self.dtype, name=f'{name}_block{j}')(x)
    return x

  def _check(self, z: jax.Array) -> None:
    if len(self.blocks) != len(self.heads):
      raise ValueError(
        f'Restormer got blocks={tuple(self.blocks)} and heads={tuple(self.heads)}; both need one entry per level '
        '(change restorer.blocks or restorer.heads)'
      )
    if self.width % 2 or any(self.width * 2**i % n for i, n in enumerate(self.heads)):
      raise ValueError(
        f'Restormer got width={self.width} for heads={tuple(self.heads)}; the width must be even, and each level has '
        'twice the channels of the one before, which its heads must divide (change restorer.width or restorer.heads)'
      )
    borders.check_channels('Restormer', z, self.channels)
