"""MAE, CLIP, SigLIP and SAM: low precision, sizes, windows and relative positions; values are in tests/test_golden.py."""

from __future__ import annotations


import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lh_jax import weight_files
from lh_jax.models import foundation
from lh_jax.models.foundation import sam
from lh_jax.models.foundation import vit
from lh_jax.ops import resize

from tests import golden
from tests.parity import make_foundation_golden as recipe

SIZES = recipe.IMAGE_SIZES


@pytest.mark.parametrize('kind', golden.FOUNDATIONS)
def test_bfloat16_is_close(kind):
  module, params = golden.transformer(kind)
  half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
  for size in SIZES:
    result = jax.jit(module.apply)({'params': half}, jnp.asarray(recipe.image(size), jnp.bfloat16))
    assert result.dtype == jnp.bfloat16
    expected = golden.load('foundation')[f'{kind}/{size[0]}x{size[1]}/final']
    error = np.linalg.norm(np.asarray(result, np.float32) - expected) / np.linalg.norm(expected)
    assert error < 0.02


# Counted on the meta device from transformers 5.24.0, without DINOv2's mask token (dim parameters), poolers, heads and
# projections: with its mask token ViT-S/14 has the 22 056 576 of its checkpoint.
PARAMETERS = {
  'dinov2_vits14': 22_056_192,
  'dinov2_vitb14': 86_579_712,
  'dinov2_vitl14': 304_367_616,
  'dinov2_vitg14': 1_136_479_232,
  'dinov2_vits14_reg4': 22_057_728,
  'dinov2_vitb14_reg4': 86_582_784,
  'dinov2_vitl14_reg4': 304_371_712,
  'dinov2_vitg14_reg4': 1_136_485_376,
  'mae_vitb16': 85_798_656,
  'mae_vitl16': 303_301_632,
  'mae_vith14': 630_764_800,
  'clip_vitb16': 85_799_424,
  'clip_vitb32': 87_456_000,
  'clip_vitl14': 303_179_776,
  'siglip_vitb16': 85_797_120,
  'siglip_vitl16': 303_361_024,
  'siglip_so400m14': 412_442_352,
  'sam_vitb16': 89_670_912,
  'sam_vitl16': 308_278_272,
  'sam_vith16': 637_026_048,
}


@pytest.mark.parametrize('name', PARAMETERS)
def test_published_sizes(name):
  params = foundation.build(name).abstract_params()
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[name]


def test_every_transformer_has_its_size_tested():
  assert set(PARAMETERS) == {name for name in foundation.FOUNDATIONS if 'tiny' not in name and name != 'vgg16'}


@pytest.mark.parametrize('name', ['mae_vitb16', 'clip_vitb32', 'clip_vitl14', 'siglip_vitb16', 'sam_vitb16'])
def test_one_token_per_16_pixels_whatever_the_patch(name):
  model = foundation.build(name)
  images = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
  tokens = jax.eval_shape(model.features, model.abstract_params(), images)
  assert tokens.shape == (1, 4, 6, 256 if name.startswith('sam') else model.module.dim)


def test_the_token_rule_of_all():
  for name in PARAMETERS:
    model = foundation.build(name)
    assert model.token_grid((64, 96)) == (4, 6) and model.image_size_multiple == 16 and model.needs_weights


@pytest.mark.parametrize(
  'kind, mean, deviation',
  [
    ('mae', (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ('clip', (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ('siglip', (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ('sam', (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  ],
)
def test_every_kind_has_its_own_preprocessing(kind, mean, deviation):
  names = [name for name in foundation.FOUNDATIONS if name.split('_')[0] == kind or name == f'tiny_{kind}']
  assert len(names) == 4
  for name in names:
    model = foundation.build(name)
    np.testing.assert_allclose(model.mean, mean, atol=1e-7)
    np.testing.assert_allclose(model.deviation, deviation, atol=1e-7)
  model = foundation.build(f'tiny_{kind}', input_size=24)
  params = model.init(jax.random.key(0))
  images = jax.random.uniform(jax.random.key(1), (1, 40, 32, 3))
  small = resize.resize_bilinear(images, (24, 24))
  normal = (small - np.float32(mean).reshape(1, 1, 1, 3)) / np.float32(deviation).reshape(1, 1, 1, 3)
  expected = jax.jit(model.module.apply)({'params': params}, normal)
  np.testing.assert_allclose(jax.jit(model.features)(params, images), expected, atol=1e-4)


@pytest.mark.parametrize('kind', golden.FOUNDATIONS)
def test_tiny_models_run_and_depend_on_the_image(kind):
  model = foundation.build(f'tiny_{kind}')
  assert not model.needs_weights
  params = model.init(jax.random.key(0))
  images = jax.random.uniform(jax.random.key(1), (2, 64, 32, 3))
  tokens = jax.jit(model.features)(params, images)
  assert tokens.shape == (2, 4, 2, model.channels) and tokens.dtype == jnp.float32
  assert np.isfinite(tokens).all() and np.abs(tokens[0] - tokens[1]).max() > 1e-3


def test_plain_positions_take_no_offset():
  table = jnp.asarray(np.random.RandomState(1).normal(size=(5, 5, 1)), jnp.float32)
  rows, columns = (resize.interpolation_matrix(5, n, kind='cubic') for n in (3, 7))
  expected = np.einsum('hi,wj,ijd->hwd', rows, columns, np.asarray(table, np.float64))
  np.testing.assert_allclose(vit.resize_positions(table, (3, 7)), expected, atol=1e-6)
  assert np.abs(vit.resize_positions(table, (3, 7), offset=0.1) - expected).max() > 1e-3


def test_windows_and_back():
  x = jnp.arange(2 * 4 * 7, dtype=jnp.float32).reshape(2, 4, 7, 1)
  windows = sam.to_windows(x, 3)
  assert windows.shape == (2 * 2 * 3, 3, 3, 1)
  np.testing.assert_array_equal(windows[0, ..., 0], [[0, 1, 2], [7, 8, 9], [14, 15, 16]])
  np.testing.assert_array_equal(windows[5, ..., 0], [[27, 0, 0], [0, 0, 0], [0, 0, 0]])
  np.testing.assert_array_equal(sam.from_windows(windows, x.shape, 3), x)


def test_relative_positions():
  table = jnp.arange(5, dtype=jnp.float32)[:, None]  # of the differences -2 to 2
  np.testing.assert_array_equal(sam.relative_positions(table, 3)[..., 0], [[2, 1, 0], [3, 2, 1], [4, 3, 2]])
  # Of 3 differences, sampled at 1/3, 2 and 11/3.
  np.testing.assert_allclose(sam.relative_positions(table, 2)[..., 0], [[2, 1 / 3], [11 / 3, 2]], rtol=1e-6)


def test_sam_needs_multiples_of_its_patch():
  with pytest.raises(ValueError, match='with 8-pixel patches needs sides that are multiples of 8, got 12x16'):
    foundation.build('tiny_sam').module.init(jax.random.key(0), jnp.zeros((1, 12, 16, 3)))


def test_older_weight_files_still_load(tmp_path):
  # The names that DINOv2 files written by earlier versions have.
  model = foundation.build('tiny_vit')
  names = set(weight_files.flatten(model.abstract_params()))
  block = {'ls1', 'ls2'} | {
    f'{layer}/{leaf}' for layer, first in (('norm1', 'scale'), ('norm2', 'scale')) for leaf in (first, 'bias')
  }
  block |= {
    f'{layer}/{leaf}' for layer in ('attn/qkv', 'attn/proj', 'mlp/fc1', 'mlp/fc2') for leaf in ('kernel', 'bias')
  }
  assert names == {
    'cls_token',
    'pos_embed',
    'patch_embed/kernel',
    'patch_embed/bias',
    'norm/scale',
    'norm/bias',
    *(f'block_{i}/{name}' for i in range(2) for name in block),
  }
