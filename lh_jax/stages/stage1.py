"""Stage 1: LH-VAE. L_Stage1 = L_VAE + lambda_Inv L_Inv + lambda_Eqv L_Eqv (Sec. 3.2, Eqs. 2 to 5).

  L_VAE = |D(E(I_clean)) - I_clean|_1 + lambda_KL KL                      (Eq. 2)
  L_Inv = d(P E(I'), F(I_clean)), I' the PDPS perturbation                (Eqs. 3 and 4)
  L_Eqv = |D(down_s(E(I_clean))) - down_s(I_clean)|_1                     (Eq. 5)

F is a frozen vision foundation model and P a 1 x 1 projection to its width, dropped after the stage; latents are
resized to F's token grid. Only L_VAE samples z; the other terms use its mean (at KL 1e-8 the difference is negligible).
The paper's text and the authors' release differ in what is encoded: variant 'paper' is the above; 'release' encodes I'
once, and all three terms use that latent, with the clean image as the target. s is drawn per step from a fixed set, one
compiled step for each. The stage may begin with L_VAE alone (`reconstruction_steps`), the one loss of VAE2, on which
the paper builds; in variant 'release' that too is of the latent of I'.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lh_jax import losses as losses_lib
from lh_jax import networks as networks_lib
from lh_jax import optim
from lh_jax import stages
from lh_jax.models import foundation as foundation_lib
from lh_jax.models import vae as vae_lib
from lh_jax.ops import resize
from lh_jax.stages import pdps as pdps_lib
from lh_jax.state import TrainState, stream_key, update_ema

VARIANTS = ('paper', 'release')
RECONSTRUCTION = 'reconstruction'  # the phase of L_VAE alone
# Latent moments average over about 100 batches: well above the 256 crops that a per-channel mean and deviation need.
MOMENTS_DECAY = 0.99


@dataclasses.dataclass(frozen=True)
class Stage1:
  """config.stage1, config.losses and the networks; its methods are the stage's pure functions.

  Attributes:
    steps: length of the stage.
    reconstruction_steps: how many of them, at its start, train L_VAE alone.
    batch_size: global batch.
    crop_size: side of a crop, in pixels.
    variant: 'paper' or 'release', see the module's docstring.
    ema_decay: decay of the average of the VAE's parameters that is exported.
    seed: seed of every random stream.
    networks: the model.
    foundation: F, or None where losses.invariance is 0.
    optimizer: for VAE and projection together.
    pdps: perturbation settings.
    losses: weights and forms of the losses.
  """

  steps: int
  reconstruction_steps: int
  batch_size: int
  crop_size: int
  variant: str
  ema_decay: float
  seed: int
  networks: networks_lib.Networks
  foundation: foundation_lib.FoundationModel | None
  optimizer: optim.Optimizer
  pdps: pdps_lib.PDPS
  losses: losses_lib.LossSettings

  def __post_init__(self):
    if self.variant not in VARIANTS:
      raise ValueError(f'Unknown stage1.variant {self.variant!r}; known: {VARIANTS}.')
    if not 0 <= self.reconstruction_steps <= self.steps:
      raise ValueError(f'stage1.reconstruction_steps must lie in [0, {self.steps}], got {self.reconstruction_steps}.')
    factor = self.networks.vae.preset.factor
    for scale in (1.0, *self.losses.equivariance_scales):
      if (self.crop_size * scale) % factor or not 0.0 < scale <= 1.0:
        raise ValueError(
          f'stage1.crop_size={self.crop_size} at scale {scale} is no whole number of latent cells of {factor} px: '
          'change stage1.crop_size or losses.equivariance_scales.'
        )

  def init(self, key: jax.Array) -> TrainState:
    """Returns a fresh state."""
    vae_key, projector_key = jax.random.split(key)
    vae = self.networks.init_vae(vae_key)['vae']
    channels = self.networks.vae.preset.latent_channels
    params = {'vae': vae}
    if self.foundation is not None:
      initializer = jax.nn.initializers.lecun_normal()
      params['projector'] = initializer(projector_key, (channels, self.foundation.channels))
    moments = {'mean': jnp.zeros(channels), 'square': jnp.zeros(channels), 'weight': jnp.zeros(())}
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt={'stage1': self.optimizer.init(params)},
      ema={'vae': jax.tree.map(jnp.copy, vae)},
      stats={'latent': moments},
    )

  def loss(
    self, params: Any, frozen: Any, clean: jax.Array, perturbed: jax.Array, key: jax.Array, *, scale: float | None
  ) -> tuple[jax.Array, Any]:
    """L_Stage1 of one batch, L_VAE without a scale: (loss, (metrics, mean of the latent that is decoded))."""
    vae, weights = self.networks.vae, self.losses
    mean, logvar = vae.encode(params['vae']['encoder'], clean if self.variant == 'paper' else perturbed)
    reconstruction = vae.decode(params['vae']['decoder'], vae_lib.sample(key, mean, logvar))
    metrics = {
      'reconstruction': losses_lib.l1(reconstruction, clean),
      'kl': losses_lib.kl_divergence(mean, logvar),
    }
    total = metrics['reconstruction'] + vae.preset.kl_weight * metrics['kl']
    if scale is not None and weights.equivariance:
      with jax.named_scope('equivariance'):
        metrics['equivariance'] = self.equivariance(params['vae']['decoder'], mean, clean, scale=scale)
      total += weights.equivariance * metrics['equivariance']
    if scale is not None and self.foundation is not None:
      with jax.named_scope('invariance'):
        mean_perturbed = mean
        if self.variant == 'paper':
          # Two passes, not one over both batches: joining them would move samples between devices.
          mean_perturbed, _ = vae.encode(params['vae']['encoder'], perturbed)
        metrics['invariance'] = self.invariance(params['projector'], frozen['foundation'], mean_perturbed, clean)
      total += weights.invariance * metrics['invariance']
    metrics['total'] = total
    return total, (metrics, mean)

  def equivariance(self, decoder_params: Any, mean: jax.Array, clean: jax.Array, *, scale: float) -> jax.Array:
    """L_Eqv (Eq. 5) at scale s; bilinear without antialiasing, the target at the size that the decoder gives."""
    small = resize.resize_bilinear(mean, tuple(round(side * scale) for side in mean.shape[1:3]))
    decoded = self.networks.vae.decode(decoder_params, small)
    return losses_lib.l1(decoded, resize.resize_bilinear(clean, decoded.shape[1:3]))

  def invariance(
    self, projector: jax.Array, foundation_params: Any, mean_perturbed: jax.Array, clean: jax.Array
  ) -> jax.Array:
    """L_Inv (Eq. 4)."""
    features = jax.lax.stop_gradient(self.foundation.features(foundation_params, clean))
    tokens = resize.resize_bilinear(mean_perturbed, features.shape[1:3])
    projected = jnp.einsum('bhwc,cf->bhwf', tokens, projector)
    return losses_lib.INVARIANCE_DISTANCES[self.losses.invariance_distance](projected, features)

  def step(
    self, state: TrainState, frozen: Any, batch: stages.Batch, *, scale: float | None
  ) -> tuple[TrainState, stages.Metrics]:
    """One step of VAE and projection at equivariance scale s; without one, of L_VAE alone."""
    progress = state.step / self.steps
    with jax.named_scope('pdps'):
      perturbed = pdps_lib.perturb(
        stream_key(self.seed, 'pdps', state.step), batch['clean'], batch['degraded'], progress, self.pdps
      )
    grad_fn = jax.grad(self.loss, has_aux=True)
    sample_key = stream_key(self.seed, 'posterior', state.step)
    grads, (metrics, mean) = grad_fn(state.params, frozen, batch['clean'], perturbed, sample_key, scale=scale)
    params, opt, optimizer_metrics = self.optimizer.update(grads, state.opt['stage1'], state.params, step=state.step)
    new_state = state.replace(
      step=state.step + 1,
      params=params,
      opt={'stage1': opt},
      ema={'vae': update_ema(state.ema['vae'], params['vae'], decay=self.ema_decay, step=state.step)},
      stats={'latent': _update_moments(state.stats['latent'], mean)},
    )
    return new_state, {f'stage1/{name}': value for name, value in (metrics | optimizer_metrics).items()}

  def phase(self, step: int) -> str:
    """Returns which step function a step belongs to: `RECONSTRUCTION`, then that of a scale drawn for the step."""
    if step < self.reconstruction_steps:
      return RECONSTRUCTION
    scales = self.losses.equivariance_scales
    return f'scale_{scales[np.random.default_rng((self.seed, step)).integers(len(scales))]}'

  def export(self, state: TrainState, frozen: Any) -> dict[str, Any]:
    """Returns the averaged VAE and the mean and deviation of its clean latents."""
    del frozen
    moments = state.stats['latent']
    weight = jnp.maximum(moments['weight'], 1e-8)
    mean = moments['mean'] / weight
    std = jnp.sqrt(jnp.maximum(moments['square'] / weight - jnp.square(mean), 1e-8))
    return {'vae': state.ema['vae'], 'latent': {'mean': mean, 'std': std}}

  def preview(self, state: TrainState, frozen: Any, batch: stages.Batch) -> dict[str, jax.Array]:
    """Returns clean images, what PDPS makes of them at this point, and VAE(clean)."""
    key = stream_key(self.seed, 'pdps', state.step)
    perturbed = pdps_lib.perturb(key, batch['clean'], batch['degraded'], state.step / self.steps, self.pdps)
    reconstruction = self.networks.reconstruct(self.export(state, frozen), batch['clean'])
    return {'clean': batch['clean'], 'perturbed': perturbed, 'reconstruction': reconstruction}


def _update_moments(moments: Any, mean: jax.Array) -> Any:
  batch = {
    'mean': jnp.mean(mean, axis=(0, 1, 2)),
    'square': jnp.mean(jnp.square(mean), axis=(0, 1, 2)),
    'weight': jnp.ones(()),
  }
  return jax.tree.map(lambda average, value: MOMENTS_DECAY * average + (1.0 - MOMENTS_DECAY) * value, moments, batch)


def make(stage: Stage1) -> stages.Stage:
  """Returns the stage's value."""

  def step_at(scale: float | None) -> stages.StepFn:
    return lambda state, frozen, batch: stage.step(state, frozen, batch, scale=scale)

  steps = {f'scale_{scale}': step_at(scale) for scale in stage.losses.equivariance_scales}
  if stage.reconstruction_steps:
    steps[RECONSTRUCTION] = step_at(None)
  return stages.Stage(
    name='stage1',
    stretches=(stages.Stretch(0, stage.steps, stage.batch_size, stage.crop_size),),
    init=stage.init,
    steps=steps,
    phase=stage.phase,
    export=stage.export,
    preview=stage.preview,
  )
