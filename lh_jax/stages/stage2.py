"""Stage 2: the restorer in the frozen latent space, then the two high-frequency LoRA branches in alternation (Sec. 3.3,
Eqs. 7 to 9).

  2a       L_Res = |D*(R(E*(I_deg))) - I_clean|_1                            trains theta          (Eq. 7)
  2b FHF   |HF(D*(R(E_{phi*+dphi}(I_deg)))) - HF(I_clean)|_1                 trains dphi           (Eq. 8)
  2b PHF   -E log D_HF(HF(D_{psi*+dpsi}(R(E*(I_deg)))))                      trains dpsi, and D_HF (Eq. 9)

2b switches between FHF and PHF every `alternate_steps` steps (10, Supp. B.2), or trains one of them alone
(`lora_phases`). The paper gives one length for the whole stage; its split is ours. Each phase differentiates with
respect to exactly one network, and the other branch is off (the authors' release keeps both at 0.5).

Eq. 8 as printed leaves R out; inference composes D(R(E)), and an encoder trained without R learns to restore by itself
and feeds R latents that it has never seen. So `fhf_path='with_restorer'` is the default, 'paper' the printed form. With
`joint_restorer`, FHF steps also train theta with L_Res (the abstract's "jointly trains"; the equations freeze it). In
2b, R is the averaged restorer: the one that is exported. `losses.phf_fidelity` adds the L1 distance of HF to Eq. 9, as the
authors' release does, and `losses.phf_perceptual` the perceptual loss that adversarial restoration is commonly trained
with (SRGAN, arXiv 1609.04802), here in the maps of the foundation model.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from lh_jax import losses as losses_lib
from lh_jax import networks as networks_lib
from lh_jax import optim
from lh_jax import stages
from lh_jax.models import discriminator as discriminator_lib
from lh_jax.models import foundation as foundation_lib
from lh_jax.ops import frequency
from lh_jax.state import TrainState, update_ema

FHF_PATHS = ('with_restorer', 'paper')
LORA_PHASES = ('encoder_lora', 'decoder_lora')
OPTIMIZERS = ('restorer', 'encoder_lora', 'decoder_lora', 'discriminator')


def _is_change(change: Any) -> bool:
  whole = isinstance(change, (tuple, list)) and len(change) == 3 and all(type(number) is int for number in change)
  return whole and min(change) >= 1


@dataclasses.dataclass(frozen=True)
class Stage2:
  """config.stage2, config.losses and the networks; its methods are the stage's pure functions.

  Frozen parameters are the stage-1 parts {'vae', 'latent'}, and 'foundation' where there is one.

  Attributes:
    restorer_steps: length of 2a.
    lora_steps: length of 2b; 0 leaves it out.
    lora_phases: what 2b takes in turn: some of `LORA_PHASES`, FHF and PHF.
    alternate_steps: steps between switches of FHF and PHF in 2b.
    batch_size: global batch, at first.
    crop_size: side of a crop, in pixels, at first.
    progressive: progressive learning: ((step, batch_size, crop_size), ...), what both are after so many steps.
    fhf_path: 'with_restorer' or 'paper' (Eq. 8 as printed).
    joint_restorer: also train theta in FHF steps.
    ema_decay: decay of the average of the restorer's parameters, which is exported.
    networks: the model.
    foundation: the network of the perceptual term, or None where losses.phf_perceptual is 0.
    discriminator: D_HF.
    optimizers: {name in `OPTIMIZERS`: its optimizer}.
    losses: weights and forms of the losses.
  """

  restorer_steps: int
  lora_steps: int
  lora_phases: tuple[str, ...]
  alternate_steps: int
  batch_size: int
  crop_size: int
  progressive: tuple[tuple[int, int, int], ...]
  fhf_path: str
  joint_restorer: bool
  ema_decay: float
  networks: networks_lib.Networks
  foundation: foundation_lib.FoundationModel | None
  discriminator: discriminator_lib.UNetDiscriminator
  optimizers: dict[str, optim.Optimizer]
  losses: losses_lib.LossSettings

  def __post_init__(self):
    if self.fhf_path not in FHF_PATHS:
      raise ValueError(f'Unknown stage2.fhf_path {self.fhf_path!r}; known: {FHF_PATHS}.')
    if not self.lora_phases or not set(self.lora_phases) <= set(LORA_PHASES):
      raise ValueError(f'stage2.lora_phases must name some of {LORA_PHASES}, got {tuple(self.lora_phases)}.')
    if self.alternate_steps < 1:
      raise ValueError(f'stage2.alternate_steps must be at least 1, got {self.alternate_steps}.')
    if not all(_is_change(change) for change in self.progressive):
      raise ValueError(
        'stage2.progressive must hold triples of whole numbers, ((step, batch_size, crop_size), ...), got '
        f'{self.progressive}.'
      )
    lengths = [stretch.stop - stretch.start for stretch in self.stretches]
    if min(lengths) < 1:
      raise ValueError(
        f'The steps of stage2.progressive must increase, within 1..{sum(lengths) - 1}, got '
        f'{[step for step, _, _ in self.progressive]}; () leaves it out.'
      )
    if (
      self.losses.phf_perceptual and self.foundation is None and 'decoder_lora' in self.lora_phases and self.lora_steps
    ):
      raise ValueError('losses.phf_perceptual needs a foundation model, and Stage2.foundation is None.')
    multiples = {'the VAE': self.networks.vae.preset.factor, 'the discriminator': 8}
    if self.foundation is not None:
      multiples[f'the foundation model {self.foundation.name}'] = self.foundation.image_size_multiple
    factor = math.lcm(*multiples.values())
    for crop in (self.crop_size, *(crop for _, _, crop in self.progressive)):
      if crop % factor:
        raise ValueError(
          f'Stage 2 has crops of {crop} px; crop_size, and each in progressive, must be a multiple of {factor}, for '
          f'{", ".join(multiples)}.'
        )

  @property
  def stretches(self) -> tuple[stages.Stretch, ...]:
    """The steps, by the size of their batches."""
    changes = ((0, self.batch_size, self.crop_size), *self.progressive)
    stops = (*(step for step, _, _ in self.progressive), self.restorer_steps + self.lora_steps)
    return tuple(stages.Stretch(start, stop, *sizes) for (start, *sizes), stop in zip(changes, stops))

  def phase(self, step: int) -> str:
    """Returns which step function a step belongs to."""
    if step < self.restorer_steps:
      return 'restorer'
    turn = (step - self.restorer_steps) // self.alternate_steps
    return self.lora_phases[turn % len(self.lora_phases)]

  def init(self, key: jax.Array) -> TrainState:
    """Returns a fresh state; everything new starts without effect."""
    parts_key, discriminator_key = jax.random.split(key)
    parts = self.networks.init_restoration(parts_key)
    judge = self.discriminator.init(discriminator_key, jnp.zeros((1, 8, 8, 3)), update_stats=False)
    params = {name: parts[name] for name in ('restorer', 'encoder_lora', 'decoder_lora')} | {
      'discriminator': judge['params']
    }
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt={name: self.optimizers[name].init(params[name]) for name in OPTIMIZERS},
      ema={'restorer': jax.tree.map(jnp.copy, params['restorer'])},
      stats={'restorer': parts['restorer_stats'], 'discriminator': judge['batch_stats']},
    )

  def _restored_latent(self, state: TrainState, frozen: Any, encoder_params: Any, degraded: jax.Array) -> jax.Array:
    z = self.networks.encode(encoder_params, frozen['latent'], degraded)
    return self.networks.restore_latent(state.ema['restorer'], state.stats['restorer'], z)

  def _optimize(self, state: TrainState, name: str, grads: Any) -> tuple[TrainState, stages.Metrics]:
    """Steps one network, leaving `state.step` alone."""
    params, opt, metrics = self.optimizers[name].update(grads, state.opt[name], state.params[name], step=state.step)
    state = state.replace(params=state.params | {name: params}, opt=state.opt | {name: opt})
    return state, {f'{name}/{metric}': value for metric, value in metrics.items()}

  def _train_restorer(self, state: TrainState, frozen: Any, batch: stages.Batch) -> tuple[TrainState, stages.Metrics]:
    """L_Res (Eq. 7): steps theta, its statistics and its average."""
    z = self.networks.encode(frozen['vae']['encoder'], frozen['latent'], batch['degraded'])

    def loss(params: Any) -> tuple[jax.Array, Any]:
      variables = {'params': params, 'batch_stats': state.stats['restorer']}
      restored, new = self.networks.restorer.apply(variables, z, train=True, mutable=['batch_stats'])
      output = self.networks.decode(frozen['vae']['decoder'], frozen['latent'], restored)
      return losses_lib.l1(output, batch['clean']), new.get('batch_stats', {})

    (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params['restorer'])
    state, metrics = self._optimize(state, 'restorer', grads)
    ema = update_ema(state.ema['restorer'], state.params['restorer'], decay=self.ema_decay, step=state.step)
    state = state.replace(ema={'restorer': ema}, stats=state.stats | {'restorer': stats})
    return state, metrics | {'restorer/loss': value}

  def restorer_step(self, state: TrainState, frozen: Any, batch: stages.Batch) -> tuple[TrainState, stages.Metrics]:
    """One step of 2a."""
    state, metrics = self._train_restorer(state, frozen, batch)
    return state.replace(step=state.step + 1), _named(metrics)

  def encoder_lora_step(self, state: TrainState, frozen: Any, batch: stages.Batch) -> tuple[TrainState, stages.Metrics]:
    """One FHF step (Eq. 8)."""
    metrics = {}
    if self.joint_restorer:
      state, metrics = self._train_restorer(state, frozen, batch)
    vae, latent = frozen['vae'], frozen['latent']
    target = frequency.high_pass(batch['clean'], cutoff=self.losses.hf_cutoff)

    def loss(branch: Any) -> jax.Array:
      encoder = self.networks.adapt(vae['encoder'], branch, 1.0)
      if self.fhf_path == 'with_restorer':
        z = self._restored_latent(state, frozen, encoder, batch['degraded'])
      else:
        z = self.networks.encode(encoder, latent, batch['degraded'])
      output = self.networks.decode(vae['decoder'], latent, z)
      return self.losses.hf_fidelity * losses_lib.l1(frequency.high_pass(output, cutoff=self.losses.hf_cutoff), target)

    value, grads = jax.value_and_grad(loss)(state.params['encoder_lora'])
    state, optimizer_metrics = self._optimize(state, 'encoder_lora', grads)
    return state.replace(step=state.step + 1), _named(metrics | optimizer_metrics | {'encoder_lora/loss': value})

  def decoder_lora_step(self, state: TrainState, frozen: Any, batch: stages.Batch) -> tuple[TrainState, stages.Metrics]:
    """One PHF step (Eq. 9): the discriminator, then the decoder's branch, on the same batch."""
    vae, latent = frozen['vae'], frozen['latent']
    generator_loss, discriminator_loss = losses_lib.GAN_LOSSES[self.losses.gan_kind]
    z = self._restored_latent(state, frozen, vae['encoder'], batch['degraded'])

    def restored_by(branch: Any) -> jax.Array:
      return self.networks.decode(self.networks.adapt(vae['decoder'], branch, 1.0), latent, z)

    def high_pass(images: jax.Array) -> jax.Array:
      return frequency.high_pass(images, cutoff=self.losses.hf_cutoff)

    def judge(params: Any, stats: Any, images: jax.Array, *, update_stats: bool = False) -> Any:
      mutable = ['batch_stats'] if update_stats else False
      return self.discriminator.apply(
        {'params': params, 'batch_stats': stats}, images, update_stats=update_stats, mutable=mutable
      )

    real = high_pass(batch['clean'])
    fake = jax.lax.stop_gradient(high_pass(restored_by(state.params['decoder_lora'])))

    def loss_of_judge(params: Any) -> tuple[jax.Array, Any]:
      stats = state.stats['discriminator']
      # One power iteration a step: both passes start from the same vectors, so they share one estimate of the spectral
      # norms.
      real_logits, new = judge(params, stats, real, update_stats=True)
      return discriminator_loss(real_logits, judge(params, stats, fake)), new['batch_stats']

    (judge_value, spectral), grads = jax.value_and_grad(loss_of_judge, has_aux=True)(state.params['discriminator'])
    state, judge_metrics = self._optimize(state, 'discriminator', grads)

    def loss_of_branch(branch: Any) -> tuple[jax.Array, stages.Metrics]:
      restored = restored_by(branch)
      fake = high_pass(restored)
      parts = {
        'gan': generator_loss(judge(state.params['discriminator'], spectral, fake)),
        'hf_fidelity': losses_lib.l1(fake, real),
      }
      total = self.losses.gan * parts['gan'] + self.losses.phf_fidelity * parts['hf_fidelity']
      if self.foundation is not None:
        parts['perceptual'] = losses_lib.perceptual_distance(
          self.foundation.taps(frozen['foundation'], restored),
          self.foundation.taps(frozen['foundation'], batch['clean']),
        )
        total += self.losses.phf_perceptual * parts['perceptual']
      return total, {f'decoder_lora/{name}': value for name, value in parts.items()}

    grads, parts = jax.grad(loss_of_branch, has_aux=True)(state.params['decoder_lora'])
    state, branch_metrics = self._optimize(state, 'decoder_lora', grads)
    state = state.replace(step=state.step + 1, stats=state.stats | {'discriminator': spectral})
    return state, _named(judge_metrics | branch_metrics | parts | {'discriminator/loss': judge_value})

  def export(self, state: TrainState, frozen: Any) -> dict[str, Any]:
    """Returns the whole model, with the averaged restorer."""
    return {
      'vae': frozen['vae'],
      'latent': frozen['latent'],
      'restorer': state.ema['restorer'],
      'restorer_stats': state.stats['restorer'],
      'encoder_lora': state.params['encoder_lora'],
      'decoder_lora': state.params['decoder_lora'],
    }

  def preview(self, state: TrainState, frozen: Any, batch: stages.Batch) -> dict[str, jax.Array]:
    """Returns degraded and clean images and what the model makes of the former at alpha 0.5."""
    restored = self.networks.restore(self.export(state, frozen), batch['degraded'], 0.5)
    return {'degraded': batch['degraded'], 'restored': restored, 'clean': batch['clean']}


def _named(metrics: stages.Metrics) -> stages.Metrics:
  return {f'stage2/{name.replace("/", "_")}': value for name, value in metrics.items()}


def make(stage: Stage2) -> stages.Stage:
  """Returns the stage's value."""
  return stages.Stage(
    name='stage2',
    stretches=stage.stretches,
    init=stage.init,
    steps={
      'restorer': stage.restorer_step,
      'encoder_lora': stage.encoder_lora_step,
      'decoder_lora': stage.decoder_lora_step,
    },
    phase=stage.phase,
    export=stage.export,
    preview=stage.preview,
  )
