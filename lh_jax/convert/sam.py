"""SAM weights: the image encoder of the official `.pth` and of the Hugging Face safetensors names.

The prompt encoder and the mask decoder are left out.
"""

from __future__ import annotations

from lh_jax.convert import layouts

# (ours, official, Hugging Face).
_NAMES = (
  ('pos_embed', 'pos_embed', 'pos_embed'),
  ('patch_embed', 'patch_embed.proj', 'patch_embed.projection'),
  ('block_#/norm1', 'blocks.#.norm1', 'layers.#.layer_norm1'),
  ('block_#/attn/qkv', 'blocks.#.attn.qkv', 'layers.#.attn.qkv'),
  ('block_#/attn/proj', 'blocks.#.attn.proj', 'layers.#.attn.proj'),
  ('block_#/attn/rel_pos_h', 'blocks.#.attn.rel_pos_h', 'layers.#.attn.rel_pos_h'),
  ('block_#/attn/rel_pos_w', 'blocks.#.attn.rel_pos_w', 'layers.#.attn.rel_pos_w'),
  ('block_#/norm2', 'blocks.#.norm2', 'layers.#.layer_norm2'),
  ('block_#/mlp/fc1', 'blocks.#.mlp.lin1', 'layers.#.mlp.lin1'),
  ('block_#/mlp/fc2', 'blocks.#.mlp.lin2', 'layers.#.mlp.lin2'),
  ('neck/conv1', 'neck.0', 'neck.conv1'),
  ('neck/norm1', 'neck.1', 'neck.layer_norm1'),
  ('neck/conv2', 'neck.2', 'neck.conv2'),
  ('neck/norm2', 'neck.3', 'neck.layer_norm2'),
)
_UNUSED = (r'(prompt_encoder|mask_decoder|shared_image_embedding)\..*',)

LAYOUTS = (
  layouts.Layout(
    name='official',
    table={ours: official for ours, official, _ in _NAMES},
    prefixes=('image_encoder.', ''),
    unused=(*_UNUSED, r'pixel_(mean|std)'),
  ),
  layouts.Layout(
    name='Hugging Face',
    table={ours: face for ours, _, face in _NAMES},
    prefixes=('vision_encoder.', ''),
    unused=_UNUSED,
  ),
)
