"""DINOv2 conversion: both layouts give one tree, and nothing is lost or left over unnoticed."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from lh_jax import weight_files
from lh_jax.convert import dinov2
from lh_jax.convert import layouts
from lh_jax.convert import tensor_files
from lh_jax.models.foundation import vit

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / 'fixtures'
MODELS = {
  'dinov2_tiny': vit.VisionTransformer(dim=8, depth=2, heads=2, patch=4, grid=5),
  'dinov2_tiny_reg4': vit.VisionTransformer(dim=8, depth=2, heads=2, patch=4, grid=5, registers=4, swiglu=True),
}
RENAMES = (  # Official to Hugging Face, written apart from the converter's table; in this order.
  ('blocks.', 'encoder.layer.'),
  ('attn.proj', 'attention.output.dense'),
  ('ls1.gamma', 'layer_scale1.lambda1'),
  ('ls2.gamma', 'layer_scale2.lambda1'),
  ('mlp.w12', 'mlp.weights_in'),
  ('mlp.w3', 'mlp.weights_out'),
  ('patch_embed.proj', 'embeddings.patch_embeddings.projection'),
  ('pos_embed', 'embeddings.position_embeddings'),
)


def like(name):
  return jax.eval_shape(MODELS[name].init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))['params']


def official(name):
  return tensor_files.read(FIXTURES / f'{name}.pth')


def hugging_face(name):
  tensors = {}
  for key, array in official(name).items():
    for before, after in RENAMES:
      key = key.replace(before, after)
    key = f'layer{key}' if key.startswith('norm.') else key
    key = f'embeddings.{key}' if key.endswith('_token') or key.endswith('_tokens') else key
    if 'attn.qkv' in key:
      for part, piece in zip(('query', 'key', 'value'), np.split(array, 3)):
        tensors[key.replace('attn.qkv', f'attention.attention.{part}')] = piece
    else:
      tensors[key] = array
  return tensors


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('prefix', ['', 'dinov2.', 'dinov2_with_registers.'])
def test_both_layouts_give_the_same_tree(name, prefix, tmp_path):
  face = {prefix + key: np.ascontiguousarray(array) for key, array in hugging_face(name).items()}
  if prefix:
    face |= {'classifier.weight': np.zeros((10, 16), np.float32), 'classifier.bias': np.zeros(10, np.float32)}
  safetensors.numpy.save_file(face, tmp_path / 'model.safetensors')
  first = layouts.convert(official(name), like(name), dinov2.LAYOUTS)
  second = layouts.convert(tensor_files.read(tmp_path / 'model.safetensors'), like(name), dinov2.LAYOUTS)
  assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), first) == jax.tree.map(
    lambda leaf: (leaf.shape, np.dtype(leaf.dtype)), like(name)
  )
  assert weight_files.flatten(first).keys() == weight_files.flatten(second).keys()
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_kernels_are_transposed():
  source = official('dinov2_tiny')
  params = layouts.convert(source, like('dinov2_tiny'), dinov2.LAYOUTS)
  assert params['patch_embed']['kernel'][1, 2, 0, 5] == source['patch_embed.proj.weight'][5, 0, 1, 2]
  assert params['block_1']['mlp']['fc1']['kernel'][3, 17] == source['blocks.1.mlp.fc1.weight'][17, 3]
  np.testing.assert_array_equal(params['pos_embed'], source['pos_embed'])


def test_half_precision_becomes_float32():
  half = {name: array.astype(np.float16) for name, array in official('dinov2_tiny').items()}
  params = layouts.convert(half, like('dinov2_tiny'), dinov2.LAYOUTS)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def test_every_difference_is_listed_at_once():
  tensors = official('dinov2_tiny')
  del tensors['norm.bias']
  del tensors['blocks.0.ls1.gamma']
  tensors['pos_embed'] = tensors['pos_embed'][:, :17]
  tensors['head.weight'] = np.zeros((10, 8), np.float32)
  with pytest.raises(ValueError) as error:
    layouts.convert(tensors, like('dinov2_tiny'), dinov2.LAYOUTS)
  message = str(error.value)
  for line in (
    '4 tensors do not match the model in the official layout',
    'missing: norm.bias (8,)',
    'missing: blocks.0.ls1.gamma (8,)',
    'shape: pos_embed is (1, 17, 8), expected (1, 26, 8)',
    'unknown: head.weight (10, 8)',
  ):
    assert line in message


def test_hugging_face_differences_have_hugging_face_names():
  tensors = hugging_face('dinov2_tiny')
  key = 'encoder.layer.1.attention.attention.key.weight'
  del tensors[key]
  tensors['classifier.weight'] = np.zeros((10, 16))
  with pytest.raises(
    ValueError,
    match=r'(?s)in the Hugging Face layout.*missing: ' + key + r' \(8, 8\).*'
    r'unknown: classifier\.weight',
  ):
    layouts.convert(tensors, like('dinov2_tiny'), dinov2.LAYOUTS)


def test_a_deeper_checkpoint_is_refused():
  tensors = official('dinov2_tiny')
  extra = {name.replace('blocks.1', 'blocks.2'): array for name, array in tensors.items() if 'blocks.1' in name}
  with pytest.raises(ValueError, match=r'(?s)14 tensors do not match.*unknown: blocks\.2\.norm1\.weight'):
    layouts.convert(tensors | extra, like('dinov2_tiny'), dinov2.LAYOUTS)


def test_neither_format(tmp_path):
  (tmp_path / 'x.safetensors').write_bytes(b'neither')
  with pytest.raises(ValueError, match='not a whole safetensors file'):
    tensor_files.read(tmp_path / 'x.safetensors')
  (tmp_path / 'x.pth').write_bytes(b'neither')
  with pytest.raises(ValueError, match='not a whole PyTorch zip file'):
    tensor_files.read(tmp_path / 'x.pth')
  with pytest.raises(FileNotFoundError, match='absent'):
    tensor_files.read(tmp_path / 'absent')
