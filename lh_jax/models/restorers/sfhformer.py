"""SFHformer: a U-net whose blocks mix space by depthwise convolutions and by a learned filter on the Fourier plane.

The block is that of Jiang et al., "When Fast Fourier Transform Meets Transformer for Image Restoration" (ECCV 2024);
the paper restores latents with it by default (Sec. 4, Table 5c). Contract: images or normalised latents
(B, h, w, channels) float32 in and out, any h and w; the input is added to the output, as in the authors' code. Where we
differ: the last convolution starts at zero, so that the restorer starts as the identity. The Fourier unit and the
channel gates see the whole image, so tiles are not exact.

Transforms, norm statistics and the residual around the network are float32; the rest runs in `dtype`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lh_jax.models.layers import DepthwiseConv, depth_to_space
from lh_jax.models.pointwise import Pointwise, ScaledPointwise, gelu
from lh_jax.models.restorers import borders
from lh_jax.models.restorers.fourier import NORMS, FourierUnit, norm


class Mixer(nn.Module):
  """Mixes space: half of the features by dilated depthwise convolutions, half by a Fourier unit, then channel gates.

  Attributes: see `SFHformer`.
  """

  groups: int
  fourier_norm: str
  wide: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, scale: jax.Array, *, train: bool) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C), C even, times the scale (C,)."""
    c = x.shape[-1]
    conv1 = functools.partial(Pointwise, dtype=self.dtype)
    near, far = jnp.split(conv1(2 * c, name='expand')(x), 2, axis=-1)

    fine, coarse = jnp.split(near, 2, axis=-1)
    fine = DepthwiseConv(3, dtype=self.dtype, name='local1')(fine)
    coarse = DepthwiseConv(3, dilation=2, dtype=self.dtype, name='local2')(coarse)

    if self.wide:
      far = gelu(conv1(2 * c, name='global_in')(far))
    fourier = FourierUnit(self.groups, self.fourier_norm, self.dtype, gated=self.wide, name='fourier')
    far = far + fourier(far, train=train)
    if self.wide:
      far = gelu(conv1(c, name='global_out')(far))

    m = gelu(jnp.concatenate([fine, coarse, far], axis=-1))
    mean = jnp.mean(m.astype(jnp.float32), axis=(1, 2), keepdims=True).astype(self.dtype)
    m = m * nn.sigmoid(conv1(2 * c, name='gate_out')(nn.relu(conv1(c, name='gate_in')(mean))))
    return ScaledPointwise(c, dtype=self.dtype, name='project')(m, scale)


class FeedForward(nn.Module):
  """Mixes channels: four quarters of the expanded features see windows of 1, 3, 5 and 7 pixels."""

  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, scale: jax.Array) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C), C even, times the scale (C,)."""
    c = x.shape[-1]
    quarters = jnp.split(Pointwise(2 * c, dtype=self.dtype, name='expand')(x), 4, axis=-1)
    for i, size in ((1, 3), (2, 5), (3, 7)):
      quarters[i] = DepthwiseConv(size, dtype=self.dtype, name=f'window{size}')(quarters[i])
    features = gelu(jnp.concatenate(quarters, axis=-1))
    return ScaledPointwise(c, dtype=self.dtype, name='project')(features, scale)


class SFHBlock(nn.Module):
  """y = x + beta Mixer(N(x)); y + gamma FeedForward(N(y)); beta and gamma start at zero.

  Attributes: see `SFHformer`.
  """

  groups: int = 1
  norm: str = 'batch'
  fourier_norm: str | None = None
  wide: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (B, h, w, C) to (B, h, w, C) in `dtype`, C even."""
    c = x.shape[-1]
    normalise = functools.partial(norm, self.norm, train=train, dtype=self.dtype)
    beta, gamma = (self.param(name, nn.initializers.zeros, (c,), jnp.float32) for name in ('beta', 'gamma'))
    mixer = Mixer(self.groups, self.fourier_norm or self.norm, self.wide, self.dtype, name='mixer')
    x = x.astype(self.dtype)
    x = x + mixer(normalise(name='norm1')(x), beta, train=train)
    return x + FeedForward(self.dtype, name='feed_forward')(normalise(name='norm2')(x), gamma)


class SFHformer(nn.Module):
  """Restorer z -> z + net(z); net is a U-net of SFH blocks. The defaults are the latent preset.

  Attributes:
    channels: of the latent or image, in and out.
    dims: channels of the stages, down to the middle one and up again; their number is odd, each is even. Three dims
      make one halving of the resolution, a single one a flat network.
    blocks: blocks per stage.
    groups: filters that a Fourier unit chooses among; 1 for simple tasks, 4 for hard ones.
    norm: 'batch' (as published), 'layer' or 'none'.
    fourier_norm: the same in the Fourier unit; None is that of the rest.
    wide: the Fourier unit sees twice the channels, between two convolutions, as published; the authors' checkpoints for
      haze and motion blur have it on the channels themselves, with one group of filters.
    padding: see `borders.pad_to_multiple`.
    dtype: of the activations; bfloat16 for GPUs and TPUs.
  """

  channels: int = 32
  dims: Sequence[int] = (32, 64, 32)
  blocks: Sequence[int] = (2, 3, 2)
  groups: int = 1
  norm: str = 'batch'
  fourier_norm: str | None = None
  wide: bool = True
  padding: str = 'edge'
  dtype: Any = jnp.float32

  @property
  def multiple(self) -> int:
    """Sides that are a multiple of it are not padded."""
    return 2 ** (len(self.dims) // 2)

  @nn.compact
  def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
    """Restores latents or images.

    Args:
      z: (B, h, w, channels) of any height and width.
      train: batch norms use the batch's statistics and update the running ones ('batch_stats' must be mutable).

    Returns:
      (B, h, w, channels) float32.

    Raises:
      ValueError: fields that do not fit each other, or an input of another channel count.
    """
    self._check(z)
    conv = functools.partial(nn.Conv, dtype=self.dtype)
    depth = len(self.dims) // 2
    h, w = z.shape[1:3]
    x = borders.pad_to_multiple(z, self.multiple, self.padding)

    x = conv(self.dims[0], (3, 3), name='conv_in')(x)
    skips = []
    for i in range(depth):
      x = self._stage(x, i, train=train)
      skips.append(x)
      x = conv(self.dims[i + 1], (2, 2), strides=(2, 2), name=f'down{i}')(x)
    x = self._stage(x, depth, train=train)
    for i in range(depth + 1, len(self.dims)):
      x = depth_to_space(Pointwise(4 * self.dims[i], use_bias=False, dtype=self.dtype, name=f'up{i}')(x), 2)
      x = Pointwise(self.dims[i], dtype=self.dtype, name=f'skip{i}')(jnp.concatenate([x, skips.pop()], axis=-1))
      x = self._stage(x, i, train=train)
    x = conv(self.channels, (3, 3), kernel_init=nn.initializers.zeros, name='conv_out')(x)

    return z.astype(jnp.float32) + x[:, :h, :w].astype(jnp.float32)

  def _stage(self, x: jax.Array, index: int, *, train: bool) -> jax.Array:
    for j in range(self.blocks[index]):
      block = SFHBlock(self.groups, self.norm, self.fourier_norm, self.wide, self.dtype, name=f'stage{index}_block{j}')
      x = block(x, train=train)
    return x

  def _check(self, z: jax.Array) -> None:
    if len(self.dims) % 2 == 0 or len(self.dims) != len(self.blocks):
      raise ValueError(
        f'SFHformer got dims={tuple(self.dims)} and blocks={tuple(self.blocks)}; both need the same odd length '
        '(change restorer.dims or restorer.blocks)'
      )
    if any(dim % 2 for dim in self.dims):
      raise ValueError(f'SFHformer got dims={tuple(self.dims)}; each must be even (change restorer.dims)')
    if any(4 * dim % self.groups for dim in self.dims):
      raise ValueError(
        f'SFHformer got groups={self.groups} for dims={tuple(self.dims)}; groups must divide 4 times each dim '
        '(change restorer.groups)'
      )
    for kind in (self.norm, self.fourier_norm or self.norm):
      if kind not in NORMS:
        raise ValueError(f'unknown restorer norm {kind!r}; known norms: {", ".join(NORMS)}')
    if self.groups > 1 and not self.wide:
      raise ValueError(f'SFHformer got groups={self.groups} with wide=False, which has one group of filters only')
    borders.check_channels('SFHformer', z, self.channels)
