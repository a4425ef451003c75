"""lh_jax.networks: the composition, alpha, and the paper's budget."""

import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import networks as networks_lib
from lh_jax.models import summary

from tests.conftest import ROOT


def sections(config):
  return {name: config[name].to_dict() for name in networks_lib.SECTIONS}


@pytest.fixture(scope='module')
def model():
  """A tiny model with a non-trivial restorer, latent normalisation and LoRA branches."""
  from tests.conftest import tiny_config

  networks = networks_lib.build(sections(tiny_config()))
  params = jax.jit(networks.init)(jax.random.key(0))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  jittered = jax.tree.unflatten(
    tree, [leaf + 0.02 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves)]
  )
  jittered['latent']['std'] = jnp.full_like(jittered['latent']['std'], 0.7)
  return networks, jittered


def test_default_model_is_within_the_papers_budget():
  """1.2 M parameters and 3.6 G multiply-adds at 256 x 256 (Table 1), within 5 %."""
  config = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  networks = networks_lib.build(sections(config))
  params = jax.eval_shape(networks.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
  multiply_adds = summary.multiply_adds(lambda params, image: networks.restore(params, image, 0.5), params, image)
  parameters = summary.parameters({name: params[name] for name in ('vae', 'restorer')})
  assert parameters == 1_203_027 and multiply_adds == 3_646_373_888
  assert abs(parameters / 1.2e6 - 1) < 0.05 and abs(multiply_adds / 3.6e9 - 1) < 0.05


def test_the_readmes_sizes():
  config = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  params = jax.eval_shape(networks_lib.build(sections(config)).init, jax.random.key(0))
  sizes = {name: summary.parameters(tree) for name, tree in params.items()}
  readme = (ROOT / 'README.md').read_text(encoding='utf-8')
  branches = sizes['encoder_lora'] + sizes['decoder_lora']
  for size in (sizes['vae'], sizes['restorer'], sizes['vae'] + sizes['restorer'], branches):
    assert f'{size:,}'.replace(',', ' ') in readme


def test_alpha_is_the_papers_rule(model):
  """phi* + alpha dphi in the encoder, psi* + (1 - alpha) dpsi in the decoder, written out."""
  networks, params = model
  images = jax.random.uniform(jax.random.key(2), (1, 16, 24, 3))
  restore = jax.jit(networks.restore)

  @jax.jit
  def by_hand(alpha):
    encoder = networks.adapt(params['vae']['encoder'], params['encoder_lora'], alpha)
    mean, _ = networks.vae.encode(encoder, images)
    scale, shift = (params['latent'][name].reshape(1, 1, 1, -1) for name in ('std', 'mean'))
    z = networks.restore_latent(params['restorer'], params['restorer_stats'], (mean - shift) / scale)
    decoder = networks.adapt(params['vae']['decoder'], params['decoder_lora'], 1 - alpha)
    return networks.vae.decode(decoder, z * scale + shift)

  outputs = []
  for alpha in (0.0, 0.3, 1.0):
    outputs.append(np.asarray(restore(params, images, jnp.float32(alpha))))
    np.testing.assert_allclose(outputs[-1], by_hand(jnp.float32(alpha)), atol=1e-5)
  assert restore._cache_size() == 1
  assert np.abs(outputs[0] - outputs[2]).max() > 1e-4


def test_fresh_stage2_parts_change_nothing(tiny_config):
  networks = networks_lib.build(sections(tiny_config))
  params = jax.jit(networks.init)(jax.random.key(0))
  images = jax.random.uniform(jax.random.key(2), (1, 16, 16, 3))
  restored, reconstructed = jax.jit(lambda p, x: (networks.restore(p, x, 0.3), networks.reconstruct(p, x)))(
    params, images
  )
  np.testing.assert_allclose(restored, reconstructed, atol=1e-4)


def test_jit_equals_no_jit(model):
  networks, params = model
  images = jax.random.uniform(jax.random.key(2), (1, 16, 16, 3))
  with jax.disable_jit():
    plain = networks.restore(params, images, 0.5)
  np.testing.assert_allclose(jax.jit(networks.restore)(params, images, 0.5), plain, atol=1e-4)
