"""The loss terms of both stages, each a scalar from arrays. Images and latents are (B, H, W, C) float32.

How the terms are combined, and on what they are evaluated, is the business of `stages`.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp

COSINE_EPS = 1e-8


def l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Mean absolute error, the reconstruction term of Eqs. 2, 5, 7 and 8."""
  return jnp.mean(jnp.abs(prediction - target))


def kl_divergence(mean: jax.Array, logvar: jax.Array) -> jax.Array:
  """KL(N(mean, exp(logvar)) || N(0, 1)), summed over the latent and averaged over the batch (Eq. 2)."""
  per_element = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar)
  return jnp.mean(jnp.sum(per_element, axis=(1, 2, 3)))


def _unit(x: jax.Array) -> jax.Array:
  # The square root sits on a positive number, so that a zero vector has a gradient.
  return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + COSINE_EPS)


def cosine_distance(projected: jax.Array, features: jax.Array) -> jax.Array:
  """Mean over tokens of 1 - cos: L_Inv with the distance left open by Eq. 4. In [0, 2]."""
  return jnp.mean(1.0 - jnp.sum(_unit(projected) * _unit(features), axis=-1))


def vavae_distance(
  projected: jax.Array, features: jax.Array, *, cosine_margin: float = 0.5, matrix_margin: float = 0.25
) -> jax.Array:
  """The marginal cosine plus marginal distance-matrix form of VA-VAE (arXiv 2501.01423, Eqs. 2 to 5).

  Args:
    projected: (B, h, w, C_f) projected latents.
    features: (B, h, w, C_f) foundation features.
    cosine_margin: m1; tokens more similar than 1 - m1 cost nothing.
    matrix_margin: m2; the tolerated difference between the two token-to-token similarity matrices of an image.
  """
  batch, _, _, channels = projected.shape
  p, f = (_unit(x).reshape(batch, -1, channels) for x in (projected, features))
  cosine = jnp.mean(jax.nn.relu(1.0 - cosine_margin - jnp.sum(p * f, axis=-1)))
  gap = jnp.abs(p @ p.transpose(0, 2, 1) - f @ f.transpose(0, 2, 1))
  return cosine + jnp.mean(jax.nn.relu(gap - matrix_margin))


def perceptual_distance(restored: Sequence[jax.Array], clean: Sequence[jax.Array]) -> jax.Array:
  """Distance of two images in a network's maps: that of LPIPS (arXiv 1801.03924, Eq. 1) without learned weights.

  Args:
    restored: maps (B, h, w, C), one per depth.
    clean: likewise, of the same shapes.

  Returns:
    Scalar: the mean over depths, where LPIPS sums, and places of the squared Euclidean distance of the vectors of
    channels, each scaled to unit length. In [0, 4], of maps that are nowhere negative in [0, 2].

  Raises:
    ValueError: other numbers of maps.
  """
  pairs = zip(restored, clean, strict=True)
  distances = [jnp.mean(jnp.sum(jnp.square(_unit(one) - _unit(other)), axis=-1)) for one, other in pairs]
  return jnp.mean(jnp.stack(distances))


# What L_Inv may be measured with: config.losses.invariance_distance.
INVARIANCE_DISTANCES = {
  'cosine': cosine_distance,
  'vavae': vavae_distance,
  'l1': l1,
  'mse': lambda projected, features: jnp.mean(jnp.square(projected - features)),
}


def vanilla_generator(fake_logits: jax.Array) -> jax.Array:
  """-E log D(fake), the non-saturating generator loss of Eq. 9."""
  return jnp.mean(jax.nn.softplus(-fake_logits))


def vanilla_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
  """-E log D(real) - E log(1 - D(fake))."""
  return jnp.mean(jax.nn.softplus(-real_logits)) + jnp.mean(jax.nn.softplus(fake_logits))


def hinge_generator(fake_logits: jax.Array) -> jax.Array:
  """-E D(fake)."""
  return -jnp.mean(fake_logits)


def hinge_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
  """E relu(1 - D(real)) + E relu(1 + D(fake))."""
  return jnp.mean(jax.nn.relu(1.0 - real_logits)) + jnp.mean(jax.nn.relu(1.0 + fake_logits))


# (generator, discriminator) losses by name: config.losses.gan_kind.
GAN_LOSSES = {'vanilla': (vanilla_generator, vanilla_discriminator), 'hinge': (hinge_generator, hinge_discriminator)}


@dataclasses.dataclass(frozen=True)
class LossSettings:
  """config.losses: weights and forms of the terms of both stages.

  Attributes:
    invariance: lambda_Inv (0.8 in the paper); 0 needs no foundation model.
    invariance_distance: a name in `INVARIANCE_DISTANCES`; the paper leaves d open.
    equivariance: lambda_Eqv (0.6 in the paper).
    equivariance_scales: the values of s in Eq. 5, each in (0, 1]; one is drawn per step.
    hf_cutoff: cut-off of HF as a fraction of the Nyquist frequency.
    hf_fidelity: weight of Eq. 8.
    gan: weight of Eq. 9.
    gan_kind: a name in `GAN_LOSSES`; Eq. 9 prints 'vanilla'.
    phf_fidelity: weight of an additional HF L1 term in the decoder's phase; 0 is the paper's equation, 1 the authors'
      release.
    phf_perceptual: weight of an additional perceptual distance in the decoder's phase, in the maps of the foundation
      model; 0 is the paper's equation, and needs no foundation model.
  """

  invariance: float
  invariance_distance: str
  equivariance: float
  equivariance_scales: tuple[float, ...]
  hf_cutoff: float
  hf_fidelity: float
  gan: float
  gan_kind: str
  phf_fidelity: float
  phf_perceptual: float = 0.0

  def __post_init__(self):
    for name, known in (('invariance_distance', INVARIANCE_DISTANCES), ('gan_kind', GAN_LOSSES)):
      if getattr(self, name) not in known:
        raise ValueError(f'Unknown losses.{name} {getattr(self, name)!r}; known: {sorted(known)}.')
    if not self.equivariance_scales:
      raise ValueError(
        'losses.equivariance_scales is empty: give at least one scale; losses.equivariance=0 turns the term off.'
      )
    if not 0.0 < self.hf_cutoff <= 1.0:
      raise ValueError(f'losses.hf_cutoff must lie in (0, 1], got {self.hf_cutoff}.')
    for name in ('invariance', 'equivariance', 'hf_fidelity', 'gan', 'phf_fidelity', 'phf_perceptual'):
      if getattr(self, name) < 0:
        raise ValueError(f'losses.{name} must be >= 0, got {getattr(self, name)}.')
