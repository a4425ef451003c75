"""Stages from the sections of a config."""

from __future__ import annotations

from typing import Any, Mapping

from lh_jax import losses as losses_lib
from lh_jax import networks as networks_lib
from lh_jax import optim
from lh_jax import stages
from lh_jax.models import discriminator
from lh_jax.models import foundation as foundation_lib
from lh_jax.stages import pdps
from lh_jax.stages import stage1
from lh_jax.stages import stage2

STAGES = ('stage1', 'stage2')


def foundation(config: Mapping[str, Any], name: str) -> foundation_lib.FoundationModel | None:
  """Returns the foundation model of a stage, by name: None where the term that it is for is off.

  In stage 1 that is L_Inv, of images of the section's input size; in stage 2 the perceptual term, of whole crops.
  """
  section, losses = config['foundation'], config['losses']
  if name == 'stage1':
    return foundation_lib.build(section['name'], input_size=section['input_size']) if losses['invariance'] else None
  trained = config['stage2']['lora_steps'] and 'decoder_lora' in config['stage2']['lora_phases']
  return foundation_lib.build(section['name']) if trained and losses['phf_perceptual'] else None


def build(name: str, config: Mapping[str, Any], networks: networks_lib.Networks) -> stages.Stage:
  """Builds a stage.

  Args:
    name: 'stage1' or 'stage2'.
    config: mapping with the sections of configs/base.py.
    networks: the model.

  Raises:
    ValueError: unknown stage, or options that do not fit.
  """
  if name not in STAGES:
    raise ValueError(f'Unknown stage {name!r} in train.stages; known: {STAGES}.')
  section = dict(config[name])
  losses = losses_lib.LossSettings(**config['losses'])
  seed = config['train']['seed']
  model = foundation(config, name)
  if name == 'stage1':
    optimizer = optim.Optimizer(**config['optim']['stage1'], first_step=0, last_step=section['steps'])
    settings = pdps.PDPS(**config['pdps'])
    return stage1.make(
      stage1.Stage1(
        **section, seed=seed, networks=networks, foundation=model, optimizer=optimizer, pdps=settings, losses=losses
      )
    )
  split, end = section['restorer_steps'], section['restorer_steps'] + section['lora_steps']
  spans = {name: (split, end) for name in stage2.OPTIMIZERS} | {
    'restorer': (0, end if section['joint_restorer'] else split)
  }
  optimizers = {
    name: optim.Optimizer(**config['optim'][name], first_step=first, last_step=last)
    for name, (first, last) in spans.items()
  }
  judge = discriminator.UNetDiscriminator(**config['discriminator'])
  return stage2.make(
    stage2.Stage2(
      **section, networks=networks, foundation=model, discriminator=judge, optimizers=optimizers, losses=losses
    )
  )
