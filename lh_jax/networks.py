"""The networks of one configuration, and the one composition that inference and stage 2 share:
D_psi(R_theta(E_phi(image))).

A model's parameters are one tree:
  {'vae': {'encoder', 'decoder'}, 'latent': {'mean', 'std'}, 'restorer', 'restorer_stats', 'encoder_lora',
  'decoder_lora'}
of which stage 1 makes 'vae' and 'latent', stage 2 the rest. The restorer sees normalised latents, (z - mean) / std per
channel.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

from flax import linen as nn
import jax
import jax.numpy as jnp

from lh_jax.models import lora
from lh_jax.models import restorers
from lh_jax.models import vae as vae_lib

STAGE1_PARTS = ('vae', 'latent')
PARTS = (*STAGE1_PARTS, 'restorer', 'restorer_stats', 'encoder_lora', 'decoder_lora')
# The sections of a config that fix a model's architecture.
SECTIONS = ('vae', 'restorer', 'lora')


@dataclasses.dataclass(frozen=True)
class LoRASettings:
  """config.lora: rank r, numerator alpha (a branch is scaled by alpha / r), smallest adapted kernel side in pixels."""

  rank: int
  alpha: float
  min_kernel: int


@dataclasses.dataclass(frozen=True)
class Networks:
  """VAE, latent restorer and LoRA settings; parameters are always passed explicitly."""

  vae: vae_lib.VAE
  restorer: nn.Module
  lora: LoRASettings

  def with_dtype(self, dtype: Any) -> Networks:
    """Returns the same networks with activations of another dtype; parameters fit both."""
    vae = dataclasses.replace(self.vae, dtype=dtype)
    return dataclasses.replace(self, vae=vae, restorer=self.restorer.clone(dtype=dtype))

  def init_vae(self, key: jax.Array) -> dict[str, Any]:
    """Returns fresh parts 'vae' and 'latent' (mean 0, std 1)."""
    channels = self.vae.preset.latent_channels
    return {'vae': self.vae.init(key), 'latent': {'mean': jnp.zeros(channels), 'std': jnp.ones(channels)}}

  def init_restoration(self, key: jax.Array) -> dict[str, Any]:
    """Returns fresh parts 'restorer', 'restorer_stats', 'encoder_lora', 'decoder_lora'.

    Together they change nothing.
    """
    shapes = jax.eval_shape(self.vae.init, key)
    restorer_key, encoder_key, decoder_key = jax.random.split(key, 3)
    latent = jnp.zeros((1, 8, 8, self.vae.preset.latent_channels))
    variables = self.restorer.init(restorer_key, latent, train=False)
    options = {'rank': self.lora.rank, 'min_kernel': self.lora.min_kernel}
    return {
      'restorer': variables['params'],
      'restorer_stats': variables.get('batch_stats', {}),
      'encoder_lora': lora.init(encoder_key, shapes['encoder'], **options),
      'decoder_lora': lora.init(decoder_key, shapes['decoder'], **options),
    }

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns a whole fresh model."""
    return self.init_vae(key) | self.init_restoration(key)

  def adapt(self, network_params: Any, branch: Any, scale: float | jax.Array) -> Any:
    """Returns a network's parameters with its LoRA branch at `scale` (Sec. 3.3)."""
    return lora.merge(network_params, branch, scale, alpha=self.lora.alpha)

  def encode(self, encoder_params: Any, latent: Mapping[str, jax.Array], images: jax.Array) -> jax.Array:
    """Returns the normalised latent (B, H/f, W/f, C_z) of images (B, H, W, 3)."""
    mean, _ = self.vae.encode(encoder_params, images)
    return (mean - _per_channel(latent['mean'])) / _per_channel(latent['std'])

  def decode(self, decoder_params: Any, latent: Mapping[str, jax.Array], normalised: jax.Array) -> jax.Array:
    """Returns the images (B, H, W, 3), unclipped, of normalised latents."""
    return self.vae.decode(decoder_params, normalised * _per_channel(latent['std']) + _per_channel(latent['mean']))

  @property
  def least_rows(self) -> int:
    """Rows of pixels that a device must hold where images are split by rows in training: two of the deepest features.

    With one, neighbours of neighbours would be needed, which XLA's partitioner gets wrong in some derivatives.
    """
    return self.vae.preset.factor * max(4, 2 * self.restorer.multiple)

  def restore_latent(self, params: Any, stats: Any, normalised: jax.Array) -> jax.Array:
    """Returns R_theta(z), with the restorer's running statistics."""
    return self.restorer.apply({'params': params, 'batch_stats': stats}, normalised, train=False)

  def restore(self, params: Mapping[str, Any], images: jax.Array, alpha: float | jax.Array) -> jax.Array:
    """Restores images at fidelity alpha: encoder at phi* + alpha dphi, decoder at psi* + (1 - alpha) dpsi (Sec. 3.3).

    Args:
      params: a whole model.
      images: (B, H, W, 3) in [0, 1]; sides multiples of the VAE's factor.
      alpha: in [0, 1]; may be traced. 1 is most faithful, 0 most perceptual.

    Returns:
      (B, H, W, 3) float32, unclipped.
    """
    encoder = self.adapt(params['vae']['encoder'], params['encoder_lora'], alpha)
    decoder = self.adapt(params['vae']['decoder'], params['decoder_lora'], 1.0 - alpha)
    z = self.encode(encoder, params['latent'], images)
    z = self.restore_latent(params['restorer'], params['restorer_stats'], z)
    return self.decode(decoder, params['latent'], z)

  def reconstruct(self, params: Mapping[str, Any], images: jax.Array) -> jax.Array:
    """Returns VAE(images) = D(E(images)), the ceiling of every restoration; shapes as `restore`."""
    mean, _ = self.vae.encode(params['vae']['encoder'], images)
    return self.vae.decode(params['vae']['decoder'], mean)


def _per_channel(values: jax.Array) -> jax.Array:
  return values.reshape(1, 1, 1, -1)


def build(sections: Mapping[str, Mapping[str, Any]], *, dtype: Any = jnp.float32) -> Networks:
  """Builds the networks that the sections 'vae', 'restorer' and 'lora' of a config describe.

  Args:
    sections: mapping with these three sections.
    dtype: dtype of the activations.

  Raises:
    ValueError: unknown preset or restorer.
  """
  vae = vae_lib.build(**sections['vae'], dtype=dtype)
  restorer = restorers.build(**sections['restorer'], channels=vae.preset.latent_channels, dtype=dtype)
  return Networks(vae=vae, restorer=restorer, lora=LoRASettings(**sections['lora']))
