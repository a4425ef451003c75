"""Both stages with the frequency-enhanced VAE: finite steps that move what they should, to a restored image."""

import jax
import numpy as np
import pytest

from lh_jax import inference
from lh_jax import networks as networks_lib
from lh_jax.stages import build

from tests.conftest import tiny_config


@pytest.fixture(scope='module')
def config():
  config = tiny_config()
  config.vae.preset = 'tiny_fe'
  config.lora.min_kernel = 1
  # One pass through each half: every further one takes as long to compile.
  config.stage1.variant = 'release'
  config.losses.equivariance = 0.0
  return config


@pytest.fixture(scope='module')
def networks(config):
  return networks_lib.build({section: config[section].to_dict() for section in networks_lib.SECTIONS})


@pytest.fixture(scope='module')
def batch():
  """Images and noisy versions of them; one is black."""
  rng = np.random.default_rng(0)
  clean = rng.uniform(0.2, 0.8, (4, 32, 32, 3)).astype(np.float32)
  degraded = np.clip(clean + rng.normal(0, 0.1, clean.shape), 0, 1).astype(np.float32)
  clean[0] = degraded[0] = 0
  return {'clean': clean, 'degraded': degraded}


def moved(before, after):
  """Names of the subtrees that a step changed; all of them are finite."""
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
  same = lambda a, b: all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))
  return {name for name in before if not same(before[name], after[name])}


def test_stage1_step(config, networks, batch):
  stage = build.build('stage1', config, networks)
  state = stage.init(jax.random.key(0))
  frozen = {'foundation': build.foundation(config, 'stage1').init(jax.random.key(5))}
  after, metrics = jax.jit(stage.steps[stage.phase(0)])(state, frozen, batch)
  assert moved(state.params, after.params) == {'vae', 'projector'}
  assert all(np.isfinite(value) for value in metrics.values())


def test_stage2_steps_and_a_restored_image(config, networks, batch):
  stage = build.build('stage2', config, networks)
  parts = networks.init_vae(jax.random.key(7))
  frozen = {name: parts[name] for name in networks_lib.STAGE1_PARTS}
  # At the first step of 2b, every learning rate is that of a step.
  state = stage.init(jax.random.key(0)).replace(step=np.int32(config.stage2.restorer_steps))
  expected = {
    'restorer': {'restorer'},
    'encoder_lora': {'encoder_lora'},
    'decoder_lora': {'decoder_lora', 'discriminator'},
  }
  for phase, names in expected.items():
    after, metrics = jax.jit(stage.steps[phase])(state, frozen, batch)
    assert moved(state.params, after.params) == names
    assert all(np.isfinite(value) for value in metrics.values())
    state = after
  params = jax.device_get(stage.export(state, frozen))
  image = (255 * batch['degraded'][1]).astype(np.uint8)[:27]
  restored = inference.Restorer(networks, params).restore(image)
  assert restored.shape == image.shape and restored.dtype == np.uint8
