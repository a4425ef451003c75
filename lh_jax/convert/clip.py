"""CLIP weights: the image encoder of OpenAI's `.pt` archives and of the Hugging Face safetensors names.

The text encoder, both projections and the temperature are left out. Hugging Face keeps query, key and value apart, ours
are stacked in that order. OpenAI's files are TorchScript archives, whose numbers `pth_reader` reads like any others'.
"""

from __future__ import annotations

from lh_jax.convert import layouts

# Of the image encoders of both CLIP and SigLIP.
HUGGING_FACE_NAMES = {
  'cls_token': 'embeddings.class_embedding',
  'pos_embed': 'embeddings.position_embedding.weight',
  'patch_embed': 'embeddings.patch_embedding',
  # Misspelt there.
  'norm_pre': 'pre_layrnorm',
  'block_#/norm1': 'encoder.layers.#.layer_norm1',
  'block_#/attn/qkv': 'encoder.layers.#.self_attn.{q_proj,k_proj,v_proj}',
  'block_#/attn/proj': 'encoder.layers.#.self_attn.out_proj',
  'block_#/norm2': 'encoder.layers.#.layer_norm2',
  'block_#/mlp/fc1': 'encoder.layers.#.mlp.fc1',
  'block_#/mlp/fc2': 'encoder.layers.#.mlp.fc2',
  'norm': 'post_layernorm',
}
HUGGING_FACE_UNUSED = (
  r'text_model\..*',
  r'(text|visual)_projection\.weight',
  r'logit_(scale|bias)',
  # Counters 0, 1, 2, ... that older versions of transformers stored.
  r'(vision_model\.)?embeddings\.position_ids',
)

_BLOCK = 'visual.transformer.resblocks.#'

LAYOUTS = (
  layouts.Layout(
    name='OpenAI',
    table={
      'cls_token': 'visual.class_embedding',
      'pos_embed': 'visual.positional_embedding',
      'patch_embed': 'visual.conv1',
      'norm_pre': 'visual.ln_pre',
      'block_#/norm1': f'{_BLOCK}.ln_1',
      'block_#/attn/qkv/kernel': f'{_BLOCK}.attn.in_proj_weight',
      'block_#/attn/qkv/bias': f'{_BLOCK}.attn.in_proj_bias',
      'block_#/attn/proj': f'{_BLOCK}.attn.out_proj',
      'block_#/norm2': f'{_BLOCK}.ln_2',
      'block_#/mlp/fc1': f'{_BLOCK}.mlp.c_fc',
      'block_#/mlp/fc2': f'{_BLOCK}.mlp.c_proj',
      'norm': 'visual.ln_post',
    },
    unused=(
      r'visual\.proj',
      r'transformer\..*',
      r'ln_final\..*',
      r'token_embedding\.weight',
      r'positional_embedding|text_projection|logit_scale',
      # Only in the TorchScript archives.
      r'input_resolution|context_length|vocab_size',
    ),
  ),
  layouts.Layout(
    name='Hugging Face',
    table=HUGGING_FACE_NAMES,
    prefixes=('vision_model.', ''),
    unused=HUGGING_FACE_UNUSED,
  ),
)
