"""The table machinery of the converters: numbers, stacking, transposition, prefixes, the choice of the layout."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from lh_jax.convert import layouts

TABLE = {
  'cls_token': 'tokens.first',
  'level_#/block_#/norm': 'levels.#.blocks.#.norm',
  'level_#/block_#/qkv': 'levels.#.blocks.#.{q,k,v}',
  'conv': 'conv',
}
TORCH = layouts.Layout('official', TABLE, prefixes=('', 'net.'), unused=(r'(net\.)?head\..*',))
FLAX = layouts.Layout(
  'flax',
  {ours: theirs.replace('.', '/') for ours, theirs in TABLE.items()},
  leaves=layouts.FLAX_LEAVES,
  separator='/',
  transposed=False,
)
SHAPES = {
  'cls_token': (1, 1, 4),
  'level_1/block_12/norm/scale': (4,),
  'level_1/block_12/norm/bias': (4,),
  'level_1/block_12/qkv/kernel': (4, 6),
  'level_1/block_12/qkv/bias': (6,),
  'conv/kernel': (3, 5, 4, 2),
}
LIKE = {
  'cls_token': jax.ShapeDtypeStruct((1, 1, 4), np.float32),
  'level_1': {
    'block_12': {
      'norm': {name: jax.ShapeDtypeStruct((4,), np.float32) for name in ('scale', 'bias')},
      'qkv': {'kernel': jax.ShapeDtypeStruct((4, 6), np.float32), 'bias': jax.ShapeDtypeStruct((6,), np.float32)},
    }
  },
  'conv': {'kernel': jax.ShapeDtypeStruct((3, 5, 4, 2), np.float32)},
}
BLOCK = 'levels.1.blocks.12'


def official():
  rng = np.random.default_rng(0)
  shapes = {
    'tokens.first': (4,),  # a token's axes of length 1 do not count
    f'{BLOCK}.norm.weight': (4,),
    f'{BLOCK}.norm.bias': (4,),
    **{f'{BLOCK}.{part}.weight': (2, 4) for part in 'qkv'},
    **{f'{BLOCK}.{part}.bias': (2,) for part in 'qkv'},
    'conv.weight': (2, 4, 3, 5),
  }
  return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def test_numbers_stacks_and_kernels():
  source = official()
  params = layouts.convert(source, LIKE, (FLAX, TORCH))
  block = params['level_1']['block_12']
  assert params['cls_token'].shape == (1, 1, 4) and params['cls_token'].dtype == np.float32
  assert block['qkv']['kernel'][3, 2] == np.float32(source[f'{BLOCK}.k.weight'][0, 3])
  assert block['qkv']['bias'][5] == np.float32(source[f'{BLOCK}.v.bias'][1])
  assert params['conv']['kernel'][2, 4, 3, 1] == np.float32(source['conv.weight'][1, 3, 2, 4])
  np.testing.assert_array_equal(block['norm']['scale'], source[f'{BLOCK}.norm.weight'].astype(np.float32))


@pytest.mark.parametrize('prefix', ['', 'net.'])
def test_prefix_and_unused(prefix):
  tensors = {prefix + name: array for name, array in official().items()} | {f'{prefix}head.0.weight': np.ones(3)}
  jax.tree.map(
    np.testing.assert_array_equal, layouts.convert(tensors, LIKE, (TORCH,)), layouts.convert(official(), LIKE, (TORCH,))
  )


def test_kernels_that_are_as_ours():
  source = official()
  ours = {}
  for name, array in source.items():
    leaf = {'weight': 'scale' if 'norm' in name else 'kernel'}
    key = '/'.join(leaf.get(part, part) for part in name.split('.'))
    kernel = key.endswith('kernel')
    ours[key] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T if kernel else array
  first, second = (layouts.convert(tensors, LIKE, (TORCH, FLAX)) for tensors in (source, ours))
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_all_problems_in_one_error_in_the_layout_that_fits_best():
  tensors = {f'net.{name}': array for name, array in official().items()}
  del tensors[f'net.{BLOCK}.k.weight']
  tensors['net.conv.weight'] = np.ones((2, 4, 5, 3))
  tensors['net.extra'] = np.ones((7, 1))
  with pytest.raises(ValueError) as error:
    layouts.convert(tensors, LIKE, (FLAX, TORCH))
  assert str(error.value).splitlines() == [
    '3 tensors do not match the model in the official layout; is this the checkpoint of another size?',
    f'  missing: net.{BLOCK}.k.weight (2, 4)',
    '  shape: net.conv.weight is (2, 4, 5, 3), expected (2, 4, 3, 5)',
    '  unknown: net.extra (7, 1)',
  ]


@pytest.mark.parametrize(
  'change, problem',
  [
    (lambda x: x.astype(np.int8), 'dtype: conv.weight is int8, expected floating-point numbers'),
    (lambda x: x.astype(np.complex64), 'dtype: conv.weight is complex64, expected floating-point numbers'),
    (lambda x: x.astype(str), 'dtype: conv.weight is <U32, expected floating-point numbers'),
    (lambda x: x * 1e300, 'not finite: conv.weight'),
    (lambda x: x * np.nan, 'not finite: conv.weight'),
  ],
)
def test_only_finite_floating_point_numbers_are_taken(change, problem):
  tensors = official()
  tensors['conv.weight'] = change(tensors['conv.weight'])
  with pytest.raises(ValueError, match=f'1 tensors do not match .*\n  {problem}'):
    layouts.convert(tensors, LIKE, (TORCH,))


@pytest.mark.parametrize(
  'name, shape',
  [
    ('depthwise.weight', (1, 6, 3, 3)),
    ('depthwise.weight', (6, 3, 3)),
    ('pointwise.weight', (8, 6)),
    ('pointwise.bias', (1, 8)),
  ],
)
def test_kernels_and_biases_of_another_rank_are_refused(name, shape):
  kernels = {'depthwise': (3, 3, 1, 6), 'pointwise': (1, 1, 6, 8)}
  like = {
    layer: {'kernel': jax.ShapeDtypeStruct(kernel, np.float32), 'bias': jax.ShapeDtypeStruct(kernel[-1:], np.float32)}
    for layer, kernel in kernels.items()
  }
  layout = layouts.Layout('official', {layer: layer for layer in kernels})
  tensors = {'depthwise.weight': np.ones((6, 1, 3, 3)), 'pointwise.weight': np.ones((8, 6, 1, 1))}
  tensors |= {'depthwise.bias': np.ones(6), 'pointwise.bias': np.ones(8)}
  layouts.convert(tensors, like, (layout,))
  expected = tensors[name].shape
  tensors[name] = tensors[name].reshape(shape)
  with pytest.raises(ValueError) as error:
    layouts.convert(tensors, like, (layout,))
  assert str(error.value).splitlines()[1:] == [f'  shape: {name} is {shape}, expected {expected}']


def test_a_tensor_of_ours_without_a_name():
  like = LIKE | {'other': jax.ShapeDtypeStruct((1,), np.float32)}
  with pytest.raises(ValueError, match='unnamed: other has no counterpart there'):
    layouts.convert(official(), like, (TORCH,))


def test_prepare_comes_first():
  layout = layouts.Layout('halves', TABLE, prepare=lambda tensors: {name: array / 2 for name, array in tensors.items()})
  params = layouts.convert(official(), LIKE, (layout,))
  np.testing.assert_allclose(params['cls_token'][0, 0], official()['tokens.first'] / 2, rtol=1e-6)
