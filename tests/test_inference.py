"""lh_jax.Restorer: sizes, dtypes, alpha, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lh_jax
from lh_jax import exports
from lh_jax import inference
from lh_jax import networks as networks_lib
from lh_jax import programs
from lh_jax import windows

from tests.conftest import tiny_config, tiny_model


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """An export of a tiny model whose LoRA branches do something."""
  config = tiny_config()
  sections = {name: config[name].to_dict() for name in networks_lib.SECTIONS}
  params = jax.device_get(jax.jit(networks_lib.build(sections).init)(jax.random.key(0)))
  for name in ('encoder_lora', 'decoder_lora'):
    params[name] = jax.tree.map(lambda x: x + 0.05, params[name])
  folder = tmp_path_factory.mktemp('run')
  exports.save(folder / 'export', exports.Export(sections=sections, params=params, stage='stage2'))
  return folder


@pytest.fixture(scope='module')
def restorer(workdir):
  return lh_jax.Restorer.from_pretrained(workdir)


@pytest.mark.parametrize('size', [(16, 24), (17, 9), (8, 40), (1, 1), (3, 16)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_shape_and_dtype_are_kept(restorer, size, dtype):
  image = np.random.default_rng(0).uniform(0, 1, (*size, 3))
  image = image.astype(dtype) if dtype == np.float32 else (image * np.iinfo(dtype).max).astype(dtype)
  restored = restorer.restore(image)
  assert restored.shape == image.shape and restored.dtype == dtype
  assert restorer.reconstruct(image).shape == image.shape


def test_padding_does_not_change_an_image_that_needs_none(restorer):
  """The result on a multiple of 8 is the network's own; a 16-bit image and its float twin agree."""
  image = np.random.default_rng(0).integers(0, 65536, (16, 16, 3)).astype(np.uint16)
  as_float = (image / 65535).astype(np.float32)
  expected = np.clip(restorer.restore(as_float), 0, 1) * 65535
  # Half a level by rounding, and what float32 makes of the two ways to divide by 65535.
  assert np.abs(restorer.restore(image).astype(np.float64) - expected).max() <= 0.5 + 1e-6 * 65535


def test_alpha_changes_the_result_without_compiling_again(restorer):
  image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
  outputs = [restorer.restore(image, alpha=alpha) for alpha in (0.0, 0.5, 1.0)]
  assert (outputs[0] != outputs[2]).any()
  before = restorer.programs.compiled
  restorer.restore(image, alpha=0.123)
  assert restorer.programs.compiled == before


def test_non_finite_pixels_are_an_error(workdir):
  for dtype in ('float32', 'bfloat16'):
    restorer = lh_jax.Restorer.from_pretrained(workdir, dtype=dtype)
    for held in (restorer.programs, restorer._float32_programs):
      latent = held.params['latent']
      latent['std'] = jnp.full_like(latent['std'], jnp.nan)
    with pytest.raises(FloatingPointError, match='The model gave non-finite values in float32'):
      restorer.restore(np.zeros((8, 8, 3), np.uint8))


def test_dtypes(workdir):
  assert inference.activation_dtype('auto') == jnp.float32
  assert inference.activation_dtype('bfloat16') == jnp.bfloat16
  with pytest.raises(ValueError, match="Unknown dtype 'float16'; known: auto, float32, bfloat16"):
    inference.activation_dtype('float16')
  image = np.full((8, 8, 3), 0.5, np.float32)
  full, half = (lh_jax.Restorer.from_pretrained(workdir, dtype=name).restore(image) for name in ('float32', 'bfloat16'))
  assert half.dtype == np.float32
  np.testing.assert_allclose(half, full, atol=0.05)


@pytest.mark.parametrize(
  'image, options, message',
  [
    (np.zeros((8, 8), np.uint8), {}, r'shape \(H, W, 3\), got \(8, 8\)'),
    (np.zeros((8, 8, 4), np.uint8), {}, r'shape \(H, W, 3\)'),
    (np.zeros((0, 8, 3), np.uint8), {}, r'shape \(H, W, 3\)'),
    (np.zeros((8, 8, 3), np.int32), {}, 'uint8, uint16 or float32, got int32'),
    (np.full((8, 8, 3), 2.0, np.float32), {}, r'must lie in \[0, 1\], got values from 2.0'),
    (np.full((8, 8, 3), np.nan, np.float32), {}, r'must lie in \[0, 1\]'),
    (np.zeros((8, 8, 3), np.uint8), {'alpha': 1.5}, r'alpha must lie in \[0, 1\], got 1.5'),
    (np.zeros((8, 8, 3), np.uint8), {'tile': '512'}, "Unknown tile '512'; allowed: 'auto', 'full' or a number"),
  ],
)
def test_bad_images_and_options(restorer, image, options, message):
  with pytest.raises(ValueError, match=message):
    restorer.restore(image, **options)


def test_sweep_is_one_restoration_for_each_alpha(restorer):
  """Every alpha as by itself, with nothing compiled anew."""
  image = np.random.default_rng(0).integers(0, 256, (17, 24, 3), dtype=np.uint8)
  alphas = (0.0, 0.3, 1.0)
  expected = [restorer.restore(image, alpha=alpha) for alpha in alphas]
  before = restorer.programs.compiled
  for result, wanted in zip(restorer.sweep(image, alphas), expected, strict=True):
    np.testing.assert_array_equal(result.image, wanted)
  assert restorer.programs.compiled == before
  with pytest.raises(ValueError, match='alpha must lie in'):
    next(restorer.sweep(image, (0.5, 2.0)))


def test_a_sweep_without_encoder_branch_encodes_once(monkeypatch):
  networks, params = tiny_model()
  params['encoder_lora'] = jax.device_get(networks.init_restoration(jax.random.key(1))['encoder_lora'])
  restorer = inference.Restorer(networks, params)
  image = np.random.default_rng(0).integers(0, 256, (17, 24, 3), dtype=np.uint8)
  expected = [restorer.restore(image, alpha=alpha) for alpha in (0.0, 1.0)]
  encoded, encode = [], windows.Run.encode
  monkeypatch.setattr(windows.Run, 'encode', lambda run, scale: encoded.append(scale) or encode(run, scale))
  results = [result.image for result in restorer.sweep(image, (0.0, 1.0))]
  np.testing.assert_array_equal(results, expected)
  assert (results[0] != results[1]).any() and encoded == [0.0]


def test_eight_devices_share_an_image():
  """Rows that do not divide over the devices, whole and in tiles."""
  networks, params = tiny_model()
  image = np.random.default_rng(0).uniform(0, 1, (213, 44, 3)).astype(np.float32)
  one = inference.Restorer(networks, params).restore(image, tile='full')
  eight = inference.Restorer(networks, params, devices=8)
  for tile in ('full', 40):
    np.testing.assert_allclose(eight.restore(image, tile=tile), one, atol=1e-5)
  whole = programs.Programs(networks, params).get('decode', 64, 8).bytes
  assert programs.Programs(networks, params, devices=8).get('decode', 64, 8).bytes < 0.5 * whole
  with pytest.raises(ValueError, match='devices must lie between 1 and 8, the devices of this process; got 9'):
    inference.Restorer(networks, params, devices=9)


def test_a_vae_that_is_not_local_says_what_tiles_change(monkeypatch):
  restorer = inference.Restorer(*tiny_model(vae={'norm': 'group'}))
  image = np.random.default_rng(0).uniform(0, 1, (200, 136, 3)).astype(np.float32)
  tiled = restorer.run(image, tile=40)
  assert 'takes in the whole image (vae.norm)' in tiled.notes[0]
  error = restorer.tiling_error(image, 40)
  assert f'{error:.1e}' in tiled.notes[0] and error > 1e-3
  assert restorer.run(image).notes == ()

  def full(*_):
    raise RuntimeError('RESOURCE_EXHAUSTED: out of memory')

  # 'auto' must not cut it without a word, not even where the whole image does not fit.
  with monkeypatch.context() as patch:
    patch.setattr(windows.Run, '_compute', full)
    with pytest.raises(MemoryError, match='tiles would change the result of this VAE: name a --tile'):
      restorer.run(image)
  local = inference.Restorer(*tiny_model())
  assert local.tiling_error(image, 40) < 1e-5


def test_bundled_weights(workdir, tmp_path, monkeypatch):
  """They are what is taken where nothing is named, and their absence is told."""
  monkeypatch.setattr(exports, 'BUNDLED', tmp_path / 'none')
  with pytest.raises(FileNotFoundError, match='bundled weights are missing from .*none: install'):
    lh_jax.Restorer.from_pretrained()
  monkeypatch.setattr(exports, 'BUNDLED', workdir / 'export')
  assert lh_jax.Restorer.from_pretrained().restore(np.zeros((8, 8, 3), np.uint8)).shape == (8, 8, 3)


def test_stage1_alone_is_no_restorer(tmp_path, workdir):
  export = exports.load(workdir)
  params = {name: export.params[name] for name in networks_lib.STAGE1_PARTS}
  exports.save(tmp_path, exports.Export(sections=export.sections, params=params, stage='stage1'))
  with pytest.raises(ValueError, match='finished stage 1 only'):
    lh_jax.Restorer.from_pretrained(tmp_path)


def test_public_names():
  assert lh_jax.__all__ == ['Restorer', '__version__']
  with pytest.raises(AttributeError, match="has no attribute 'Resorer'"):
    lh_jax.Resorer
