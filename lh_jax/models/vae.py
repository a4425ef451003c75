"""LH-VAE: a convolutional variational autoencoder whose encoder and decoder are local.

Images are (B, H, W, 3) float32 RGB in [0, 1]; H and W must be multiples of the VAE's `factor` f. The encoder returns
the moments of q(z | x), each (B, H/f, W/f, C_z); the decoder maps z back to (B, H, W, 3), unclipped. There is no path
around z.

The paper fixes f and C_z (VAE1: f = 32, C_z = 8, KL 1e-4; VAE2 and LH-VAE: f = 8, C_z = 32, KL 1e-8) and the whole
model's budget (1.2 M parameters, 3.6 G multiply-adds at 256 x 256), not the body. The authors' earlier code uses
Fourier blocks, transposed attention and GroupNorm, whose global statistics make a 4K image differ from its tiles. Here
every operation is a convolution or a per-pixel norm, so both halves tile and shard exactly. Most presets start with a
space-to-depth stem: equal multiply-adds at half the resolution are faster on every backend and halve the largest
activation. Down- and up-sampling carry parameter-free shortcuts between space and channels (DC-AE, arXiv 2410.10733),
here for any integer ratio of channels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from lh_jax.models import layers
from lh_jax.ops import resize

LOGVAR_RANGE = (-30.0, 20.0)


@dataclasses.dataclass(frozen=True)
class Preset:
  """One size of VAE. Channels and block counts run from the finest level to the coarsest.

  Attributes:
    stem: side of the space-to-depth stem (1: none).
    channels: channels of each level; each further level halves the resolution.
    encoder_blocks: residual blocks per level in the encoder.
    decoder_blocks: residual blocks per level in the decoder.
    latent_channels: C_z.
    kl_weight: lambda_KL of Eq. 2.
    norm: 'layer' (per pixel; exact tiling) or 'group' (4 groups over the image, as in the authors' earlier code).
  """

  stem: int
  channels: tuple[int, ...]
  encoder_blocks: tuple[int, ...]
  decoder_blocks: tuple[int, ...]
  latent_channels: int
  kl_weight: float
  norm: str = 'layer'

  def __post_init__(self):
    if not len(self.channels) == len(self.encoder_blocks) == len(self.decoder_blocks):
      raise ValueError(
        f'vae.channels {self.channels}, vae.encoder_blocks {self.encoder_blocks} and vae.decoder_blocks '
        f'{self.decoder_blocks} must have one entry per level.'
      )

  @property
  def factor(self) -> int:
    """Down-sampling factor f between image and latent."""
    return self.stem * 2 ** (len(self.channels) - 1)

  @property
  def local(self) -> bool:
    """Whether every output depends on a bounded neighbourhood only, so that tiles are exact."""
    return self.norm == 'layer'

  @property
  def encoder_halo(self) -> int:
    """Cells on each side of a latent cell outside of which no pixel changes it: the receptive field, walked back from
    one cell (meaningless where the network is not `local`).
    """
    low = high = 0
    for level in reversed(range(len(self.channels))):
      low, high = low - 2 * self.encoder_blocks[level], high + 2 * self.encoder_blocks[level]
      if level:
        low, high = 2 * low, 2 * high + 2  # Down: 3 taps from 2i on
    low, high = (low - 1) * self.stem, (high + 2) * self.stem - 1
    return max(-(low // self.factor), high // self.factor)

  @property
  def decoder_halo(self) -> int:
    """Cells on each side of a latent cell outside of which no cell changes its pixels, found as `encoder_halo`."""
    side = self.factor // self.stem
    low, high = -1, side
    for level in range(len(self.channels)):
      low, high = low - 2 * self.decoder_blocks[level], high + 2 * self.decoder_blocks[level]
      if level < len(self.channels) - 1:
        low, high = (low - 1) // 2, (high + 1) // 2  # Up: the bilinear neighbours
    return max(1 - low, high + 1)


_LH = Preset(
  stem=2, channels=(48, 64, 64), encoder_blocks=(1, 1, 1), decoder_blocks=(2, 2, 1), latent_channels=32, kl_weight=1e-8
)
PRESETS = {
  'lh': _LH,
  # VAE2, the "reconstructing" VAE of the paper's Sec. 3: LH-VAE's body; what differs is how stage 1 trains it.
  'vae2': _LH,
  # VAE1, the "generalising" VAE: the same recipe down to f = 32.
  'vae1': Preset(
    stem=2,
    channels=(48, 64, 64, 64, 64),
    encoder_blocks=(1, 1, 1, 1, 1),
    decoder_blocks=(2, 2, 1, 1, 1),
    latent_channels=8,
    kl_weight=1e-4,
  ),
  # The stem-less twin of `lh`, kept for comparison, and the fastest one.
  'lh_conv': dataclasses.replace(
    _LH, stem=1, channels=(16, 32, 64, 64), encoder_blocks=(2, 1, 1, 1), decoder_blocks=(2, 2, 2, 1)
  ),
  'lh_fast': dataclasses.replace(_LH, stem=4, channels=(96, 64), encoder_blocks=(2, 1), decoder_blocks=(2, 1)),
  # For tests.
  'tiny': dataclasses.replace(
    _LH, stem=2, channels=(8, 8, 16), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1), latent_channels=8
  ),
}


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
  """E_phi: (B, H, W, 3) -> mean and log-variance, each (B, H/f, W/f, C_z), float32."""

  preset: Preset
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    p = self.preset
    height, width = images.shape[1:3]
    if height % p.factor or width % p.factor:
      raise ValueError(
        f'The encoder takes images whose sides are multiples of {p.factor}, got {height}x{width}: pad them first.'
      )
    x = layers.space_to_depth(images.astype(self.dtype), p.stem)
    x = nn.Conv(p.channels[0], (3, 3), dtype=self.dtype, name='conv_in')(x)
    for level, (channels, blocks) in enumerate(zip(p.channels, p.encoder_blocks)):
      if level:
        x = Down(channels, dtype=self.dtype, name=f'down{level}')(x)
      for block in range(blocks):
        x = ResBlock(p.norm, dtype=self.dtype, name=f'level{level}_block{block}')(x)
    x = nn.silu(layers.make_norm(p.norm, dtype=self.dtype, name='norm_out')(x))
    moments = nn.Conv(2 * p.latent_channels, (1, 1), dtype=jnp.float32, name='conv_out')(x)
    mean, logvar = jnp.split(moments, 2, axis=-1)
    return mean, jnp.clip(logvar, *LOGVAR_RANGE)


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
    x = nn.Conv(3 * p.stem**2, (3, 3), dtype=jnp.float32, name='conv_out')(x)
    return layers.depth_to_space(x, p.stem)


@dataclasses.dataclass(frozen=True)
class VAE:
  """Encoder and decoder of one preset. Parameters are {'encoder': ..., 'decoder': ...}, passed explicitly."""

  preset: Preset
  dtype: Any = jnp.float32

  @property
  def encoder(self) -> Encoder:
    return Encoder(self.preset, dtype=self.dtype)

  @property
  def decoder(self) -> Decoder:
    return Decoder(self.preset, dtype=self.dtype)

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns fresh parameters."""
    side = self.preset.factor
    encoder_key, decoder_key = jax.random.split(key)
    return {
      'encoder': self.encoder.init(encoder_key, jnp.zeros((1, side, side, 3)))['params'],
      'decoder': self.decoder.init(decoder_key, jnp.zeros((1, 1, 1, self.preset.latent_channels)))['params'],
    }

  def encode(self, encoder_params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (mean, logvar) of q(z | images)."""
    return self.encoder.apply({'params': encoder_params}, images)

  def decode(self, decoder_params: Any, z: jax.Array) -> jax.Array:
    """Returns the image of latent z, unclipped."""
    return self.decoder.apply({'params': decoder_params}, z)


def build(*, preset: str, dtype: Any = jnp.float32, **overrides: Any) -> VAE:
  """Builds a VAE from a named preset.

  Args:
    preset: a name in `PRESETS`.
    dtype: dtype of the activations; parameters, moments and output stay float32.
    **overrides: fields of `Preset` to change; None keeps the preset's value.

  Raises:
    ValueError: unknown preset, or inconsistent levels.
  """
  if preset not in PRESETS:
    raise ValueError(f'Unknown vae.preset {preset!r}; known: {sorted(PRESETS)}.')
  changes = {
    name: tuple(value) if isinstance(value, list) else value for name, value in overrides.items() if value is not None
  }
  return VAE(dataclasses.replace(PRESETS[preset], **changes), dtype=dtype)


def sample(key: jax.Array, mean: jax.Array, logvar: jax.Array) -> jax.Array:
  """Draws z = mean + exp(logvar / 2) * eps, the reparametrised sample."""
  return mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, mean.shape, mean.dtype)


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
