"""DINOv2 weights: the official `.pth` and the Hugging Face safetensors names.

Hugging Face keeps query, key and value apart, ours are stacked in that order. `mask_token` is for pre-training and left
out, as is the linear head of the classifier checkpoints, which prefix every other name with `dinov2.` or
`dinov2_with_registers.`.
"""

from __future__ import annotations

import dataclasses

from lh_jax.convert import layouts

# (ours, official, Hugging Face).
_NAMES = (
  ('cls_token', 'cls_token', 'embeddings.cls_token'),
  ('pos_embed', 'pos_embed', 'embeddings.position_embeddings'),
  ('register_tokens', 'register_tokens', 'embeddings.register_tokens'),
  ('patch_embed', 'patch_embed.proj', 'embeddings.patch_embeddings.projection'),
  ('block_#/ls1', 'blocks.#.ls1.gamma', 'encoder.layer.#.layer_scale1.lambda1'),
  ('block_#/ls2', 'blocks.#.ls2.gamma', 'encoder.layer.#.layer_scale2.lambda1'),
  ('block_#/norm1', 'blocks.#.norm1', 'encoder.layer.#.norm1'),
  ('block_#/attn/qkv', 'blocks.#.attn.qkv', 'encoder.layer.#.attention.attention.{query,key,value}'),
  ('block_#/attn/proj', 'blocks.#.attn.proj', 'encoder.layer.#.attention.output.dense'),
  ('block_#/norm2', 'blocks.#.norm2', 'encoder.layer.#.norm2'),
  ('block_#/mlp/fc1', 'blocks.#.mlp.fc1', 'encoder.layer.#.mlp.fc1'),
  ('block_#/mlp/fc2', 'blocks.#.mlp.fc2', 'encoder.layer.#.mlp.fc2'),
  ('block_#/mlp/w12', 'blocks.#.mlp.w12', 'encoder.layer.#.mlp.weights_in'),
  ('block_#/mlp/w3', 'blocks.#.mlp.w3', 'encoder.layer.#.mlp.weights_out'),
  ('norm', 'norm', 'layernorm'),
)

_OFFICIAL = layouts.Layout(
  name='official',
  table={ours: official for ours, official, _ in _NAMES},
  unused=(r'mask_token',),
)
_HUGGING_FACE = layouts.Layout(
  name='Hugging Face',
  table={ours: face for ours, _, face in _NAMES},
  unused=(r'embeddings\.mask_token',),
)
_CLASSIFIER = dataclasses.replace(
  _HUGGING_FACE,
  prefixes=('dinov2.', 'dinov2_with_registers.'),
  unused=(r'dinov2(_with_registers)?\.embeddings\.mask_token', r'classifier\.(weight|bias)'),
)

LAYOUTS = (_OFFICIAL, _HUGGING_FACE, _CLASSIFIER)
