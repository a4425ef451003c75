"""lh_jax.models.vae: sizes, locality, shapes, errors."""

import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import networks as networks_lib
from lh_jax.data import sources
from lh_jax.models import summary
from lh_jax.models import vae
from lh_jax.models.vae import convolutional

from tests.conftest import ROOT


@pytest.mark.parametrize(
  'preset, parameters, multiply_adds',
  # Counted by hand from the layer table of the recipe, convolution by convolution.
  [
    ('lh', 601_068, 3_456_106_496),
    ('lh_conv', 535_779, 3_460_300_800),
    ('vae2', 601_068, 3_456_106_496),
    # Of the authors' code, counted by thop: 1.067 M and 3.44 G as published, 1.121 M and 3.49 G with 32 channels.
    ('uhd_processer', 1_067_343, 3_437_160_448),
    ('lh_fe', 1_120_643, 3_491_620_864),
  ],
)
def test_sizes(preset, parameters, multiply_adds):
  model = vae.build(preset=preset)
  params = jax.eval_shape(model.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)

  def reconstruct(params, image):
    return model.decode(params['decoder'], model.encode(params['encoder'], image)[0])

  assert summary.parameters(params) == parameters
  assert summary.multiply_adds(reconstruct, params, image) == multiply_adds


@pytest.mark.parametrize(
  'preset, factor, channels, kl',
  [('vae1', 32, 8, 1e-4), ('vae2', 8, 32, 1e-8), ('lh', 8, 32, 1e-8), ('lh_fast', 8, 32, 1e-8)],
)
def test_latent_of_each_preset(preset, factor, channels, kl):
  """f, C_z and lambda_KL of VAE1 and VAE2 (Supp. B.2); LH-VAE stands on VAE2."""
  model = vae.build(preset=preset)
  params = jax.eval_shape(model.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
  mean, logvar = jax.eval_shape(model.encode, params['encoder'], image)
  assert mean.shape == logvar.shape == (1, 64 // factor, 96 // factor, channels)
  assert jax.eval_shape(model.decode, params['decoder'], mean).shape == image.shape
  assert model.preset.factor == factor and model.preset.kl_weight == kl


def test_bfloat16_activations_keep_float32_parameters_and_outputs():
  model = vae.build(preset='tiny', dtype=jnp.bfloat16)
  params = model.init(jax.random.key(0))
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  mean, logvar = model.encode(params['encoder'], jnp.full((1, 16, 16, 3), 0.5))
  assert mean.dtype == logvar.dtype == model.decode(params['decoder'], mean).dtype == jnp.float32


def test_encoder_is_local():
  """A pixel far away changes nothing: what makes tiles exact."""
  model = vae.build(preset='tiny')
  params = model.init(jax.random.key(0))
  image = np.asarray(jax.random.uniform(jax.random.key(1), (1, 128, 16, 3)))
  changed = image.copy()
  changed[:, -8:] = 1.0 - changed[:, -8:]
  first, second = (np.asarray(model.encode(params['encoder'], x)[0]) for x in (image, changed))
  np.testing.assert_array_equal(first[:, :4], second[:, :4])
  assert not np.array_equal(first[:, -1], second[:, -1])


def test_group_norm_is_an_option():
  model = vae.build(preset='tiny', norm='group')
  params = model.init(jax.random.key(0))
  assert np.isfinite(model.encode(params['encoder'], jnp.full((1, 16, 16, 3), 0.5))[0]).all()


def test_sample_has_the_posterior_moments():
  mean, logvar = jnp.full((1, 64, 64, 1), 2.0), jnp.full((1, 64, 64, 1), np.log(0.25))
  z = vae.sample(jax.random.key(0), mean, logvar)
  assert abs(float(z.mean()) - 2.0) < 0.03 and abs(float(z.std()) - 0.5) < 0.02


def test_match_channels():
  x = jnp.arange(4.0).reshape(1, 1, 1, 4)
  np.testing.assert_array_equal(convolutional.match_channels(x, 2)[0, 0, 0], [0.5, 2.5])
  np.testing.assert_array_equal(convolutional.match_channels(x, 8)[0, 0, 0], [0, 0, 1, 1, 2, 2, 3, 3])
  with pytest.raises(ValueError, match='cannot turn 4 channels into 3.*vae.channels'):
    convolutional.match_channels(x, 3)


def test_cosines():
  """Orthonormal, the mean of luma first, complete where all are taken; more than there are, are zero."""
  basis = np.asarray(convolutional.cosines(4, 48), np.float64)
  np.testing.assert_allclose(basis.T @ basis, np.eye(48), atol=1e-6)
  np.testing.assert_allclose(np.abs(basis[:, 0]), 48**-0.5, atol=1e-7)
  np.testing.assert_allclose(convolutional.cosines(4, 10), basis[:, :10], atol=1e-7)
  assert convolutional.cosines(4, 50).shape == (48, 50) and not np.any(convolutional.cosines(4, 50)[:, 48:])


def test_cosines_come_in_the_order_of_what_they_carry():
  """Of pixels and channels that are correlated as supposed."""
  place, channel = np.arange(4), np.eye(3) + (1 - np.eye(3)) * convolutional.CHANNEL_CORRELATION
  pixels = convolutional.PIXEL_CORRELATION ** np.abs(place[:, None] - place)
  basis = np.asarray(convolutional.cosines(4, 48), np.float64)
  variances = np.einsum('ik,ij,jk->k', basis, np.kron(np.kron(pixels, pixels), channel), basis)
  np.testing.assert_allclose(variances.sum(), 48, rtol=1e-5)
  assert (np.diff(variances) < 1e-5).all() and variances[0] > 10 * variances[-1]


def test_a_linear_path_is_a_transform_coder_before_training():
  photograph = sources.embedded(split='test')[0]['clean'][None, :256, :256] / np.float32(255)
  errors = {}
  for channels in (16, 64, 192):
    model = vae.build(preset='tiny', linear_path=True, latent_channels=channels)
    params = model.init(jax.random.key(0))
    mean, logvar = model.encode(params['encoder'], photograph)
    np.testing.assert_allclose(jnp.exp(0.5 * logvar), convolutional.INITIAL_DEVIATION, rtol=1e-5)
    errors[channels] = float(jnp.sqrt(jnp.mean((model.decode(params['decoder'], mean) - photograph) ** 2)))
  assert errors[192] < 1e-6 < errors[64] < errors[16] < 0.1


def test_errors():
  with pytest.raises(ValueError, match='frequency-enhanced blocks has no linear path'):
    vae.build(preset='tiny_fe', linear_path=True)
  with pytest.raises(ValueError, match="Unknown vae.preset 'big'; known: .*'lh'"):
    vae.build(preset='big')
  with pytest.raises(ValueError, match='one entry per level'):
    vae.build(preset='tiny', channels=(8, 8))
  with pytest.raises(ValueError, match='must be multiples of 8 in a VAE of frequency-enhanced blocks'):
    vae.build(preset='tiny_fe', channels=(8, 12, 16))
  model = vae.build(preset='tiny')
  with pytest.raises(ValueError, match='multiples of 8, got 12x16'):
    model.encode(model.init(jax.random.key(0))['encoder'], jnp.zeros((1, 12, 16, 3)))


@pytest.mark.parametrize('preset, linear', [('tiny', False), ('tiny', True), ('vae1', False)])
def test_halo_is_what_the_network_depends_on(preset, linear):
  """A NaN spreads to every output that depends on its place: exactly as far as the halo says, in both halves."""
  model = vae.build(preset=preset, linear_path=linear)
  p = model.preset
  params = model.init(jax.random.key(0))
  count = 2 * max(p.encoder_halo, p.decoder_halo) + 5
  centre = count // 2
  image = np.full((1, count * p.factor, 2 * p.factor, 3), 0.5, np.float32)
  image[:, centre * p.factor : (centre + 1) * p.factor] = np.nan
  touched = np.flatnonzero(np.isnan(jax.jit(model.encode)(params['encoder'], image)[0]).any((0, 2, 3)))
  assert max(centre - touched.min(), touched.max() - centre) == p.encoder_halo
  z = np.zeros((1, count, 2, p.latent_channels), np.float32)
  z[:, centre] = np.nan
  decoded = np.isnan(jax.jit(model.decode)(params['decoder'], z)).any((0, 2, 3)).reshape(count, p.factor)
  touched = np.flatnonzero(decoded.any(1))
  assert max(centre - touched.min(), touched.max() - centre) == p.decoder_halo


def test_halos_of_the_presets():
  """Cells; of `lh_conv` as counted by hand, 40 and 64 pixels."""
  halos = {name: (p.encoder_halo, p.decoder_halo) for name, p in vae.PRESETS.items()}
  assert halos['lh'] == (5, 7) and halos['lh_conv'] == (5, 8) and halos['lh_fast'] == (5, 6)
  assert {name for name, p in vae.PRESETS.items() if not p.local} == {'lh_fe', 'uhd_processer', 'tiny_fe'}
  assert {p.local for p in vae.PRESETS.values()} == {not p.global_parts for p in vae.PRESETS.values()}
  assert not vae.build(preset='lh', norm='group').preset.local


def test_the_authors_budget():
  """1.2 M parameters and 3.55 G multiply-adds: the VAE and restorer of configs/ablations.py:vae_lh_fe."""
  get_config = runpy.run_path(str(ROOT / 'configs' / 'ablations.py'))['get_config']
  config = get_config('vae_lh_fe')
  networks = networks_lib.build({section: config[section].to_dict() for section in networks_lib.SECTIONS})
  params = jax.eval_shape(networks.init, jax.random.key(0))
  assert summary.parameters({name: params[name] for name in ('vae', 'restorer')}) == 1_198_966
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
  operations = summary.multiply_adds(lambda params, image: networks.restore(params, image, 0.5), params, image)
  assert operations == 3_547_347_712
