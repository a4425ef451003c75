"""The step functions of both stages: what each trains, what it leaves alone, that losses fall; every option."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import networks as networks_lib
from lh_jax import stages
from lh_jax.stages import build


def make(config, name):
  sections = {section: config[section].to_dict() for section in networks_lib.SECTIONS}
  networks = networks_lib.build(sections)
  return networks, build.build(name, config, networks)


@pytest.fixture(scope='module')
def batch():
  """Eight smooth images and noisy versions of them."""
  rng = np.random.default_rng(0)
  coarse = rng.uniform(0.2, 0.8, (8, 4, 4, 3)).astype(np.float32)
  clean = jnp.clip(jax.image.resize(jnp.asarray(coarse), (8, 32, 32, 3), 'linear'), 0, 1)
  noise = jnp.asarray(rng.normal(0, 0.1, clean.shape), jnp.float32)
  return {'clean': clean, 'degraded': jnp.clip(clean + noise, 0, 1)}


def changed(before, after):
  """Names of the subtrees that differ in any bit."""
  same = lambda a, b: all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))
  return {name for name in before if not same(before[name], after[name])}


def stage1_frozen(config):
  model = build.foundation(config, 'stage1')
  return {'foundation': model.init(jax.random.key(5))} if model else {'foundation': {}}


def stage2_frozen(networks):
  parts = networks.init_vae(jax.random.key(7))
  return {name: parts[name] for name in networks_lib.STAGE1_PARTS}


def test_stage1_step_trains_vae_and_projection(tiny_config, batch):
  tiny_config.stage1.steps = 12
  _, stage = make(tiny_config, 'stage1')
  state, frozen = stage.init(jax.random.key(0)), stage1_frozen(tiny_config)
  assert set(state.params) == {'vae', 'projector'}
  step = jax.jit(stage.steps[stage.phase(0)])
  before, totals = state, []
  for _ in range(12):
    state, metrics = step(state, frozen, batch)
    totals.append(float(metrics['stage1/total']))
  assert int(state.step) == 12
  assert changed(before.params, state.params) == {'vae', 'projector'}
  assert totals[-1] < totals[0]
  expected = {'reconstruction', 'kl', 'equivariance', 'invariance', 'total', 'grad_norm', 'learning_rate'}
  assert set(metrics) == {f'stage1/{name}' for name in expected}
  # L_Stage1 = L_1 + 1e-8 KL + 0.6 L_Eqv + 0.8 L_Inv (Supp. D.4).
  m = {name: float(metrics[f'stage1/{name}']) for name in expected}
  assert m['total'] == pytest.approx(
    m['reconstruction'] + 1e-8 * m['kl'] + 0.6 * m['equivariance'] + 0.8 * m['invariance'], rel=1e-5
  )
  export = stage.export(state, frozen)
  assert set(export) == set(networks_lib.STAGE1_PARTS)
  assert float(export['latent']['std'].min()) > 0
  assert set(stage.preview(state, frozen, batch)) == {'clean', 'perturbed', 'reconstruction'}


def test_latent_moments_are_those_of_the_clean_latents(tiny_config, batch):
  """With a zero learning rate the VAE stands still and the running moments are exact."""
  tiny_config.optim.stage1.update({'learning_rate': 0.0, 'final_learning_rate': 0.0, 'weight_decay': 0.0})
  networks, stage = make(tiny_config, 'stage1')
  state, frozen = stage.init(jax.random.key(0)), stage1_frozen(tiny_config)
  step = jax.jit(stage.steps[stage.phase(0)])
  for _ in range(2):
    state, _ = step(state, frozen, batch)
  mean, _ = networks.vae.encode(state.params['vae']['encoder'], batch['clean'])
  latent = stage.export(state, frozen)['latent']
  np.testing.assert_allclose(latent['mean'], mean.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(latent['std'], mean.std(axis=(0, 1, 2)), rtol=1e-3, atol=1e-5)


def test_stage1_variants(tiny_config, batch):
  """'release' encodes only the perturbed image; without L_Inv no foundation model and no projection exist."""
  tiny_config.stage1.variant = 'release'
  tiny_config.losses.invariance = 0.0
  _, stage = make(tiny_config, 'stage1')
  frozen = stage1_frozen(tiny_config)
  state = stage.init(jax.random.key(0))
  assert set(state.params) == {'vae'}
  _, metrics = jax.jit(stage.steps[stage.phase(0)])(state, frozen, batch)
  assert 'stage1/invariance' not in metrics and np.isfinite(metrics['stage1/total'])


@pytest.mark.parametrize('kind', ['vit', 'mae', 'clip', 'siglip', 'sam'])
def test_stage1_runs_with_every_kind_of_foundation_model(tiny_config, batch, kind):
  tiny_config.foundation.name = f'tiny_{kind}'
  _, stage = make(tiny_config, 'stage1')
  state, frozen = stage.init(jax.random.key(0)), stage1_frozen(tiny_config)
  after, metrics = jax.jit(stage.steps[stage.phase(0)])(state, frozen, batch)
  assert changed(state.params, after.params) == {'vae', 'projector'}
  assert all(np.isfinite(value) for value in metrics.values())
  # The features of random networks are as well aligned as chance has it: 1 - cos is near 1.
  assert 0.5 < metrics['stage1/invariance'] < 1.5


@pytest.mark.parametrize('distance', ['cosine', 'vavae'])
@pytest.mark.parametrize('kind', ['vit', 'mae', 'clip', 'siglip', 'sam'])
def test_both_forms_of_invariance_reach_latent_and_projection(tiny_config, batch, kind, distance):
  tiny_config.foundation.name = f'tiny_{kind}'
  tiny_config.losses.invariance_distance = distance
  networks, made = make(tiny_config, 'stage1')
  stage = made.init.__self__  # the Stage1 behind the functions
  frozen = stage1_frozen(tiny_config)['foundation']
  state = jax.eval_shape(stage.init, jax.random.key(0))
  rng = np.random.default_rng(0)
  projector = jnp.asarray(rng.normal(size=state.params['projector'].shape), jnp.float32)
  assert projector.shape[1] == stage.foundation.channels
  latent = jax.eval_shape(networks.vae.encode, state.params['vae']['encoder'], batch['clean'])[0]
  latent = jnp.asarray(rng.normal(size=latent.shape), jnp.float32)
  value, gradients = jax.jit(jax.value_and_grad(stage.invariance, argnums=(0, 2)))(
    projector, frozen, latent, batch['clean']
  )
  assert np.isfinite(value) and value > 0
  assert all(np.isfinite(gradient).all() and np.abs(gradient).max() > 0 for gradient in gradients)


def test_stage1_without_equivariance(tiny_config, batch):
  tiny_config.losses.update({'invariance': 0.0, 'equivariance': 0.0})
  _, stage = make(tiny_config, 'stage1')
  _, metrics = jax.jit(stage.steps[stage.phase(0)])(stage.init(jax.random.key(0)), stage1_frozen(tiny_config), batch)
  assert 'stage1/equivariance' not in metrics


def test_equivariance_scales_take_turns(tiny_config):
  tiny_config.losses.equivariance_scales = (0.25, 0.5, 0.75)
  _, stage = make(tiny_config, 'stage1')
  phases = [stage.phase(step) for step in range(60)]
  assert set(phases) == set(stage.steps) == {'scale_0.25', 'scale_0.5', 'scale_0.75'}
  assert phases == [stage.phase(step) for step in range(60)]


@pytest.mark.parametrize('variant', ['paper', 'release'])
def test_stage1_may_begin_with_l_vae_alone(tiny_config, batch, variant):
  tiny_config.stage1.update({'reconstruction_steps': 3, 'variant': variant})
  tiny_config.losses.equivariance_scales = (0.5,)
  networks, stage = make(tiny_config, 'stage1')
  assert [stage.phase(step) for step in range(4)] == ['reconstruction'] * 3 + ['scale_0.5']
  state, frozen = stage.init(jax.random.key(0)), stage1_frozen(tiny_config)
  after, metrics = jax.jit(stage.steps['reconstruction'])(state, frozen, batch)
  assert not {'stage1/equivariance', 'stage1/invariance'} & set(metrics)
  # Its sum is L_1 + 1e-8 KL, and nothing moves the projection but its decay.
  assert float(metrics['stage1/total']) == pytest.approx(
    float(metrics['stage1/reconstruction']) + networks.vae.preset.kl_weight * float(metrics['stage1/kl']), rel=1e-6
  )
  assert 'vae' in changed(state.params, after.params)
  np.testing.assert_allclose(after.params['projector'], state.params['projector'], rtol=1e-4)


@pytest.mark.parametrize('method', ['adamw', 'muon'])
def test_either_method_of_optimization_trains_a_stage(tiny_config, batch, method):
  tiny_config.losses.invariance = 0.0
  tiny_config.optim.stage1.method = method
  _, stage = make(tiny_config, 'stage1')
  state, frozen = stage.init(jax.random.key(0)), stage1_frozen(tiny_config)
  step, totals = jax.jit(stage.steps[stage.phase(0)]), []
  for _ in range(8):
    state, metrics = step(state, frozen, batch)
    totals.append(float(metrics['stage1/total']))
  assert totals[-1] < totals[0]


def test_stage2_phases(tiny_config):
  """2a, then FHF and PHF in turns of ten (Supp. B.2)."""
  tiny_config.stage2.update({'restorer_steps': 5, 'lora_steps': 40, 'alternate_steps': 10})
  _, stage = make(tiny_config, 'stage2')
  phases = [stage.phase(step) for step in range(stage.total_steps)]
  assert phases == ['restorer'] * 5 + (['encoder_lora'] * 10 + ['decoder_lora'] * 10) * 2


def test_one_lora_phase_alone(tiny_config):
  """An ablation of Table 5a: the other branch is never stepped."""
  tiny_config.stage2.update({'restorer_steps': 1, 'lora_steps': 30, 'lora_phases': ('decoder_lora',)})
  _, stage = make(tiny_config, 'stage2')
  assert [stage.phase(step) for step in range(stage.total_steps)] == ['restorer'] + ['decoder_lora'] * 30


def test_progressive_learning(tiny_config):
  """Batch and crop change at the steps named; what is left after some steps begins there."""
  tiny_config.stage2.update({'restorer_steps': 6, 'lora_steps': 4, 'progressive': ((3, 4, 64), (6, 2, 96))})
  _, stage = make(tiny_config, 'stage2')
  first, second, third = stage.stretches
  assert first == stages.Stretch(0, 3, 8, 32) and third == stages.Stretch(6, 10, 2, 96) and stage.total_steps == 10
  assert stage.stretches_from(4) == [stages.Stretch(4, 6, 4, 64), third]
  assert stage.stretches_from(6) == [third] and stage.stretches_from(10) == []
  assert stage.stretches_from(0) == [first, second, third]


PHASE_TRAINS = {
  'restorer': {'restorer'},
  'encoder_lora': {'encoder_lora'},
  'decoder_lora': {'decoder_lora', 'discriminator'},
}


@pytest.mark.parametrize('phase', sorted(PHASE_TRAINS))
def test_stage2_phase_trains_its_network_only(tiny_config, batch, phase):
  """Every other tree, optimizer states and averages included, is bit-identical after a step; the losses fall."""
  networks, stage = make(tiny_config, 'stage2')
  frozen = stage2_frozen(networks)
  before = jax.tree.map(np.asarray, frozen)
  first = state = stage.init(jax.random.key(1))
  step = jax.jit(stage.steps[phase])
  losses = []
  for _ in range(6):
    state, metrics = step(state, frozen, batch)
    losses.append(float(metrics[{'decoder_lora': 'stage2/discriminator_loss'}.get(phase, f'stage2/{phase}_loss')]))
  assert changed(first.params, state.params) == PHASE_TRAINS[phase]
  assert changed(first.opt, state.opt) == PHASE_TRAINS[phase]
  assert changed(first.ema, state.ema) == ({'restorer'} if phase == 'restorer' else set())
  assert (
    changed(first.stats, state.stats)
    == {'restorer': {'restorer'}, 'encoder_lora': set(), 'decoder_lora': {'discriminator'}}[phase]
  )
  jax.tree.map(np.testing.assert_array_equal, frozen, before)
  assert losses[-1] < losses[0]
  assert int(state.step) == 6


RESTORERS = {
  'nafnet': {'dims': None, 'width': 8, 'blocks': (1, 1, 1)},
  'restormer': {'dims': None, 'width': 8, 'blocks': (1, 1)},
}


@pytest.mark.parametrize('name', sorted(RESTORERS))
def test_stage2_with_the_other_restorers(tiny_config, batch, name):
  """Table 5c: the restorer learns and keeps no statistics."""
  tiny_config.restorer.update({'name': name, **RESTORERS[name]})
  networks, stage = make(tiny_config, 'stage2')
  frozen = stage2_frozen(networks)
  first = state = stage.init(jax.random.key(1))
  step = jax.jit(stage.steps['restorer'])
  losses = []
  for _ in range(4):
    state, metrics = step(state, frozen, batch)
    losses.append(float(metrics['stage2/restorer_loss']))
  assert changed(first.params, state.params) == {'restorer'} and not changed(first.stats, state.stats)
  # Behind the last convolution, which starts at zero, everything moves as well.
  same = jax.tree.map(np.array_equal, first.params['restorer'], state.params['restorer'])
  assert not any(jax.tree.leaves(same)) and losses[-1] < losses[0]


def test_joint_restorer_also_trains_theta(tiny_config, batch):
  tiny_config.stage2.joint_restorer = True
  networks, stage = make(tiny_config, 'stage2')
  first = stage.init(jax.random.key(1))
  state, metrics = jax.jit(stage.steps['encoder_lora'])(first, stage2_frozen(networks), batch)
  assert changed(first.params, state.params) == {'encoder_lora', 'restorer'}
  assert 'stage2/restorer_loss' in metrics


def test_printed_fhf_path_leaves_the_restorer_out(tiny_config, batch):
  """Eq. 8 as printed: the loss does not depend on theta; through R it does."""
  losses = {}
  for path in ('paper', 'with_restorer'):
    tiny_config.stage2.fhf_path = path
    networks, stage = make(tiny_config, 'stage2')
    step = jax.jit(stage.steps['encoder_lora'])
    state = stage.init(jax.random.key(1))
    moved = state.replace(ema={'restorer': jax.tree.map(lambda x: x + 0.1, state.ema['restorer'])})
    losses[path] = [
      float(step(s, stage2_frozen(networks), batch)[1]['stage2/encoder_lora_loss']) for s in (state, moved)
    ]
  assert losses['paper'][0] == losses['paper'][1]
  assert losses['with_restorer'][0] != losses['with_restorer'][1]
  # A fresh restorer is the identity, so both paths start alike.
  assert losses['paper'][0] == pytest.approx(losses['with_restorer'][0], rel=1e-4)


def test_printed_phf_loss_is_the_gan_term_alone(tiny_config, batch):
  """With no weight at all on either term nothing moves; hinge is an option."""
  tiny_config.losses.update({'phf_fidelity': 0.0, 'gan': 0.0, 'gan_kind': 'hinge'})
  networks, stage = make(tiny_config, 'stage2')
  first = stage.init(jax.random.key(1))
  state, _ = jax.jit(stage.steps['decoder_lora'])(first, stage2_frozen(networks), batch)
  assert changed(first.params, state.params) == {'discriminator'}


def test_perceptual_term_beside_the_printed_phf_loss(tiny_config, batch):
  """Alone, it moves the branch (and nothing but the discriminator's own loss the discriminator), and falls."""
  tiny_config.losses.update({'phf_fidelity': 0.0, 'gan': 0.0, 'phf_perceptual': 1.0, 'invariance': 0.0})
  networks, stage = make(tiny_config, 'stage2')
  model = build.foundation(tiny_config, 'stage2')
  assert build.foundation(tiny_config, 'stage1') is None
  frozen = stage2_frozen(networks) | {'foundation': model.init(jax.random.key(5))}
  first = state = stage.init(jax.random.key(1))
  step = jax.jit(stage.steps['decoder_lora'])
  distances = []
  for _ in range(6):
    state, metrics = step(state, frozen, batch)
    distances.append(float(metrics['stage2/decoder_lora_perceptual']))
  assert changed(first.params, state.params) == {'decoder_lora', 'discriminator'}
  assert distances[-1] < distances[0]
  assert set(stage.export(state, frozen)) == set(networks_lib.PARTS)


def test_foundation_model_of_stage2_only_where_its_term_is(tiny_config):
  tiny_config.foundation.name, tiny_config.losses.phf_perceptual = 'tiny_vit', 1.0
  tiny_config.stage2.crop_size = 40
  with pytest.raises(ValueError, match='must be a multiple of 16, for the VAE, .*, the foundation model tiny_vit'):
    make(tiny_config, 'stage2')
  tiny_config.stage2.crop_size = 48
  definition = make(tiny_config, 'stage2')[1].init.__self__
  with pytest.raises(ValueError, match='losses.phf_perceptual needs a foundation model'):
    dataclasses.replace(definition, foundation=None)
  tiny_config.stage2.update({'crop_size': 40, 'lora_phases': ('encoder_lora',)})
  _, stage = make(tiny_config, 'stage2')
  assert stage.total_steps == 6 and build.foundation(tiny_config, 'stage2') is None


def test_export_of_stage2_is_a_whole_model(tiny_config, batch):
  networks, stage = make(tiny_config, 'stage2')
  state, frozen = stage.init(jax.random.key(1)), stage2_frozen(networks)
  params = stage.export(state, frozen)
  assert set(params) == set(networks_lib.PARTS)
  restored = networks.restore(params, batch['degraded'], 0.5)
  np.testing.assert_allclose(restored, networks.reconstruct(params, batch['degraded']), atol=1e-4)
  assert set(stage.preview(state, frozen, batch)) == {'degraded', 'restored', 'clean'}


@pytest.mark.parametrize(
  'stage, key, value, message',
  [
    ('stage1', 'stage1.variant', 'other', "Unknown stage1.variant 'other'; known: .*'paper', 'release'"),
    ('stage1', 'stage1.reconstruction_steps', 5, r'stage1.reconstruction_steps must lie in \[0, 4\], got 5'),
    ('stage1', 'stage1.crop_size', 36, 'stage1.crop_size=36 at scale 1.0 is no whole number of latent cells of 8 px'),
    (
      'stage1',
      'losses.equivariance_scales',
      (0.3,),
      'at scale 0.3 .* change stage1.crop_size or losses.equivariance_scales',
    ),
    ('stage2', 'stage2.fhf_path', 'none', "Unknown stage2.fhf_path 'none'"),
    ('stage2', 'stage2.lora_phases', (), r"stage2.lora_phases must name some of .*'decoder_lora'\), got \(\)"),
    ('stage2', 'stage2.lora_phases', ('fhf',), r"stage2.lora_phases must name some of .*got \('fhf',\)"),
    ('stage2', 'stage2.alternate_steps', 0, 'stage2.alternate_steps must be at least 1, got 0'),
    ('stage2', 'stage2.crop_size', 36, 'Stage 2 has crops of 36 px; .* must be a multiple of 8'),
    ('stage2', 'stage2.progressive', ((2, 4, 36),), 'Stage 2 has crops of 36 px; .* must be a multiple of 8'),
    ('stage2', 'stage2.progressive', ((2, 4),), r'triples of whole numbers, .*, got \(\(2, 4\),\)'),
    ('stage2', 'stage2.progressive', (2, 4, 64), r'triples of whole numbers, .*, got \(2, 4, 64\)'),
    ('stage2', 'stage2.progressive', ((2.0, 4, 64),), r'triples of whole numbers, .*, got \(\(2.0, 4, 64\),\)'),
    ('stage2', 'stage2.progressive', ((2, 4, 64), (2, 2, 64)), r'must increase, within 1..5, got \[2, 2\]'),
    ('stage2', 'stage2.progressive', ((6, 4, 64),), r'must increase, within 1..5, got \[6\]'),
    ('stage3', 'train.seed', 0, "Unknown stage 'stage3' in train.stages; known"),
  ],
)
def test_errors(tiny_config, stage, key, value, message):
  tiny_config.update_from_flattened_dict({key: value})
  with pytest.raises(ValueError, match=message):
    make(tiny_config, stage)
