"""NAFNet: a U-net of blocks without activation functions, whose only non-linearity is a product of features.

Chen et al., "Simple Baselines for Image Restoration" (ECCV 2022, arXiv:2204.04676). Contract: images or normalised
latents (B, h, w, channels) float32 in and out, any h and w; the input is added to the output, as published. Where we
differ: the last convolution starts at zero, so that the restorer starts as the identity, and it may give factors beside
the terms (`gains`). The channel attention takes means over the whole image, so tiles are not exact.

Norms, means and the residual around the network are float32; the rest runs in `dtype`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lh_jax.models.layers import DepthwiseConv, LayerNorm2d, depth_to_space
from lh_jax.models.pointwise import Pointwise, ScaledPointwise
from lh_jax.models.restorers import borders


def simple_gate(x: jax.Array) -> jax.Array:
  """The product of the two halves of the channels."""
  first, second = jnp.split(x, 2, axis=-1)
  return first * second


class NAFBlock(nn.Module):
  """y = x + beta Mixer(N(x)); y + gamma FeedForward(N(y)); beta and gamma start at zero (Sec. 4).

  Attributes:
    dtype: of the activations.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C) in `dtype`."""
    c = x.shape[-1]
    conv1 = functools.partial(Pointwise, dtype=self.dtype)
    x = x.astype(self.dtype)

    y = conv1(2 * c, name='expand')(LayerNorm2d(dtype=self.dtype, name='norm1')(x))
    y = simple_gate(DepthwiseConv(3, dtype=self.dtype, name='depthwise')(y))
    mean = jnp.mean(y.astype(jnp.float32), axis=(1, 2), keepdims=True).astype(self.dtype)
    y = y * conv1(c, name='attention')(mean)
    x = x + ScaledPointwise(c, dtype=self.dtype, name='project')(y, self._scale('beta', c))

    y = conv1(2 * c, name='feed_expand')(LayerNorm2d(dtype=self.dtype, name='norm2')(x))
    return x + ScaledPointwise(c, dtype=self.dtype, name='feed_project')(simple_gate(y), self._scale('gamma', c))

  def _scale(self, name: str, channels: int) -> jax.Array:
    return self.param(name, nn.initializers.zeros, (channels,), jnp.float32)


class NAFNet(nn.Module):
  """Restorer z -> z + net(z); net is a U-net of NAF blocks. The defaults are the latent preset.

  With `gains`, z -> z + g z + b with (g, b) = net(z): a spatial feature transform (Wang et al., "SFT", CVPR 2018) of the
  input by itself. The products within a block are of features whose magnitude its norm took away; to undo what darkens or
  veils a picture, that is multiplies and shifts it, takes a product with the magnitude.

  Attributes:
    channels: of the latent or image, in and out.
    width: channels of the first stage; each halving of the resolution doubles them.
    blocks: blocks per stage, down to the middle one and up again; their number is odd.
    padding: see `borders.pad_to_multiple`.
    gains: whether the network gives factors g beside the terms b; published networks have none.
    dtype: of the activations; bfloat16 for GPUs and TPUs.
  """

  channels: int = 32
  width: int = 48
  blocks: Sequence[int] = (1, 8, 1)
  padding: str = 'edge'
  gains: bool = False
  dtype: Any = jnp.float32

  @property
  def multiple(self) -> int:
    """Sides that are a multiple of it are not padded."""
    return 2 ** (len(self.blocks) // 2)

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
    if len(self.blocks) % 2 == 0:
      raise ValueError(f'NAFNet got blocks={tuple(self.blocks)}; an odd number of stages is needed (restorer.blocks)')
    borders.check_channels('NAFNet', z, self.channels)
    conv = functools.partial(nn.Conv, dtype=self.dtype)
    depth = len(self.blocks) // 2
    h, w = z.shape[1:3]
    x = borders.pad_to_multiple(z, self.multiple, self.padding)

    x = conv(self.width, (3, 3), name='conv_in')(x)
    skips = []
    for i in range(depth):
      x = self._stage(x, f'encoder{i}', self.blocks[i])
      skips.append(x)
      x = conv(2 * x.shape[-1], (2, 2), strides=(2, 2), name=f'down{i}')(x)
    x = self._stage(x, 'middle', self.blocks[depth])
    for i in range(depth):
      x = depth_to_space(Pointwise(2 * x.shape[-1], use_bias=False, dtype=self.dtype, name=f'up{i}')(x), 2)
      x = self._stage(x + skips.pop(), f'decoder{i}', self.blocks[depth + 1 + i])
    outputs = 2 * self.channels if self.gains else self.channels
    x = conv(outputs, (3, 3), kernel_init=nn.initializers.zeros, name='conv_out')(x)

    z, x = z.astype(jnp.float32), x[:, :h, :w].astype(jnp.float32)
    if not self.gains:
      return z + x
    gain, term = jnp.split(x, 2, axis=-1)
    return z + gain * z + term

  def _stage(self, x: jax.Array, name: str, count: int) -> jax.Array:
    for j in range(count):
      x = NAFBlock(self.dtype, name=f'{name}_block{j}')(x)
    return x
