"""MAE weights: the official `.pth` and the Hugging Face safetensors names.

Both may carry the decoder of pre-training, which is left out with its `mask_token`. Hugging Face keeps query, key and
value apart, ours are stacked in that order; its checkpoints of the whole autoencoder put `vit.` before the encoder.
"""

from __future__ import annotations

from lh_jax.convert import layouts

# (ours, official, Hugging Face).
_NAMES = (
  ('cls_token', 'cls_token', 'embeddings.cls_token'),
  ('pos_embed', 'pos_embed', 'embeddings.position_embeddings'),
  ('patch_embed', 'patch_embed.proj', 'embeddings.patch_embeddings.projection'),
  ('block_#/norm1', 'blocks.#.norm1', 'encoder.layer.#.layernorm_before'),
  ('block_#/attn/qkv', 'blocks.#.attn.qkv', 'encoder.layer.#.attention.attention.{query,key,value}'),
  ('block_#/attn/proj', 'blocks.#.attn.proj', 'encoder.layer.#.attention.output.dense'),
  ('block_#/norm2', 'blocks.#.norm2', 'encoder.layer.#.layernorm_after'),
  ('block_#/mlp/fc1', 'blocks.#.mlp.fc1', 'encoder.layer.#.intermediate.dense'),
  ('block_#/mlp/fc2', 'blocks.#.mlp.fc2', 'encoder.layer.#.output.dense'),
  ('norm', 'norm', 'layernorm'),
)

LAYOUTS = (
  layouts.Layout(
    name='official',
    table={ours: official for ours, official, _ in _NAMES},
    unused=(r'mask_token', r'decoder_.*'),
  ),
  layouts.Layout(
    name='Hugging Face',
    table={ours: face for ours, _, face in _NAMES},
    prefixes=('', 'vit.'),
    unused=(r'decoder\..*',),
  ),
)
