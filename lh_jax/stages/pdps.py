"""Progressive degradation perturbation (PDPS, Eq. 3): what the encoder sees in stage 1 beside clean images.

  I' = I_clean                                   with probability p0
       SynthDeg(I_clean, sev(t))                 with probability p1
       (1 - beta(t)) I_clean + beta(t) I_deg     with probability p2

t in [0, 1] is the progress of training; sev and beta rise with it. The paper gives neither probabilities nor ranges;
SynthDeg composes Gaussian blur, Gaussian noise and JPEG. The branch is drawn per sample (the authors' release draws one
per iteration): the same expectation, less variance.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from lh_jax.ops import degradations
from lh_jax.ops import jpeg


@dataclasses.dataclass(frozen=True)
class PDPS:
  """config.pdps.

  Attributes:
    probabilities: (p0, p1, p2), normalised to sum 1; (1, 0, 0) turns PDPS off.
    severity: sev(0) and sev(1), linear in between; a sample's severity is sev(t) * U(0.3, 1).
    beta: beta(0) and beta(1), linear in between.
    blur_sigma: standard deviation of the blur in pixels at severity 0 and 1.
    noise_sigma: standard deviation of the noise on the 0..255 scale at severity 0 and 1.
    jpeg_quality: JPEG quality at severity 0 and 1.
  """

  probabilities: tuple[float, float, float]
  severity: tuple[float, float]
  beta: tuple[float, float]
  blur_sigma: tuple[float, float]
  noise_sigma: tuple[float, float]
  jpeg_quality: tuple[float, float]

  def __post_init__(self):
    if len(self.probabilities) != 3 or min(self.probabilities) < 0 or sum(self.probabilities) <= 0:
      raise ValueError(f'pdps.probabilities must be three numbers >= 0 with a positive sum, got {self.probabilities}.')
    for name in ('severity', 'beta'):
      start, end = getattr(self, name)
      if not 0.0 <= start <= end <= 1.0:
        raise ValueError(f'pdps.{name} must rise within [0, 1], got {getattr(self, name)}.')


def draw_branches(key: jax.Array, count: int, settings: PDPS) -> jax.Array:
  """Draws the branch (0, 1 or 2) of each of `count` samples."""
  return jax.random.categorical(key, jnp.log(jnp.asarray(settings.probabilities)), shape=(count,))


def synthetic_degradation(key: jax.Array, images: jax.Array, severity: jax.Array, settings: PDPS) -> jax.Array:
  """SynthDeg: blur, then noise, then JPEG, each by a coin per sample, at least one of them.

  Args:
    key: random key.
    images: (B, H, W, 3) in [0, 1].
    severity: (B,) in [0, 1].
    settings: the ranges.

  Returns:
    (B, H, W, 3) in [0, 1].
  """
  coin_key, noise_key = jax.random.split(key)
  # 1..7 in binary: every non-empty subset of {blur, noise, JPEG} is equally likely.
  subset = jax.random.randint(coin_key, severity.shape, 1, 8)

  def strength(limits: tuple[float, float]) -> jax.Array:
    return limits[0] + (limits[1] - limits[0]) * severity

  def where(bit: int, degraded: jax.Array, unchanged: jax.Array) -> jax.Array:
    return jnp.where(((subset >> bit) & 1)[:, None, None, None] == 1, degraded, unchanged)

  images = where(0, degradations.gaussian_blur(images, strength(settings.blur_sigma)), images)
  images = where(1, degradations.gaussian_noise(noise_key, images, strength(settings.noise_sigma) / 255.0), images)
  images = jnp.clip(images, 0.0, 1.0)
  return jnp.clip(where(2, jpeg.jpeg(images, jnp.round(strength(settings.jpeg_quality))), images), 0.0, 1.0)


def perturb(key: jax.Array, clean: jax.Array, degraded: jax.Array, progress: jax.Array, settings: PDPS) -> jax.Array:
  """Returns I' of Eq. 3.

  Args:
    key: random key.
    clean: (B, H, W, 3) in [0, 1].
    degraded: its real (or modelled) degradation, same shape.
    progress: t, scalar in [0, 1]; traced, so one compiled step serves the schedule.
    settings: see `PDPS`.

  Returns:
    (B, H, W, 3) in [0, 1].
  """
  branch_key, severity_key, synthesis_key = jax.random.split(key, 3)
  count = clean.shape[0]
  branch = draw_branches(branch_key, count, settings)[:, None, None, None]
  severity, beta = ((start + (end - start) * progress) for start, end in (settings.severity, settings.beta))
  severities = severity * jax.random.uniform(severity_key, (count,), minval=0.3, maxval=1.0)
  synthetic = synthetic_degradation(synthesis_key, clean, severities, settings)
  mixed = (1.0 - beta) * clean + beta * degraded
  return jax.lax.stop_gradient(jnp.where(branch == 0, clean, jnp.where(branch == 1, synthetic, mixed)))
