"""The body of the authors' earlier VAE (UHD-Processer): frequency-enhanced blocks, transposed attention, FourierUp.

Transforms, attention and group norms take in the whole image, so this body cannot be tiled exactly; it shards exactly,
at the price of whole planes on every device. Shapes are those of the package.

The authors' code also has a form with shortcuts between space and channels around each step of resolution, whose
arithmetic does not close for these channels: it is left out.
"""

from __future__ import annotations

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from lh_jax.models import layers
from lh_jax.models.pointwise import Pointwise
from lh_jax.models.transposed_attention import TransformerBlock
from lh_jax.models.vae.frequency_blocks import FEBlock, FourierUp
from lh_jax.models.vae.presets import Preset

HEADS = 4
EXPANSION = 3.0  # of the attention's feed-forward network


class Level(nn.Module):
  """Blocks at one resolution, each followed by attention where the preset has it there."""

  preset: Preset
  level: int
  blocks: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    p = self.preset
    for block in range(self.blocks):
      x = FEBlock(p.channels[self.level], p.norm, self.dtype, name=f'block{block}')(x)
      if self.level >= len(p.channels) - p.attention_levels:
        x = TransformerBlock(HEADS, EXPANSION, dtype=self.dtype, name=f'attention{block}')(x)
    return x


class Middle(nn.Module):
  """A block, attention and a block at the coarsest resolution."""

  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = FEBlock(x.shape[-1], self.norm, self.dtype, name='block0')(x)
    x = TransformerBlock(HEADS, EXPANSION, dtype=self.dtype, name='attention')(x)
    return FEBlock(x.shape[-1], self.norm, self.dtype, name='block1')(x)


class Encoder(nn.Module):
  """E_phi: (B, H, W, 3) -> moments (B, H/f, W/f, 2 C_z), float32."""

  preset: Preset
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    p = self.preset
    x = layers.space_to_depth(images.astype(self.dtype), p.stem)
    x = nn.Conv(p.channels[0], (3, 3), dtype=self.dtype, name='conv_in')(x)
    for level, blocks in enumerate(p.encoder_blocks):
      if level:
        options = {'strides': (2, 2), 'padding': ((0, 1), (0, 1))}
        x = nn.Conv(p.channels[level - 1], (3, 3), **options, dtype=self.dtype, name=f'down{level}')(x)
      x = Level(p, level, blocks, self.dtype, name=f'level{level}')(x)
    x = Middle(p.norm, self.dtype, name='middle')(x)
    x = nn.silu(layers.make_norm(p.norm, dtype=self.dtype, name='norm_out')(x))
    moments = nn.Conv(2 * _code_channels(p), (3, 3), dtype=jnp.float32, name='conv_out')(x)
    return Pointwise(2 * p.latent_channels, dtype=jnp.float32, name='to_latent')(moments)


class Decoder(nn.Module):
  """D_psi: z (B, h, w, C_z) -> image (B, f h, f w, 3), float32, unclipped."""

  preset: Preset
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array) -> jax.Array:
    p = self.preset
    x = Pointwise(_code_channels(p), dtype=jnp.float32, name='from_latent')(z).astype(self.dtype)
    x = nn.Conv(p.channels[-1], (3, 3), dtype=self.dtype, name='conv_in')(x)
    x = Middle(p.norm, self.dtype, name='middle')(x)
    for level in reversed(range(len(p.channels))):
      x = Level(p, level, p.decoder_blocks[level], self.dtype, name=f'level{level}')(x)
      if level:
        x = FourierUp(self.dtype, name=f'up{level}')(x)
    x = nn.silu(layers.make_norm(p.norm, dtype=self.dtype, name='norm_out')(x))
    # In float32: bfloat16 would leave about 8 bits of the written pixels.
    x = nn.Conv(3 * p.stem**2, (3, 3), dtype=jnp.float32, name='conv_out')(x)
    return layers.depth_to_space(x, p.stem)


def _code_channels(preset: Preset) -> int:
  return preset.latent_channels if preset.code_channels is None else preset.code_channels
