"""The body of LH-VAE that is ours: convolutions and per-pixel norms only, so that both halves tile and shard exactly.

Most presets start with a space-to-depth stem: equal multiply-adds at half the resolution are faster on every backend
and halve the largest activation. Down- and up-sampling carry parameter-free shortcuts between space and channels
(DC-AE, arXiv 2410.10733), here for any integer ratio of channels. Shapes are those of the package.

With `linear_path`, both halves are the sum of this body, which then starts at zero, and of a linear map between a cell's
pixels and its latent, which starts as a cosine transform: an untrained VAE is a transform coder, and trains from there.
"""

from __future__ import annotations

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lh_jax.models import layers
from lh_jax.models.vae.presets import Preset
from lh_jax.ops import resize


# What `cosines` supposes of neighbouring pixels and of the channels of one pixel: their correlation. Of several values
# those with which photographs for training lose least at 32 to 64 channels.
PIXEL_CORRELATION = 0.9
CHANNEL_CORRELATION = 0.97
# Standard deviation of z about its mean where an encoder with a linear path starts: less than a level of 255 in a pixel.
INITIAL_DEVIATION = 0.005


class ResBlock(nn.Module):
  """x + Conv3(SiLU(N(Conv3(SiLU(N(x)))))).

  The second convolution starts at zero, so the block starts as the identity.
  """

  norm: str
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = x.shape[-1]
    h = nn.silu(layers.make_norm(self.norm, dtype=self.dtype, name='norm1')(x))
    h = nn.Conv(channels, (3, 3), dtype=self.dtype, name='conv1')(h)
    h = nn.silu(layers.make_norm(self.norm, dtype=self.dtype, name='norm2')(h))
    return x + nn.Conv(channels, (3, 3), dtype=self.dtype, kernel_init=nn.initializers.zeros, name='conv2')(h)


class Down(nn.Module):
  """Halves the resolution: strided Conv3 plus a space-to-channel shortcut that averages groups of channels."""

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    conv = nn.Conv(self.features, (3, 3), strides=(2, 2), padding=((0, 1), (0, 1)), dtype=self.dtype, name='conv')
    return conv(x) + match_channels(layers.space_to_depth(x, 2), self.features)


class Up(nn.Module):
  """Doubles the resolution: bilinear2x(Conv1(x)) plus a channel-to-space shortcut that repeats channels."""

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    h = nn.Conv(self.features, (1, 1), dtype=self.dtype, name='conv')(x)
    return resize.upsample_bilinear_2x(h) + match_channels(layers.depth_to_space(x, 2), self.features)


class Encoder(nn.Module):
  """E_phi: (B, H, W, 3) -> moments (B, H/f, W/f, 2 C_z), float32."""

  preset: Preset
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    p = self.preset
    x = layers.space_to_depth(images.astype(self.dtype), p.stem)
    x = nn.Conv(p.channels[0], (3, 3), dtype=self.dtype, name='conv_in')(x)
    for level, (channels, blocks) in enumerate(zip(p.channels, p.encoder_blocks)):
      if level:
        x = Down(channels, dtype=self.dtype, name=f'down{level}')(x)
      for block in range(blocks):
        x = ResBlock(p.norm, dtype=self.dtype, name=f'level{level}_block{block}')(x)
    x = nn.silu(layers.make_norm(p.norm, dtype=self.dtype, name='norm_out')(x))
    if not p.linear_path:
      return nn.Conv(2 * p.latent_channels, (1, 1), dtype=jnp.float32, name='conv_out')(x)
    start = {'kernel_init': nn.initializers.zeros, 'bias_init': _small_variances}
    moments = nn.Conv(2 * p.latent_channels, (1, 1), dtype=jnp.float32, name='conv_out', **start)(x)
    basis = lambda *_: cosines(p.factor, p.latent_channels)[None, None]
    cells = layers.space_to_depth(images.astype(jnp.float32), p.factor)
    means = nn.Conv(p.latent_channels, (1, 1), use_bias=False, dtype=jnp.float32, kernel_init=basis, name='linear')(
      cells
    )
    return moments + jnp.concatenate([means, jnp.zeros_like(means)], axis=-1)


class Decoder(nn.Module):
  """D_psi: z (B, h, w, C_z) -> image (B, f h, f w, 3), float32, unclipped."""

  preset: Preset
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array) -> jax.Array:
    p = self.preset
    x = nn.Conv(p.channels[-1], (3, 3), dtype=self.dtype, name='conv_in')(z.astype(self.dtype))
    for level in reversed(range(len(p.channels))):
      for block in range(p.decoder_blocks[level]):
        x = ResBlock(p.norm, dtype=self.dtype, name=f'level{level}_block{block}')(x)
      if level:
        x = Up(p.channels[level - 1], dtype=self.dtype, name=f'up{level}')(x)
    x = nn.silu(layers.make_norm(p.norm, dtype=self.dtype, name='norm_out')(x))
    # In float32: bfloat16 would leave about 8 bits of the written pixels.
    if not p.linear_path:
      return layers.depth_to_space(nn.Conv(3 * p.stem**2, (3, 3), dtype=jnp.float32, name='conv_out')(x), p.stem)
    start = {'kernel_init': nn.initializers.zeros}
    x = nn.Conv(3 * p.stem**2, (3, 3), dtype=jnp.float32, name='conv_out', **start)(x)
    basis = lambda *_: cosines(p.factor, p.latent_channels).T[None, None]
    pixels = nn.Conv(3 * p.factor**2, (1, 1), use_bias=False, dtype=jnp.float32, kernel_init=basis, name='linear')(
      z.astype(jnp.float32)
    )
    return layers.depth_to_space(x, p.stem) + layers.depth_to_space(pixels, p.factor)


def match_channels(x: jax.Array, features: int) -> jax.Array:
  """Averages groups of consecutive channels, or repeats each channel, to reach `features`.

  Raises:
    ValueError: neither count divides the other.
  """
  channels = x.shape[-1]
  if channels % features == 0:
    return x.reshape(*x.shape[:-1], features, channels // features).mean(axis=-1)
  if features % channels == 0:
    return jnp.repeat(x, features // channels, axis=-1)
  raise ValueError(
    f'The shortcut cannot turn {channels} channels into {features}: one must divide the other; change vae.channels.'
  )


def _small_variances(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
  """A bias of moments: means of zero, log-variances of `INITIAL_DEVIATION`."""
  return jnp.zeros(shape, dtype).at[shape[0] // 2 :].set(2 * np.log(INITIAL_DEVIATION))


def cosines(side: int, count: int) -> jax.Array:
  """Returns the cosines that carry most of a photograph's energy: what JPEG keeps, as a matrix.

  The orthonormal products of DCT-II over rows and columns with luma and two chroma axes, by their variance where pixels
  are correlated as a first-order Markov process (`PIXEL_CORRELATION`) and channels equally (`CHANNEL_CORRELATION`):
  nearly the Karhunen-Loeve transform of such images (Ahmed, Natarajan and Rao, "Discrete cosine transform", 1974).

  Args:
    side: of a cell, in pixels.
    count: how many to return.

  Returns:
    (3 side^2, count) float32: the pixels of a cell in the order of `layers.space_to_depth`, to coefficients; those beyond
    3 side^2 are zero. Its transpose is the way back.
  """
  frequency, place = np.arange(side)[:, None], np.arange(side)
  waves = np.cos(np.pi * frequency * (2 * place + 1) / (2 * side)) * np.sqrt(np.where(frequency, 2, 1) / side)
  axes = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
  energy = np.diag(waves @ PIXEL_CORRELATION ** np.abs(place[:, None] - place) @ waves.T)
  colors = np.array([1 + 2 * CHANNEL_CORRELATION, 1 - CHANNEL_CORRELATION, 1 - CHANNEL_CORRELATION])
  order = np.argsort(-np.einsum('u,v,k->uvk', energy, energy, colors).ravel(), kind='stable')
  basis = np.einsum('uy,vx,kc->yxcuvk', waves, waves, axes).reshape(3 * side**2, -1)[:, order[:count]]
  return jnp.asarray(np.pad(basis, ((0, 0), (0, max(0, count - basis.shape[1])))), jnp.float32)
