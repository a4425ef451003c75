"""LH-VAE: a variational autoencoder whose latent is what the restorer sees, in two bodies.

Images are (B, H, W, 3) float32 RGB in [0, 1]; H and W must be multiples of the VAE's `factor` f. The encoder returns
the moments of q(z | x), each (B, H/f, W/f, C_z); the decoder maps z back to (B, H, W, 3), unclipped. There is no path
around z.

The paper fixes f and C_z (VAE1: f = 32, C_z = 8, KL 1e-4; VAE2 and LH-VAE: f = 8, C_z = 32, KL 1e-8) and the whole
model's budget (1.2 M parameters, 3.6 G multiply-adds at 256 x 256), not the body. Ours is `convolutional`: local, so
that both halves tile and shard exactly. The authors' earlier code has the other, `frequency`: Fourier blocks,
transposed attention and GroupNorm, whose view of the whole image makes a 4K image differ from its tiles.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from lh_jax.models.vae import convolutional
from lh_jax.models.vae import frequency
from lh_jax.models.vae.presets import PRESETS, Preset

BODIES = {'convolutional': convolutional, 'frequency': frequency}
LOGVAR_RANGE = (-30.0, 20.0)


@dataclasses.dataclass(frozen=True)
class VAE:
  """Encoder and decoder of one preset. Parameters are {'encoder': ..., 'decoder': ...}, passed explicitly."""

  preset: Preset
  dtype: Any = jnp.float32

  @property
  def encoder(self) -> nn.Module:
    """E_phi: images -> moments, (B, H/f, W/f, 2 C_z) float32: the means, then the log-variances."""
    return BODIES[self.preset.body].Encoder(self.preset, dtype=self.dtype)

  @property
  def decoder(self) -> nn.Module:
    """D_psi: z (B, h, w, C_z) -> images (B, f h, f w, 3), float32, unclipped."""
    return BODIES[self.preset.body].Decoder(self.preset, dtype=self.dtype)

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns fresh parameters."""
    side = self.preset.factor
    encoder_key, decoder_key = jax.random.split(key)
    return {
      'encoder': self.encoder.init(encoder_key, jnp.zeros((1, side, side, 3)))['params'],
      'decoder': self.decoder.init(decoder_key, jnp.zeros((1, 1, 1, self.preset.latent_channels)))['params'],
    }

  def encode(self, encoder_params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (mean, logvar) of q(z | images).

    Raises:
      ValueError: the sides of the images are no multiples of the factor.
    """
    height, width = images.shape[1:3]
    factor = self.preset.factor
    if height % factor or width % factor:
      raise ValueError(
        f'The encoder takes images whose sides are multiples of {factor}, got {height}x{width}: pad them first.'
      )
    mean, logvar = jnp.split(self.encoder.apply({'params': encoder_params}, images), 2, axis=-1)
    return mean, jnp.clip(logvar, *LOGVAR_RANGE)

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
