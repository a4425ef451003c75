"""lh_jax.models.vae.frequency: values of the authors' code, gradients, LoRA, devices, tiles, a restored image."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import exports
from lh_jax import inference
from lh_jax import networks as networks_lib
from lh_jax import parallel
from lh_jax.models import lora
from lh_jax.models import vae

from tests.conftest import tiny_config, tiny_model
from tests.parity import make_frequency_vae_golden as recipe

FE = {'vae': {'preset': 'tiny_fe'}, 'lora': {'min_kernel': 1}}


@pytest.mark.parametrize('value', [0.0, 0.5])
def test_gradients_of_flat_images_are_finite(value):
  model = vae.build(preset='tiny_fe')
  params = model.init(jax.random.key(0))
  images = jnp.full((2, 16, 16, 3), value)

  def loss(params, images):
    mean, logvar = model.encode(params['encoder'], images)
    return jnp.mean(jnp.abs(model.decode(params['decoder'], mean) - images)) + 1e-3 * jnp.mean(jnp.square(logvar))

  gradients = jax.jit(jax.grad(loss))(params, images)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_bfloat16_activations():
  networks, params = tiny_model(**FE)
  image, params = recipe.image((16, 16)), params['vae']
  exact = networks.vae.decode(params['decoder'], networks.vae.encode(params['encoder'], image)[0])
  low = networks.with_dtype(jnp.bfloat16).vae
  mean, logvar = low.encode(params['encoder'], image)
  decoded = low.decode(params['decoder'], mean)
  assert mean.dtype == logvar.dtype == decoded.dtype == jnp.float32
  error = np.abs(decoded - exact).mean() / np.abs(exact).mean()
  assert error < 0.05, error


def test_lora_adapts_dense_convolutions():
  """Of 3x3 pixels there are few; of 1x1, all but the depthwise ones."""
  params = jax.eval_shape(vae.build(preset='tiny_fe').init, jax.random.key(0))
  names = {
    half: {'/'.join(path) for path in lora.targets(params[half], min_kernel=3)} for half in ('encoder', 'decoder')
  }
  assert names == {'encoder': {'conv_in', 'conv_out', 'down1', 'down2'}, 'decoder': {'conv_in', 'conv_out'}}
  every = lora.targets(params['encoder'], min_kernel=1)
  assert ('level0', 'block0', 'plane_filter', 'conv1') in every
  assert not any('depthwise' in path[-1] for path in every)


def batch_of(side, count):
  return np.random.default_rng(0).uniform(size=(count, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize('options', [{}, {'space': 2}, {'fsdp': 2, 'space': 2}])
def test_training_on_eight_devices_is_training_on_one(options):
  """The loss and every gradient, with rows split over devices too."""
  model = vae.build(preset='tiny_fe')
  params = model.init(jax.random.key(0))

  def loss(params, images):
    decoded = model.decode(params['decoder'], model.encode(params['encoder'], images)[0])
    return jnp.mean(jnp.square(decoded - images))

  step = jax.jit(jax.value_and_grad(loss))
  images = batch_of(32, 8)
  expected, expected_gradients = step(params, images)
  mesh = parallel.make_mesh(**options)
  value, gradients = step(params, jax.device_put(images, parallel.image_sharding(mesh)))
  np.testing.assert_allclose(value, expected, rtol=1e-3)
  # Sums in another order turn the angles of small amplitudes, so single elements differ more than their norm.
  length = lambda tree: np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))
  assert length(jax.tree.map(np.subtract, gradients, expected_gradients)) < 1e-2 * length(expected_gradients)


def test_devices_share_an_image():
  """Rows that do not divide over the devices; transforms and statistics are still of the whole image."""
  networks, params = tiny_model(**FE)
  image = np.random.default_rng(0).uniform(0, 1, (53, 44, 3)).astype(np.float32)
  one = inference.Restorer(networks, params).restore(image)
  several = inference.Restorer(networks, params, devices=4).restore(image)
  np.testing.assert_allclose(several, one, atol=1e-4)


@pytest.mark.usefixtures('windows_of_any_size')
def test_tiles_are_approximate_and_say_so():
  restorer = inference.Restorer(*tiny_model(**FE))
  image = np.random.default_rng(0).uniform(0, 1, (96, 68, 3)).astype(np.float32)
  whole = restorer.run(image)
  assert whole.notes == () and whole.window is None
  np.testing.assert_array_equal(restorer.restore(image, tile='full'), whole.image)
  tiled = restorer.run(image, tile=4)
  assert tiled.window and tiled.window != image.shape[:2]
  assert 'takes in the whole image (the Fourier transforms, attention and group norms' in tiled.notes[0]
  assert np.abs(tiled.image - whole.image).max() > 1e-3
  with pytest.raises(MemoryError, match='tiles would change the result of this VAE .the Fourier transforms'):
    restorer.run(image, max_memory=1)


def test_an_export_is_loaded_and_restores(tmp_path):
  config = tiny_config()
  for section, changes in FE.items():
    config[section].update(changes)
  networks, params = tiny_model(**FE)
  sections = {name: config[name].to_dict() for name in networks_lib.SECTIONS}
  exports.save(tmp_path / 'export', exports.Export(sections=sections, params=params, stage='stage2'))
  image = np.random.default_rng(0).integers(0, 256, (21, 30, 3), dtype=np.uint8)
  expected = inference.Restorer(networks, params).restore(image)
  restored = inference.Restorer.from_pretrained(pathlib.Path(tmp_path), dtype='float32').restore(image)
  assert restored.shape == image.shape and restored.dtype == np.uint8
  np.testing.assert_array_equal(restored, expected)
