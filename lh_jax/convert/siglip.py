"""SigLIP weights: the image encoder of big_vision's `.npz` and of the Hugging Face safetensors names.

The text encoder, the attention pooling and the temperature are left out. big_vision is written in Flax, so that its
kernels are ours but for the heads, which have an axis of their own in the attention.
"""

from __future__ import annotations

import re

from lh_jax.convert import clip
from lh_jax.convert import layouts

_BLOCK = 'Transformer/encoderblock_#'
_ATTENTION = f'{_BLOCK}/MultiHeadDotProductAttention_0'


def _without_heads(tensors: layouts.Tensors) -> layouts.Tensors:
  """Merges the axes of the heads and their channels: (d, n, d/n) -> (d, d), (n, d/n) -> (d,), (n, d/n, d) -> (d, d)."""
  merged = dict(tensors)
  for name, array in tensors.items():
    match = re.fullmatch(r'.*/MultiHeadDotProductAttention_0/(query|key|value|out)/(kernel|bias)', name)
    if array.ndim < 2:
      continue  # its shape is found wrong later
    if match and match.groups() == ('out', 'kernel'):
      merged[name] = array.reshape(-1, array.shape[-1])
    elif match and match.group(2) == 'kernel':
      merged[name] = array.reshape(array.shape[0], -1)
    elif match:
      merged[name] = array.reshape(-1)
  return merged


LAYOUTS = (
  layouts.Layout(
    name='big_vision',
    table={
      'pos_embed': 'pos_embedding',
      'patch_embed': 'embedding',
      'block_#/norm1': f'{_BLOCK}/LayerNorm_0',
      'block_#/attn/qkv': f'{_ATTENTION}/{{query,key,value}}',
      'block_#/attn/proj': f'{_ATTENTION}/out',
      'block_#/norm2': f'{_BLOCK}/LayerNorm_1',
      'block_#/mlp/fc1': f'{_BLOCK}/MlpBlock_0/Dense_0',
      'block_#/mlp/fc2': f'{_BLOCK}/MlpBlock_0/Dense_1',
      'norm': 'Transformer/encoder_norm',
    },
    prefixes=('params/img/', 'img/', ''),
    unused=(r'(params/)?txt/.*', r'(params/)?[tb]', r'(.*/)?(MAPHead_0|head)/.*'),
    leaves=layouts.FLAX_LEAVES,
    separator='/',
    transposed=False,
    prepare=_without_heads,
  ),
  layouts.Layout(
    name='Hugging Face',
    table=clip.HUGGING_FACE_NAMES,
    prefixes=('vision_model.', ''),
    unused=(*clip.HUGGING_FACE_UNUSED, r'(vision_model\.)?head\..*'),
  ),
)
